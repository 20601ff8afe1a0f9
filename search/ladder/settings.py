"""`LadderSettings`: the settings of the fold ladder, `ladder:` in a study file."""

from typing import Self

from pydantic import ConfigDict, Field, model_validator

from data_prep.frozen_record import FrozenSettings
from data_prep.scoring.metrics import DEAD_BELOW, Metric


class LadderSettings(FrozenSettings):
    """What the rules compare with. A utility is a metric value where more is better: rmse gets a minus sign."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    enabled: bool = True
    """False: every candidate runs all folds; only runs that fail to learn are stopped."""
    eta: float = Field(default=3.0, gt=1)
    """About one in `eta` of a family is promoted after fold 0."""
    rung_eta: float = Field(default=2.0, gt=1)
    """At a rung the best one in `rung_eta` of a family is safe; lower than `eta`, because learning curves cross."""
    rungs: tuple[float, ...] = (0.4, 0.6)
    """Shares of a run's own schedule, ascending in (0, 1), at which runs of the same fold are compared."""
    rung_folds: tuple[int, ...] = (0,)
    """Folds on which rungs may cut; on later folds most of the cost is paid, and a cut loses candidates to noise."""
    min_peers: int = Field(default=3, ge=1)
    """Other runs of the family that must have passed a rung before anyone is cut there."""
    noise: float = Field(default=0.005, ge=0)
    """Prior of the noise band, in metric units: standard deviation over folds of the difference of two candidates.

    26 experiments of a PPPM contestant on the same five folds show .0052.
    """
    prior_folds: float = Field(default=4.0, gt=0)
    """Weight of that prior, in degrees of freedom; finished folds add theirs."""
    growth: float = Field(default=0.005, ge=0)
    """Prior standard deviation, in metric units, of what a run gains between a rung and the end of its fold.

    It has the weight `prior_folds`, too. A run is cut only if it is more than `z` such deviations behind.
    """
    kept_families: int = Field(default=3, ge=0)
    """Number of families, best first by fold 0, whose best candidates are promoted even far behind the leader."""
    family_quota: int = Field(default=1, ge=0)
    """Candidates of each such family."""
    promote_early: bool = False
    """Promote the best while new candidates are still to come; otherwise every candidate starts first.

    Early promotion completes candidates sooner and spends more, on those that later ones surpass.
    """
    min_gain: float = Field(default=0.0005, ge=0)
    """Rise of the blend's Pearson, out of sample, that is worth a candidate whatever its own score."""
    z: float = Field(default=2.0, ge=0)
    """Standard errors that a candidate may be behind the leader, from fold 0 on."""
    dead_below: float | None = DEAD_BELOW
    """A run below this utility failed to learn; None: only one that predicts NaN or a constant did.

    The default is for correlations, where .05 is next to chance. With another metric, a study that does not set
    `dead_below` runs with None (see `for_metric`).
    """

    @model_validator(mode="after")
    def _check(self) -> Self:
        inside = all(0 < rung < 1 for rung in self.rungs)
        if not inside or any(low >= high for low, high in zip(self.rungs, self.rungs[1:], strict=False)):
            raise ValueError(f"rungs must ascend strictly inside (0, 1), found {list(self.rungs)}")
        if any(fold < 0 for fold in self.rung_folds):
            raise ValueError(f"rung_folds are numbers of folds, from 0, found {list(self.rung_folds)}")
        return self

    def for_metric(self, metric: Metric) -> "LadderSettings":
        """Return the settings for a task's metric: the default of `dead_below` holds for correlations only."""
        if metric.is_correlation or "dead_below" in self.model_fields_set:
            return self
        return self.model_copy(update={"dead_below": None})
