"""The objective of a weight search: the metric of the weighted sum of columns.

Pearson of a weighted sum needs only the moments of the columns, so a weight vector costs O(m^2) for m columns, however
many rows there are. After the least-squares line onto the target, rmse^2 = var(target) (1 - r^2): the least rmse has
the greatest Pearson, and the same moments serve both. Other metrics are measured on the rows.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from blend.members.moment_sums import MomentSums, measure, total
from data_prep.scoring.combination import Floats
from data_prep.scoring.metrics import Metric
from data_prep.scoring.moments import pearson_of

MOMENT_METRICS = ("pearson", "rmse")
"""Metrics whose best weights are those with the greatest Pearson."""


class Objective(ABC):
    """The utility (more is better) of weights; minus infinity if their sum is constant; `parts` are sums by fold."""

    tolerance: float
    """A gain in utility below this does not justify another evaluation."""

    def __init__(self, parts: Sequence[MomentSums]) -> None:
        self.parts = parts
        self.moments = total(parts).centred

    @abstractmethod
    def of(self, columns: Sequence[int]) -> "Objective":
        """Return the utility of weights of some of the columns alone, in the order given."""

    @abstractmethod
    def __call__(self, weights: Floats) -> float:
        """Return the utility of `weights` [columns]."""

    def many(self, weights: Floats) -> Floats:
        """Return the utilities [k] of k weight vectors, `weights` [k, columns]."""
        return np.array([self(row) for row in weights])


class PearsonOnMoments(Objective):
    """Pearson of the weighted sum, from moments."""

    tolerance = 1e-9

    def of(self, columns: Sequence[int]) -> "PearsonOnMoments":
        """Return the same for some of the columns."""
        return PearsonOnMoments([part.of(columns) for part in self.parts])

    def __call__(self, weights: Floats) -> float:
        """Return Pearson of one weight vector."""
        value = pearson_of(self.moments, weights)
        return -np.inf if math.isnan(value) else value

    def many(self, weights: Floats) -> Floats:
        """Return Pearson of each row of `weights`."""
        variance = np.einsum("km,km->k", weights @ self.moments.gram, weights) * self.moments.square
        varies = variance > 0.0
        return np.where(varies, weights @ self.moments.cross / np.sqrt(np.where(varies, variance, 1.0)), -np.inf)


class MetricOnRows(Objective):
    """Any metric of the weighted sum, measured on the rows."""

    tolerance = 1e-6

    def __init__(self, columns: Floats, target: Floats, metric: Metric, parts: Sequence[MomentSums]) -> None:
        super().__init__(parts)
        self._columns, self._target, self._metric = columns, target, metric

    def of(self, columns: Sequence[int]) -> "MetricOnRows":
        """Return the same for some of the columns."""
        parts = [part.of(columns) for part in self.parts]
        return MetricOnRows(self._columns[:, list(columns)], self._target, self._metric, parts)

    def __call__(self, weights: Floats) -> float:
        """Return the utility of one weight vector."""
        value = self._metric.utility(self._metric(self._target, self._columns @ weights))
        return value if np.isfinite(value) else -np.inf


def objective_of(metric: Metric, parts: Sequence[MomentSums], rows: Callable[[], tuple[Floats, Floats]]) -> Objective:
    """Return the objective, on moments if the metric allows, else on `rows`: [rows, columns] and target [rows]."""
    if metric.name in MOMENT_METRICS:
        return PearsonOnMoments(parts)
    return MetricOnRows(*rows(), metric, parts)


def objective_for(metric: Metric, columns: Floats, target: Floats, fold: NDArray[np.int8]) -> Objective:
    """Return the objective for `columns` [rows, columns], rows in `fold` [rows]."""
    parts = [measure(columns[fold == k], target[fold == k]) for k in np.unique(fold)]
    return objective_of(metric, parts, lambda: (columns, target))
