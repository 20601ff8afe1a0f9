"""What a blend is expected to score on test rows.

Out-of-fold predictions come from one fold model each, test predictions are means over all K of them. On a row that none
of the models has seen, write the blend's prediction by fold model k as B_k. Its covariance with the score is that of
the mean over k, but its variance is larger: for models that are alike in distribution

    var(mean over k of B_k) = var(B_k) - (1 - 1/K) v,      v = mean over rows of the variance over k of B_k

(unbiased, divisor K - 1). The fold models' predictions for the test rows themselves show v, so nothing is assumed about
how they differ. Hence, with moments of the pooled nested predictions,

    expected Pearson = cov(score, B) / sqrt(var(score) (var(B) - (1 - 1/K) v))
    expected rmse^2  = nested rmse^2 - (1 - 1/K) v

for a single member as for a blend: a member gains from the mean over folds, too, so less of a blend's gain out of fold
arrives on test. Spearman is taken to change in the ratio in which Pearson does. What is not covered: test rows of
another kind than the train rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.scoring.combination import Floats
from data_prep.scoring.group_bootstrap import GroupBootstrap
from data_prep.scoring.metrics import Metric


@dataclass(frozen=True)
class ExpectedOnTest:
    """A score to expect on test, and its noise."""

    value: float
    standard_error: float
    """Of the score that the test rows will give: of the estimate, and of scoring so few groups as test has."""
    low: float
    """End of the interval of 95 %."""
    high: float
    averaged_out: float
    """Standard deviation that the mean over fold models takes away, on the scale of the score."""


def variance_removed(fold_models: Sequence[Floats]) -> float:
    """Return (1 - 1/K) v, summed over sets of models that were trained on different splits.

    Args:
        fold_models: for each split, predictions [K, rows] of what its members contribute, by fold model.
    """
    removed = 0.0
    for predictions in fold_models:
        n_models = len(predictions)
        if n_models > 1:
            removed += (1.0 - 1.0 / n_models) * float(predictions.var(axis=0, ddof=1).mean())
    return removed


def expect(
    prediction: Floats,
    removed: float,
    *,
    target: Floats,
    group: NDArray[np.int32],
    metric: Metric,
    test_groups: int,
    seed: int = 0,
) -> ExpectedOnTest | None:
    """Return the score to expect on test; None where fold models differ on test rows more than the moments allow.

    That is so when the score would be perfect: the test rows are then of another kind than the train rows.

    Args:
        prediction: nested, on the scale of the score, [rows].
        removed: variance that the mean over fold models takes away on test rows (`variance_removed`).
        target: [rows].
        group: [rows].
        metric: of the task.
        test_groups: groups that the test rows are in; as many as rows where they are in none.
        seed: of the bootstrap.
    """
    if not _possible(prediction, removed, target):
        return None
    whole = np.zeros(len(target), dtype=np.int8)
    draws = GroupBootstrap(target, whole, group, metric, seed=seed).draws(
        prediction[:, None], None if metric.name == "spearman" else lambda sums: _expected(sums, removed, metric.name)
    )
    raised = _raised(prediction, removed) if metric.name == "spearman" else 1.0
    value = metric.utility(float(draws.value[0])) * raised
    n_groups = len(np.unique(group))
    error = float(np.nanstd(draws.drawn[0], ddof=1)) * float(np.sqrt(1.0 + n_groups / test_groups))
    most = 1.0 if metric.is_correlation else np.inf
    return ExpectedOnTest(
        value=value,
        standard_error=error,
        low=value - 1.96 * error,
        high=min(value + 1.96 * error, most),
        averaged_out=float(np.sqrt(removed)),
    )


def _possible(prediction: Floats, removed: float, target: Floats) -> bool:
    """Tell whether the mean over fold models leaves variance enough for its covariance with the score."""
    left = float(prediction.var()) - removed
    covariance = float((prediction - prediction.mean()) @ (target - target.mean())) / len(target)
    return left > 0.0 and covariance**2 < left * float(target.var())


def _raised(prediction: Floats, removed: float) -> float:
    """Return the ratio in which the mean over fold models raises Pearson."""
    variance = float(prediction.var())
    return float(np.sqrt(variance / (variance - removed)))


def _expected(sums: Floats, removed: float, metric: str) -> Floats:
    """Return expected utilities [...] from sums [..., 6] of score and prediction (see `group_bootstrap`)."""
    count, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    if metric == "rmse":
        return np.asarray(-np.sqrt(np.maximum((xx - 2.0 * xy + yy) / count - removed, 0.0)))
    variance = yy - y * y / count - count * removed
    variance = np.where(variance > 0.0, variance, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((xy - x * y / count) / np.sqrt((xx - x * x / count) * variance))
