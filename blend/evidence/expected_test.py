"""The metric to expect on test rows.

An out-of-fold prediction comes from one fold model, a test prediction is the mean over all K of them. On a row that no
model was trained on, let B_k be the blend's prediction by fold model k. Its covariance with the target is that of the
mean over k, but its variance is larger: for models that are alike in distribution

    var(mean over k of B_k) = var(B_k) - (1 - 1/K) v,      v = mean over rows of the variance over k of B_k

(unbiased, divisor K - 1). v is measured on the fold models' test predictions. With moments of the pooled
nested predictions,

    expected Pearson = cov(target, B) / sqrt(var(target) (var(B) - (1 - 1/K) v))
    expected rmse^2  = nested rmse^2 - (1 - 1/K) v

for a single member as for a blend: a member gains from averaging too, so a blend gains less on test rows than out of
fold. What `RANKED` metrics exceed chance by is assumed to change in proportion to Pearson; to other metrics nothing is
added. The interval has half the degrees of freedom of its groups, because a mean of squares over few of them is skewed
(`benchmarks/bench_intervals.py`). Not covered: test rows that differ in kind from the train rows.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from blend.blend_record import ExpectationRecord
from data_prep.scoring.combination import Floats
from data_prep.scoring.group_bootstrap import DrawnUtilities, GroupBootstrap, reach_95, standard_error
from data_prep.scoring.metrics import Metric

TINY = float(np.finfo(np.float64).tiny)
RANKED = {"spearman": 0.0, "auc": 0.5}
"""Metrics of ranks, and what they are by chance."""


def variance_removed(fold_models: Sequence[Floats]) -> float:
    """Return (1 - 1/K) v, summed over splits; for each, what its members contribute by fold model, [K, rows]."""
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
) -> ExpectationRecord | None:
    """Return the metric to expect on test rows; None where Pearson would be 1 or more: they differ in kind from train.

    None, too, where there are no test rows.

    `prediction` [rows] is nested, `removed` comes from `variance_removed` on test rows, and `test_groups` is the number
    of their groups, or of rows if they have no groups.
    """
    if not test_groups or not _possible(prediction, removed, target):
        return None
    whole = np.zeros(len(target), dtype=np.int8)
    bootstrap = GroupBootstrap(target, whole, group, metric, seed=seed)
    exact = metric.name in ("pearson", "rmse", "mse", "r2")
    draws = bootstrap.draws(
        prediction[:, None], (lambda sums: _expected(sums, removed, metric.name)) if exact else None
    )
    value = metric.utility(float(draws.value[0]))
    if metric.name in RANKED:
        chance = RANKED[metric.name]
        value = min(chance + (value - chance) * _raised(prediction, removed), 1.0)
    return expectation(value, draws, metric, test_groups=test_groups, averaged_out=float(np.sqrt(removed)))


def expectation(
    value: float, draws: DrawnUtilities, metric: Metric, *, test_groups: int, averaged_out: float
) -> ExpectationRecord:
    """Return the interval about an expected `value` whose noise is that of the first of `draws`."""
    both = float(np.sqrt(1.0 + draws.n_groups / test_groups))  # noise of the train groups and of the test groups
    reach = reach_95(max((draws.n_groups + 1) / 2, 2.0)) * both
    error = standard_error(draws.drawn[0], draws.n_groups)
    low, high = value - reach * error, min(value + reach * error, 1.0)
    if not metric.greater_is_better:  # errors spread in proportion to their size
        factor = float(np.exp(reach * standard_error(np.log(np.maximum(-draws.drawn[0], TINY)), draws.n_groups)))
        low, high = value / factor, value * factor
    return ExpectationRecord(value=value, standard_error=error * both, low=low, high=high, averaged_out=averaged_out)


def _possible(prediction: Floats, removed: float, target: Floats) -> bool:
    """Tell whether the variance that is left is large enough for the covariance with the target."""
    left = float(prediction.var()) - removed
    covariance = float((prediction - prediction.mean()) @ (target - target.mean())) / len(target)
    return left > 0.0 and covariance**2 < left * float(target.var())


def _raised(prediction: Floats, removed: float) -> float:
    """Return the factor by which averaging the fold models raises Pearson."""
    variance = float(prediction.var())
    return float(np.sqrt(variance / (variance - removed)))


def _expected(sums: Floats, removed: float, metric: str) -> Floats:
    """Return expected utilities [...] from sums [..., 6] of target and prediction (see `group_bootstrap`)."""
    count, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    if metric != "pearson":
        error = np.maximum((xx - 2.0 * xy + yy) / count - removed, 0.0)
        return np.asarray(
            {"rmse": -np.sqrt(error), "mse": -error, "r2": 1.0 - error / (xx / count - (x / count) ** 2)}[metric]
        )
    variance = yy - y * y / count - count * removed
    variance = np.where(variance > 0.0, variance, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((xy - x * y / count) / np.sqrt((xx - x * x / count) * variance))
