"""`Blend`: names, weights and the evidence for them, as kept in `blend.json`."""

from pydantic import BaseModel, ConfigDict

from data_prep.combination import Combination


class Record(BaseModel):
    """Base of every part of a `Blend`: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MemberRecord(Record):
    """A member with its weight and scaling."""

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
    """The weight when fold 0, 1, ... was left out."""
    retried: tuple[int, ...] = ()
    """Folds that died once and were trained again with another seed and lower rates."""


class SearchRecord(Record):
    """How the search for weights went."""

    converged: bool
    evaluations: int
    restarts: int


class CertificateRecord(Record):
    """The method's Pearson beside the exact optimum over non-negative weights, both pooled and in-sample."""

    pearson: float
    exact: float
    gap: float
    """exact - pearson; never negative beyond rounding."""


class ScoreRecord(Record):
    """The task's metric: mean over folds, pooled, and fold by fold."""

    fold_mean: float
    pooled: float
    folds: tuple[float, ...]


class EvidenceRecord(Record):
    """Every score of one way to predict."""

    in_sample: ScoreRecord
    nested: ScoreRecord
    """Weights were fitted, the best member was picked, without the fold that is scored."""
    holdout: float | None
    """On holdout rows, whose predictions are means over folds as the test's are; None where there are none."""


class ComparisonRecord(Record):
    """The nested blend against something simpler: a paired difference of fold-mean utility (positive: better)."""

    against: str
    difference: float
    standard_error: float
    """From a bootstrap over groups."""
    is_noise: bool
    """The difference is within two standard errors."""


class SubmissionRecord(Record):
    """The file that was written beside the record."""

    file: str
    sha256: str
    rows: int
    clipped: int
    """Predictions that were moved to the nearest legal score."""


class Blend(Record):
    """Names, weights and the evidence for them.

    All numbers of `combination` come from out-of-fold rows; test predictions are means over a member's folds.
    """

    name: str
    method: str
    metric: str
    data: str
    data_hash: str
    split_hash: str
    mixed_splits: bool
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
    """None where the metric is neither Pearson nor settled by it."""
    scores: dict[str, EvidenceRecord]
    """`blend`, `best_single` (the best member) and `mean` (equal weights)."""
    comparisons: tuple[ComparisonRecord, ...]
    left_out: tuple[str, ...]
    submission: SubmissionRecord
