"""`BlendRecord`: names, weights and the evidence for them, stored as `blend.json`."""

from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from data_prep.frozen_record import FrozenRecord
from data_prep.scoring.combination import Combination

EARLIER_TABLES = ("calibration", "calibrations", "methods", "path")
"""What versions before the tournament recorded of their choices."""


class ComparisonRecord(FrozenRecord):
    """A paired difference of nested utility over all rows; positive: better than `against`."""

    against: str
    difference: float
    standard_error: float
    """From a bootstrap over groups."""
    low: float
    """Lower end of the 95 % interval."""
    high: float
    is_noise: bool
    """The 95 % interval holds zero."""


class SpreadRecord(FrozenRecord):
    """A member's weight over bootstrap draws of groups, with exact weights in each draw."""

    mean: float
    low: float
    """5 % of the draws are lower."""
    high: float
    """5 % of the draws are higher."""
    present: float
    """Share of the draws in which the member has any weight."""


class MemberRecord(FrozenRecord):
    """A member with its weight, and what it adds to the blend."""

    candidate: str
    label: str
    family: str
    run: str
    weight: float
    """Weight of the scaled column; all weights sum to 1. In a stacked blend, that in its linear part."""
    fold_mean: float
    """The candidate's metric: mean over folds, raw predictions."""
    pooled: float
    nested_weights: tuple[float, ...]
    """The weight when the first, second, ... unit (fold or group) was left out; 0 if it was not a member then."""
    resampled: SpreadRecord
    drop_cost: ComparisonRecord | None
    """How much worse the nested metric gets without it; None for a single member."""
    retried: tuple[int, ...] = ()
    """Folds that died once and were trained again with another seed and lower rates."""


class SearchRecord(FrozenRecord):
    """How the weight search went."""

    converged: bool
    evaluations: int
    restarts: int


class CertificateRecord(FrozenRecord):
    """The method's Pearson and the exact optimum over non-negative weights, both pooled and in-sample."""

    pearson: float
    exact: float
    gap: float
    """exact - pearson; never negative beyond rounding."""


class MetricRecord(FrozenRecord):
    """Values of the task's metric: mean over folds, pooled, and for each fold.

    In a fold where all predictions are equal it may be NaN; the mean leaves such folds out.
    """

    fold_mean: float
    pooled: float
    folds: tuple[float, ...]


class ExpectationRecord(FrozenRecord):
    """The metric to expect on test rows, whose predictions are means over fold models (see `expected_test`)."""

    value: float
    standard_error: float
    """Noise of the estimate, and of test having only so many groups."""
    low: float
    """Lower end of the 95 % interval for the metric that the test rows will give."""
    high: float
    averaged_out: float
    """Standard deviation that averaging the fold models removes, on the scale of the target."""


class EvidenceRecord(FrozenRecord):
    """The metric of one way to predict, on different rows."""

    in_sample: MetricRecord
    nested: MetricRecord
    """On rows that it was not fitted on: everything is chosen without the fold that is scored."""
    expected: ExpectationRecord | None
    """None where fold models differ on test rows more than is possible on rows like the train rows."""
    holdout: float | None
    """On holdout rows, whose predictions are means over fold models like the test's; None where there are none."""


class MakingRecord(FrozenRecord):
    """One way to make a blend of these candidates."""

    members: int
    in_sample: float
    nested: float
    behind: ComparisonRecord
    """Against the best, nested: the difference is 0 or less."""
    share: float = 0.0
    """In the consensus."""


class DriftRecord(FrozenRecord):
    """A quantity of a candidate's test predictions, beside what the others' test predictions suggest for it."""

    candidate: str
    quantity: str
    """`level` (mean), `spread` (standard deviation in groups) or `correlation` (with the mean of the others)."""
    group: str | None
    """Of test rows; None: all of them."""
    found: float
    expected: float
    """If it differed from the other candidates as it does out of fold."""
    excess: float
    """How far it is off, relative to the most that chance explains or that does not matter."""
    drifts: bool


class RowsRecord(FrozenRecord):
    """Train rows that were chosen."""

    chosen: tuple[str, ...]
    """As on the command line, such as `source=1`; none: all rows."""
    rows: int


class SubmissionRecord(FrozenRecord):
    """The submission file beside the record."""

    file: str
    sha256: str
    rows: int
    clipped: int
    """Predictions that were moved to the nearest legal score."""


