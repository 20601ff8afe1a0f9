"""The metrics that a task may have: the only definition of each in the project."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

DEAD_BELOW = 0.05
"""A model whose correlation on a fold is below this learned nothing there."""


def pearson(target: ArrayLike, prediction: ArrayLike) -> float:
    """Pearson correlation in [-1, 1]; NaN when either side is constant or holds a NaN."""
    x, y = _pair(target, prediction)
    if x.min() == x.max() or y.min() == y.max():  # the mean of equal values may differ from them in the last bit
        return float("nan")
    x = x - x.mean()
    y = y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    if not scale > 0.0:
        return float("nan")
    return float(x @ y) / scale


def spearman(target: ArrayLike, prediction: ArrayLike) -> float:
    """Rank correlation in [-1, 1]: Pearson of average ranks; NaN when either side is constant or holds a NaN."""
    x, y = _pair(target, prediction)
    if np.isnan(x).any() or np.isnan(y).any():
        return float("nan")
    return pearson(average_ranks(x), average_ranks(y))


def average_ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Return the rank of each value, from 1; equal values share the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[place])


def rmse(target: ArrayLike, prediction: ArrayLike) -> float:
    """Root mean squared error, in the unit of the target; smaller is better."""
    x, y = _pair(target, prediction)
    return float(np.sqrt(np.mean((x - y) ** 2)))


def _pair(target: ArrayLike, prediction: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x = np.asarray(target, dtype=np.float64)
    y = np.asarray(prediction, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1 or x.size == 0:
        raise ValueError(f"a metric takes two non-empty vectors of equal length, got {x.shape} and {y.shape}")
    return x, y


@dataclass(frozen=True)
class Metric:
    """A metric by name, with its direction."""

    name: str
    measure: Callable[[ArrayLike, ArrayLike], float]
    greater_is_better: bool
    is_correlation: bool
    """Whether it lies in [-1, 1] with chance at 0."""

    def __call__(self, target: ArrayLike, prediction: ArrayLike) -> float:
        """Return the metric of `prediction` against `target`, the truth, both [rows]."""
        return self.measure(target, prediction)

    def utility(self, value: float) -> float:
        """Turn a value of this metric into one where more is better."""
        return value if self.greater_is_better else -value


METRICS: dict[str, Metric] = {
    "pearson": Metric("pearson", pearson, greater_is_better=True, is_correlation=True),
    "spearman": Metric("spearman", spearman, greater_is_better=True, is_correlation=True),
    "rmse": Metric("rmse", rmse, greater_is_better=False, is_correlation=False),
}
