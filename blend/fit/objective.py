"""The objective of a weight search: what weights are worth, given what is fitted to their weighted sum afterwards.

The errors of a weighted sum, and its Pearson, follow from the moments of the columns, so a weight vector costs O(m^2)
for m columns, however many rows there are. After the least-squares line onto the target,
mse = var(target) (1 - r^2): the least error has the greatest Pearson. Other metrics are measured on the rows.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from blend.members.moment_sums import MomentSums, total
from data_prep.scoring.combination import Floats
from data_prep.scoring.metrics import Metric

MOMENT_METRICS = ("pearson", "rmse", "mse", "r2")
"""Metrics that follow from moments."""
ROW_EVALUATIONS = 1_000_000
"""A search on the rows may read about so many predictions of a weighted sum, but from 200 to 2,000 whole ones."""
LEAST_EVALUATIONS, MOST_EVALUATIONS = 200, 2_000


class Readout(StrEnum):
    """What is fitted to a weighted sum, to predict the target with it."""

    RAW = "raw"
    """Nothing."""
    INTERCEPT = "intercept"
    LINE = "line"
    """Slope and intercept, by least squares."""
    CUTS = "cuts"
    """The line, then cut points between the task's levels."""


class Objective(ABC):
    """The utility (more is better) of weights; minus infinity if their sum is useless; `parts` are sums of units."""

    has_optimum = False
    """Whether the exact non-negative optimum is the best there is."""
    tolerance: float
    """A gain in utility below this does not justify another evaluation."""
    evaluations: float = math.inf
    """As many, at most, are affordable."""

    def __init__(self, parts: Sequence[MomentSums], readout: Readout) -> None:
        self.parts, self.readout = parts, readout
        self.sums = total(parts)
        self.n_columns = len(self.sums.mean)

    @abstractmethod
    def of(self, columns: Sequence[int]) -> "Objective":
        """Return the utility of weights of some of the columns alone, in the order given."""

    @abstractmethod
    def mixed(self, shares: Floats) -> "Objective":
        """Return the utility of weights of weighted sums of the columns, `shares` [sums, columns]."""

    @abstractmethod
    def many(self, weights: Floats) -> Floats:
        """Return the utilities [k] of k weight vectors, `weights` [k, columns]."""

    def __call__(self, weights: Floats) -> float:
        """Return the utility of `weights` [columns]."""
        return float(self.many(weights[None])[0])

    def steps(self, weights: Floats, keep: float, add: float) -> Floats:
        """Return the utility [columns] of `keep` * `weights` with `add` more for one column, for each column."""
        return self.many(keep * weights + add * np.eye(self.n_columns))

    def worth_elsewhere(self, weights: Floats, fitted: MomentSums, elsewhere: MomentSums) -> Floats:
        """Return utilities [k] on other rows of `weights` [k, columns] that were fitted, readout and all, on `fitted`.

        Always Pearson or the squared error: what a penalty is chosen by must be cheap.
        """
        square = np.einsum("km,km->k", weights @ elsewhere.centred.gram, weights)
        cross, mean = weights @ elsewhere.centred.cross, weights @ elsewhere.mean
        if self.readout is Readout.LINE or self.readout is Readout.CUTS:
            return pearson_from(square, cross, elsewhere.centred.square)
        shift = fitted.target_mean - weights @ fitted.mean if self.readout is Readout.INTERCEPT else 0.0
        return explained_from(square, cross, elsewhere.target_mean - mean - shift, elsewhere)


def pearson_from(square: Floats, cross: Floats, target: float) -> Floats:
    """Return Pearson of weighted sums from their centred squares and products; minus infinity where one is constant."""
    varies = square * target > 0.0
    return np.asarray(np.where(varies, cross / np.sqrt(np.where(varies, square * target, 1.0)), -np.inf))


def explained_from(square: Floats, cross: Floats, off: Floats, sums: MomentSums) -> Floats:
    """Return the explained share of the target's variance, 0 without any; `off`: how far the mean prediction is off."""
    if not sums.centred.square > 0.0:
        return np.zeros_like(square)
    return np.asarray((2.0 * cross - square - sums.count * off**2) / sums.centred.square)


