"""The metrics that a task may have: the only definition of each in the project.

Of several targets a metric is the mean over them: `rmse` is then what competitions call MCRMSE.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data_prep.scoring.class_metrics import (
    LEAST_PROBABILITY,
    MAP_SIZES,
    macro_f1,
    map_at,
    multiclass_accuracy,
    multiclass_log_loss,
)

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


def kendall(target: ArrayLike, prediction: ArrayLike) -> float:
    """Kendall's tau-b in [-1, 1]: how much more often two rows are in the right order than in the wrong one."""
    from scipy.stats import kendalltau  # noqa: PLC0415 - slow to import

    return float(kendalltau(*_pair(target, prediction)).statistic)


def rmse(target: ArrayLike, prediction: ArrayLike) -> float:
    """Root mean squared error, in the unit of the target."""
    return float(np.sqrt(mse(target, prediction)))


def mse(target: ArrayLike, prediction: ArrayLike) -> float:
    """Mean squared error."""
    x, y = _pair(target, prediction)
    return float(np.mean((x - y) ** 2))


def mae(target: ArrayLike, prediction: ArrayLike) -> float:
    """Mean absolute error, in the unit of the target."""
    x, y = _pair(target, prediction)
    return float(np.mean(np.abs(x - y)))


def medae(target: ArrayLike, prediction: ArrayLike) -> float:
    """Median absolute error, in the unit of the target."""
    x, y = _pair(target, prediction)
    return float(np.median(np.abs(x - y)))


def r2(target: ArrayLike, prediction: ArrayLike) -> float:
    """Share of the target's variance that is explained, 1 at best; NaN when the target is constant."""
    x, y = _pair(target, prediction)
    variance = float(np.mean((x - x.mean()) ** 2))
    return 1.0 - float(np.mean((x - y) ** 2)) / variance if variance > 0.0 else float("nan")


def log_loss(target: ArrayLike, prediction: ArrayLike) -> float:
    """Cross-entropy of targets in [0, 1] and predicted probabilities, kept away from 0 and 1 by `LEAST_PROBABILITY`."""
    return float(np.mean(log_losses(*_pair(target, prediction))))


