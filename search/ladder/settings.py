"""`LadderSettings`: the thresholds of the fold ladder."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from data_prep.scoring.metrics import DEAD_BELOW, Metric


class LadderSettings(BaseModel):
    """Thresholds of the ladder; metric values are utilities (more is better)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    enabled: bool = True
    """False: every candidate runs all folds; only dead runs are stopped."""
    eta: float = Field(default=3.0, gt=1)
    """Reduction factor: about one in eta of a family goes on."""
    rung_eta: float = Field(default=2.0, gt=1)
    """At a rung one in `rung_eta` of a family is out of danger: more than go on in the end, since curves cross."""
    rungs: tuple[float, ...] = (0.4, 0.6)
    """Shares of a run's own schedule, ascending in (0, 1), at which runs of the same fold are compared."""
    rung_folds: tuple[int, ...] = (0,)
    """Folds on which rungs may cut; cutting on later folds loses candidates to noise after most was paid for them."""
    min_peers: int = Field(default=3, ge=1)
    """Peers of the family that must have been seen at a rung before anyone is cut there."""
    noise: float = Field(default=0.005, ge=0)
    """Prior of the noise band, in metric units: standard deviation over folds of the difference of two candidates.

    26 experiments of a PPPM contestant on the same five folds show .0052.
    """
    prior_folds: float = Field(default=4.0, gt=0)
    """Weight of that prior, in degrees of freedom; what the folds of the search itself show adds to it."""
    growth: float = Field(default=0.005, ge=0)
    """Prior standard deviation, in metric units, of what a run gains between a rung and the end of its fold.

    It has the weight of `prior_folds`, too. A run is cut only when it is more than `z` such deviations behind.
    """
    kept_families: int = Field(default=3, ge=0)
    """Families, in order of their best on fold 0, whose best go on to the later folds whatever the leader scores."""
    family_quota: int = Field(default=1, ge=0)
    """Candidates of each kept family that do so."""
    promote_early: bool = False
    """Whether the best go on while new candidates are still to come; else every candidate starts first.

    Early promotion gives complete candidates sooner and spends more, on those whom later ones surpass.
    """
    min_gain: float = Field(default=0.0005, ge=0)
    """Rise of the blend's Pearson, out of sample, that keeps a candidate whatever its own score."""
    z: float = Field(default=2.0, ge=0)
    """Standard errors of grace for a candidate behind the leader, from fold 0 on."""
    dead_below: float | None = DEAD_BELOW
    """A run below this utility is dead; None: only one that predicts NaN or a constant is.

    The default is for correlations, where .05 is next to chance. It says nothing of other metrics: for those a study
    that does not set `dead_below` runs with None (see `for_metric`).
    """

    @model_validator(mode="after")
    def _check(self) -> Self:
        inside = all(0 < rung < 1 for rung in self.rungs)
        if not inside or any(low >= high for low, high in zip(self.rungs, self.rungs[1:], strict=False)):
            raise ValueError(f"rungs must ascend strictly inside (0, 1), found {list(self.rungs)}")
        return self

    def for_metric(self, metric: Metric) -> "LadderSettings":
        """Return the settings for a task's metric: a `dead_below` that was not given counts for correlations only."""
        if metric.is_correlation or "dead_below" in self.model_fields_set:
            return self
        return self.model_copy(update={"dead_below": None})