class BlendRecord(FrozenRecord):
    """Names, weights and the evidence for them.

    All numbers of `combination` come from out-of-fold rows; a test prediction is the mean over a member's fold models.
    """

    name: str
    method: str
    """The making's name."""
    metric: str
    data: str
    data_hash: str
    split_hash: str
    mixed_splits: bool
    """A candidate was trained on another or an unknown split, so nested values can be too good."""
    version: str
    seed: int
    """Of the bootstrap."""
    members: tuple[MemberRecord, ...]
    combination: Combination
    """The blend as arithmetic, before clipping; parts in the order of `members`."""
    clip: bool
    """Whether predictions beyond the task's range move to the nearest legal score."""
    search: SearchRecord
    certificate: CertificateRecord | None
    """None where the squared error does not settle the metric, and with weights of free sign."""
    scores: dict[str, EvidenceRecord]
    """`blend`, `best_single` (the best candidate) and `mean` (equal weights of all standardized candidates)."""
    makings: dict[str, MakingRecord] = Field(default_factory=dict)
    """All that competed, by name, the best first."""
    optimism: float = 0.0
    """How much better the chosen making's own nested metric is than the blend's, whose choice is nested too."""
    price: ComparisonRecord | None = None
    """How much better, nested, the best is than what parsimony took; None: it was not asked for."""
    units: str = "folds"
    """What was left out: `folds`, or `groups` where there are few."""
    n_groups: int | None = None
    """Groups of train rows."""
    error_correlations: tuple[tuple[float, ...], ...]
    """[members, members]"""
    comparisons: tuple[ComparisonRecord, ...]
    """The nested blend against simpler predictions."""
    previous: ComparisonRecord | None
    """Against the blend that was fitted before, if there is one."""
    scored_rows: RowsRecord | None = None
    """The rows that all scores, and every choice between makings, stand on; None: all, as for the fit."""
    fitted_rows: RowsRecord | None = None
    """The rows that makings are fitted on."""
    left_out: tuple[str, ...]
    drift: tuple[DriftRecord, ...] = ()
    """How each candidate does on test rows, also those left out for it; on groups, where they drift."""
    notes: tuple[str, ...]
    """What a person should know about the candidates."""
    submission: SubmissionRecord | None
    """None for members without test predictions."""

    @property
    def by_target(self) -> "dict[str, BlendRecord]":
        """The blends by the name of their target; here one, without a name."""
        return {"": self}

    def with_submission(self, written: SubmissionRecord) -> "BlendRecord":
        """Return the record with that of its submission."""
        return self.model_copy(update={"submission": written})

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each member."""
        return {member.candidate: member.weight for member in self.members}

    @model_validator(mode="before")
    @classmethod
    def _leave_out_earlier_tables(cls, record: Any) -> Any:
        if not isinstance(record, dict):
            return record
        return {key: value for key, value in record.items() if key not in EARLIER_TABLES}

    @field_validator("scores")
    @classmethod
    def _in_reading_order(cls, scores: dict[str, EvidenceRecord]) -> dict[str, EvidenceRecord]:
        return in_reading_order(scores)

    @field_validator("makings")
    @classmethod
    def _best_first(cls, makings: dict[str, MakingRecord]) -> dict[str, MakingRecord]:
        """Order what a file has by name."""
        return dict(sorted(makings.items(), key=lambda entry: (-entry[1].behind.difference, entry[0])))

    @model_validator(mode="after")
    def _check(self) -> Self:
        if [member.candidate for member in self.members] != [part.candidate for part in self.combination.parts]:
            raise ValueError("members and parts of the combination are not of the same candidates")
        return self


class TargetsRecord(FrozenRecord):
    """The blends of several targets, one for each, and how good they are together: scores are means over targets."""

    name: str
    metric: str
    data: str
    data_hash: str
    split_hash: str
    version: str
    clip: bool
    targets: tuple[str, ...]
    """Their names."""
    blends: tuple[BlendRecord, ...]
    """One for each target."""
    scores: dict[str, EvidenceRecord]
    """`blend`, `best_single` (of each target, its best candidate) and `mean`."""
    comparisons: tuple[ComparisonRecord, ...]
    """The nested blends against simpler predictions; groups are drawn for all targets together."""
    submission: SubmissionRecord | None
    """None for members without test predictions."""

    @property
    def by_target(self) -> dict[str, BlendRecord]:
        """The blends by the name of their target."""
        return dict(zip(self.targets, self.blends, strict=True))

    def with_submission(self, written: SubmissionRecord) -> "TargetsRecord":
        """Return the record with that of its submission, which the blends of all targets share."""
        blends = tuple(blend.with_submission(written) for blend in self.blends)
        return self.model_copy(update={"submission": written, "blends": blends})

    @property
    def method(self) -> str:
        """That of all blends, or that they differ."""
        methods = {blend.method for blend in self.blends}
        return methods.pop() if len(methods) == 1 else "one for each target"

    @property
    def weights(self) -> dict[str, float]:
        """The mean weight over targets of each candidate that is a member of any blend, the greatest first."""
        total: dict[str, float] = {}
        for blend in self.blends:
            for candidate, weight in blend.weights.items():
                total[candidate] = total.get(candidate, 0.0) + weight / len(self.blends)
        return dict(sorted(total.items(), key=lambda entry: -entry[1]))

    @field_validator("scores")
    @classmethod
    def _in_reading_order(cls, scores: dict[str, EvidenceRecord]) -> dict[str, EvidenceRecord]:
        return in_reading_order(scores)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.targets) != len(self.blends):
            raise ValueError(f"there must be a blend for each of {len(self.targets)} targets, got {len(self.blends)}")
        return self


WholeRecord = BlendRecord | TargetsRecord
"""What `blend.json` holds."""


def in_reading_order(scores: dict[str, EvidenceRecord]) -> dict[str, EvidenceRecord]:
    """Return the scores of the blend and of what it is compared with, in the order in which they are shown."""
    return {name: scores[name] for name in ("blend", "best_single", "mean") if name in scores}