def log_losses(target: NDArray[np.float64], prediction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cross-entropy of each row."""
    p = np.clip(prediction, LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY)
    return np.asarray(-(target * np.log(p) + (1.0 - target) * np.log1p(-p)))


def auc(target: ArrayLike, prediction: ArrayLike) -> float:
    """Area under the ROC curve: how often a row of the greater target has the greater prediction; ties count half.

    NaN when there are not exactly two target values.
    """
    x, y = _pair(target, prediction)
    values = np.unique(x)
    if len(values) != 2 or np.isnan(x).any() or np.isnan(y).any():
        return float("nan")
    positive = x == values[1]
    n = int(positive.sum())
    return float((average_ranks(y)[positive].sum() - n * (n + 1) / 2) / (n * (len(x) - n)))


def average_precision(target: ArrayLike, prediction: ArrayLike) -> float:
    """Mean over rows of the greater target of the precision at their prediction; NaN without two target values."""
    x, y = _pair(target, prediction)
    values = np.unique(x)
    if len(values) != 2 or np.isnan(x).any() or np.isnan(y).any():
        return float("nan")
    order = np.argsort(-y, kind="stable")
    last = np.append(np.flatnonzero(np.diff(y[order])), len(y) - 1)  # the last row of each run of equal predictions
    hits = np.cumsum(x[order] == values[1])[last]
    return float(np.sum(np.diff(hits, prepend=0) * hits / (last + 1)) / hits[-1])


def accuracy(target: ArrayLike, decision: ArrayLike) -> float:
    """Share of rows whose level is the target."""
    x, y = _pair(target, decision)
    return float("nan") if np.isnan(x).any() or np.isnan(y).any() else float(np.mean(x == y))


def f1(target: ArrayLike, decision: ArrayLike) -> float:
    """Harmonic mean of precision and recall, for targets and decisions 0 or 1; NaN when neither has a 1."""
    x, y = _pair(target, decision)
    size = float(x.sum() + y.sum())
    return 2.0 * float(x @ y) / size if size > 0.0 else float("nan")


def qwk(target: ArrayLike, decision: ArrayLike) -> float:
    """Cohen's kappa with quadratic weights, of level numbers: 1 at best, 0 by chance; NaN when both are constant.

    The squared distance of target and decision, relative to that of independent ones with the same distributions.
    """
    x, y = _pair(target, decision)
    chance = float(np.mean(x**2) + np.mean(y**2) - 2.0 * x.mean() * y.mean())
    return 1.0 - float(np.mean((x - y) ** 2)) / chance if chance > 1e-15 else float("nan")


def _pair(target: ArrayLike, prediction: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x = np.asarray(target, dtype=np.float64)
    y = np.asarray(prediction, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1 or x.size == 0:
        raise ValueError(f"a metric takes two non-empty vectors of equal length, got {x.shape} and {y.shape}")
    return x, y


class Targets(StrEnum):
    """What the targets of a metric must be."""

    NUMBERS = "numbers"
    PROBABILITIES = "numbers from 0 to 1"
    LEVELS = "levels"
    TWO_LEVELS = "two levels"
    CLASSES = "classes"


@dataclass(frozen=True)
class Metric:
    """A metric by name, with its direction and the targets that it is made for."""

    name: str
    measure: Callable[[ArrayLike, ArrayLike], float]
    """Of targets and predictions; with `decides`, of level numbers (0, 1, ...) and decided level numbers."""
    greater_is_better: bool
    is_correlation: bool = False
    """Whether it lies in [-1, 1] with chance at 0, whatever the predictions' level and scale."""
    targets: Targets = Targets.NUMBERS
    decides: bool = False
    """Whether it compares levels, so that a prediction must first become the nearest one."""
    scale_free: bool = False
    """Whether only the order of predictions, or they up to level and scale, matter."""
    levels: tuple[float, ...] = ()
    """The task's legal scores, ascending, for a metric that decides; none: those among the targets."""
    n_classes: int = 1
    """Successive numbers that belong to one row: of a metric of classes, as many as there are."""

    def __call__(self, target: ArrayLike, prediction: ArrayLike) -> float:
        """Return the metric of `prediction` against `target`, the truth, both [rows].

        Of several targets [rows, targets] it is the mean over them, each on the rows where the target is not NaN. A
        metric of classes takes [rows, classes], or the same numbers row after row.
        """
        if self.targets is Targets.CLASSES:
            return self.measure(*(np.reshape(values, (-1, self.n_classes)) for values in (target, prediction)))
        if np.ndim(target) == 2:
            return float(np.mean(self.of_each(target, prediction)))
        if not self.decides:
            return self.measure(target, prediction)
        x, y = _pair(target, prediction)
        levels = np.asarray(self.levels or np.unique(x))
        return self.measure(level_numbers(x, midpoints(levels)), level_numbers(y, midpoints(levels)))

    def of_each(self, targets: ArrayLike, predictions: ArrayLike) -> list[float]:
        """Return the metric of each of several targets, [rows, targets] both; rows without a target do not count."""
        x, y = np.asarray(targets, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
        known = ~np.isnan(x)
        pairs = [(x[rows, place], y[rows, place]) for place, rows in enumerate(known.T)]
        return [self(*pair) if pair[0].size else float("nan") for pair in pairs]

    def utility(self, value: float) -> float:
        """Turn a value of this metric into one where more is better."""
        return value if self.greater_is_better else -value

    def for_levels(self, levels: Sequence[float] | None) -> "Metric":
        """Return the metric for a task with these legal scores."""
        return replace(self, levels=tuple(levels or ())) if self.decides else self

    def for_classes(self, n_classes: int) -> "Metric":
        """Return the metric for a task with so many classes."""
        return replace(self, n_classes=n_classes)

    def target_fault(self, levels: Sequence[float] | None, limits: tuple[float, float]) -> str | None:
        """Return what is wrong with a task's legal scores for this metric; None: nothing."""
        if self.targets is Targets.CLASSES:
            return f"metric {self.name} needs classes"
        if self.targets is Targets.PROBABILITIES and not (limits[0] >= 0.0 and limits[1] <= 1.0):
            return f"metric {self.name} needs scores from 0 to 1, got {limits[0]:g} to {limits[1]:g}"
        if self.targets is Targets.LEVELS and levels is None:
            return f"metric {self.name} needs score_levels, the legal scores"
        if self.targets is Targets.TWO_LEVELS and (levels is None or len(levels) != 2):
            return f"metric {self.name} needs score_levels with two scores, got {0 if levels is None else len(levels)}"
        return None


def midpoints(levels: ArrayLike) -> NDArray[np.float64]:
    """Return the cut points [levels - 1] that give each prediction the nearest of `levels`, ascending."""
    values = np.asarray(levels, dtype=np.float64)
    return np.asarray((values[1:] + values[:-1]) / 2)


def level_numbers(prediction: ArrayLike, cuts: ArrayLike) -> NDArray[np.float64]:
    """Return the number of each prediction's level: how many of the ascending `cuts` it reaches; NaN stays NaN."""
    values = np.asarray(prediction, dtype=np.float64)
    return np.where(np.isnan(values), np.nan, np.searchsorted(np.asarray(cuts), values, side="right"))


_ALL = (
    Metric("pearson", pearson, greater_is_better=True, is_correlation=True, scale_free=True),
    Metric("spearman", spearman, greater_is_better=True, is_correlation=True, scale_free=True),
    Metric("kendall", kendall, greater_is_better=True, is_correlation=True, scale_free=True),
    Metric("rmse", rmse, greater_is_better=False),
    Metric("mse", mse, greater_is_better=False),
    Metric("mae", mae, greater_is_better=False),
    Metric("medae", medae, greater_is_better=False),
    Metric("r2", r2, greater_is_better=True),
    Metric("log_loss", log_loss, greater_is_better=False, targets=Targets.PROBABILITIES),
    Metric("auc", auc, greater_is_better=True, targets=Targets.TWO_LEVELS, scale_free=True),
    Metric("average_precision", average_precision, greater_is_better=True, targets=Targets.TWO_LEVELS, scale_free=True),
    Metric("accuracy", accuracy, greater_is_better=True, targets=Targets.LEVELS, decides=True),
    Metric("f1", f1, greater_is_better=True, targets=Targets.TWO_LEVELS, decides=True),
    Metric("qwk", qwk, greater_is_better=True, targets=Targets.LEVELS, decides=True),
    Metric("multiclass_log_loss", multiclass_log_loss, greater_is_better=False, targets=Targets.CLASSES),
    Metric("multiclass_accuracy", multiclass_accuracy, greater_is_better=True, targets=Targets.CLASSES),
    Metric("macro_f1", macro_f1, greater_is_better=True, targets=Targets.CLASSES),
    *(
        Metric(f"map@{most}", partial(map_at, most), greater_is_better=True, targets=Targets.CLASSES)
        for most in MAP_SIZES
    ),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
