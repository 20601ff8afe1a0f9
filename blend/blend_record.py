"""`Blend`: names, weights and the evidence for them, as kept in `blend.json`."""

from pydantic import BaseModel, ConfigDict

from data_prep.scoring.combination import Combination


class FrozenRecord(BaseModel):
    """Base of every part of a `Blend`: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ComparisonRecord(FrozenRecord):
    """A paired difference of nested fold-mean utility (positive: the blend, or what is compared, is better)."""

    against: str
    difference: float
    standard_error: float
    """From a bootstrap over groups."""
    low: float
    """End of the bootstrap's interval of 95 %."""
    high: float
    is_noise: bool
    """The difference is within two standard errors."""


class SpreadRecord(FrozenRecord):
    """A member's weight over bootstrap draws of groups, exact optimum in each."""

    mean: float
    low: float
    """5 % of the draws are lower."""
    high: float
    """5 % of the draws are higher."""
    present: float
    """Share of the draws in which the member has any weight."""


class MemberRecord(FrozenRecord):
    """A member with its weight, and what it is to the blend."""

    candidate: str
    label: str
    family: str
    run: str
    weight: float
    """Weight of the scaled column; all weights sum to 1."""
    fold_mean: float
    """Mean over folds of the metric of the raw predictions: the candidate's score."""
    pooled: float
    nested_weights: tuple[float, ...]
    """The weight when fold 0, 1, ... was left out; 0 where it was not chosen then."""
    resampled: SpreadRecord
    drop_cost: ComparisonRecord | None
    """What the nested score loses without it; None for a single member."""
    retried: tuple[int, ...] = ()
    """Folds that died once and were trained again with another seed and lower rates."""


class SearchRecord(FrozenRecord):
    """How the search for weights went."""

    converged: bool
    evaluations: int
    restarts: int


class CertificateRecord(FrozenRecord):
    """The method's Pearson beside the exact optimum over non-negative weights, both pooled and in-sample."""

    pearson: float
    exact: float
    gap: float
    """exact - pearson; never negative beyond rounding."""


class MetricRecord(FrozenRecord):
    """The task's metric: mean over folds, pooled, and fold by fold."""

    fold_mean: float
    pooled: float
    folds: tuple[float, ...]


class ExpectationRecord(FrozenRecord):
    """The score to expect on test rows, whose predictions are means over fold models (see `expected_test`)."""

    value: float
    standard_error: float
    low: float
    """End of the interval of 95 %, for the score that the test rows will give."""
    high: float
    averaged_out: float
    """Standard deviation that the mean over fold models takes away, on the scale of the score."""


class EvidenceRecord(FrozenRecord):
    """Every score of one way to predict."""

    in_sample: MetricRecord
    nested: MetricRecord
    """Everything that is chosen was chosen without the fold that is scored."""
    expected: ExpectationRecord | None
    """None where fold models differ more on test rows than on train rows they could: test is of another kind."""
    holdout: float | None
    """On holdout rows, whose predictions are means over folds as the test's are; None where there are none."""


class MethodRecord(FrozenRecord):
    """One way to find weights for the same members."""

    calibration: str
    in_sample: MetricRecord
    nested: MetricRecord
    behind: ComparisonRecord
    """Against the best nested score of all methods: the difference is 0 or less."""


class CalibrationRecord(FrozenRecord):
    """One way to bring members onto a common scale."""

    nested: MetricRecord
    behind: ComparisonRecord
    """Against the best nested score of all calibrations."""


class StepRecord(FrozenRecord):
    """One number of members, at its best on the elimination path."""

    n_members: int
    score: float
    """Nested mean over folds, exact weights."""
    behind: float
    standard_error: float


class SubmissionRecord(FrozenRecord):
    """The file that was written beside the record."""

    file: str
    sha256: str
    rows: int
    clipped: int
    """Predictions that were moved to the nearest legal score."""


class Blend(FrozenRecord):
    """Names, weights and the evidence for them.

    All numbers of `combination` come from out-of-fold rows; test predictions are means over a member's folds.
    """

    name: str
    method: str
    calibration: str
    metric: str
    data: str
    data_hash: str
    split_hash: str
    mixed_splits: bool
    """Some candidate was trained on another split, or on nobody knows which: nested scores can flatter."""
    version: str
    seed: int
    """Of the bootstrap."""
    members: tuple[MemberRecord, ...]
    combination: Combination
    """What it computes, before clipping; parts in the order of `members`."""
    clip: bool
    """Whether predictions beyond the task's range are moved to the nearest legal score."""
    search: SearchRecord
    certificate: CertificateRecord | None
    """None where the metric is neither Pearson nor settled by it, and with weights of free sign."""
    scores: dict[str, EvidenceRecord]
    """`blend`, `best_single` (the best candidate) and `mean` (equal weights of all standardised candidates)."""
    methods: dict[str, MethodRecord]
    calibrations: dict[str, CalibrationRecord]
    """Those that the calibration was chosen from; empty where it was given."""
    path: tuple[StepRecord, ...]
    """Numbers of members that were tried; empty where the members were given."""
    error_correlations: tuple[tuple[float, ...], ...]
    """[members, members]"""
    comparisons: tuple[ComparisonRecord, ...]
    """The nested blend against something simpler."""
    previous: ComparisonRecord | None
    """Against the blend that was fitted before, where there is one."""
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    """What a person should know of the candidates."""
    submission: SubmissionRecord