class MetricOnMoments(Objective):
    """Pearson after a line, else the share of the target's variance that is explained."""

    has_optimum = True
    tolerance = 1e-9

    def of(self, columns: Sequence[int]) -> "MetricOnMoments":
        """Return the same for some of the columns."""
        return MetricOnMoments([part.of(columns) for part in self.parts], self.readout)

    def mixed(self, shares: Floats) -> "MetricOnMoments":
        """Return the same for weighted sums of the columns."""
        return MetricOnMoments([part.mixed(shares) for part in self.parts], self.readout)

    def many(self, weights: Floats) -> Floats:
        """Return the utility of each row of `weights`."""
        table = self.sums.centred
        square = np.einsum("km,km->k", weights @ table.gram, weights)
        return self._utility(square, weights @ table.cross, weights @ self.sums.mean)

    def __call__(self, weights: Floats) -> float:
        """Return the utility of `weights` [columns]; ten times as fast as `many` with one row."""
        table = self.sums.centred
        square, cross = float(weights @ (table.gram @ weights)), float(weights @ table.cross)
        if self.readout in (Readout.LINE, Readout.CUTS):
            return cross / math.sqrt(square * table.square) if square * table.square > 0.0 else -math.inf
        off = self.sums.target_mean - float(weights @ self.sums.mean) if self.readout is Readout.RAW else 0.0
        return (2.0 * cross - square - self.sums.count * off * off) / table.square

    def steps(self, weights: Floats, keep: float, add: float) -> Floats:
        """Return the utility after one step, for each column, in O(columns^2)."""
        table, products = self.sums.centred, self.sums.centred.gram @ weights
        square = keep**2 * (weights @ products) + 2.0 * keep * add * products + add**2 * np.diag(table.gram)
        cross = keep * (weights @ table.cross) + add * table.cross
        return self._utility(square, cross, keep * (weights @ self.sums.mean) + add * self.sums.mean)

    def _utility(self, square: Floats, cross: Floats, mean: Floats) -> Floats:
        """Return utilities of weighted sums: their centred square, product with the target, and mean."""
        if self.readout in (Readout.LINE, Readout.CUTS):
            return pearson_from(square, cross, self.sums.centred.square)
        off = self.sums.target_mean - mean if self.readout is Readout.RAW else np.zeros_like(mean)
        return explained_from(square, cross, off, self.sums)


@dataclass(frozen=True)
class FittedLine:
    """A straight line."""

    slope: float = 1.0
    intercept: float = 0.0

    def __call__(self, values: Floats) -> Floats:
        """Return the line's value for each of `values`."""
        return self.slope * values + self.intercept


def fit_line(values: Floats, target: Floats, readout: Readout, metric: Metric) -> FittedLine:
    """Return the line from `values` [rows] to `target` [rows]; an intercept suits the median for absolute errors."""
    if readout is Readout.RAW:
        return FittedLine()
    if readout is Readout.INTERCEPT:
        middle = np.median if metric.name in ("mae", "medae") else np.mean
        return FittedLine(1.0, float(middle(target - values)))
    centred = values - values.mean()
    variance = float(centred @ centred)
    slope = float(centred @ (target - target.mean())) / variance if variance > 0.0 else 0.0
    return FittedLine(slope, float(target.mean() - slope * values.mean()))


class MetricOnRows(Objective):
    """Any metric of the weighted sum, measured on the rows: `columns` [rows, columns] and `target` [rows]."""

    tolerance = 1e-6

    def __init__(
        self, columns: Floats, target: Floats, metric: Metric, parts: Sequence[MomentSums], readout: Readout
    ) -> None:
        super().__init__(parts, readout)
        self._columns, self._target, self._metric = columns, target, metric
        self.evaluations = min(max(LEAST_EVALUATIONS, ROW_EVALUATIONS / len(target)), MOST_EVALUATIONS)

    def of(self, columns: Sequence[int]) -> "MetricOnRows":
        """Return the same for some of the columns."""
        chosen = list(columns)
        parts = [part.of(chosen) for part in self.parts]
        return MetricOnRows(self._columns[:, chosen], self._target, self._metric, parts, self.readout)

    def mixed(self, shares: Floats) -> "MetricOnRows":
        """Return the same for weighted sums of the columns."""
        parts = [part.mixed(shares) for part in self.parts]
        return MetricOnRows(self._columns @ shares.T, self._target, self._metric, parts, self.readout)

    def many(self, weights: Floats) -> Floats:
        """Return the utility of each row of `weights`."""
        return np.array([self._utility(self._columns @ row) for row in weights])

    def steps(self, weights: Floats, keep: float, add: float) -> Floats:
        """Return the utility after one step, for each column."""
        kept = keep * (self._columns @ weights)
        return np.array([self._utility(kept + add * column) for column in self._columns.T])

    def _utility(self, values: Floats) -> float:
        line = FittedLine() if self._metric.scale_free else fit_line(values, self._target, self.readout, self._metric)
        value = self._metric.utility(self._metric(self._target, line(values)))
        return value if np.isfinite(value) else -np.inf
