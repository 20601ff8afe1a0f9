"""From members' raw predictions to one prediction on the scale of the score.

Columns are standardised with the mean and standard deviation of the out-of-fold rows the blend is fitted on, weighted,
and the weighted sum is mapped by the least-squares line onto the score. The same numbers, taken from out-of-fold rows
only, are applied to holdout and test predictions, which are means over a candidate's folds.
"""

from dataclasses import dataclass

import numpy as np

from blend.objective import Floats, objective_for
from blend.weights import METHODS, Fit
from data_prep.metrics import Metric


@dataclass(frozen=True)
class Combination:
    """prediction = intercept + slope * sum of weight * (column - center) / scale."""

    weights: Floats
    """[members]"""
    center: Floats
    """[members]"""
    scale: Floats
    """[members]"""
    slope: float
    intercept: float

    def predict(self, columns: Floats) -> Floats:
        """Return the blend's prediction [rows] for members' raw predictions `columns` [rows, members]."""
        raw_weights = self.weights / self.scale
        return self.intercept + self.slope * (columns @ raw_weights - self.center @ raw_weights)


def fit_weights(columns: Floats, score: Floats, *, method: str, metric: Metric) -> Fit:
    """Fit weights for the standardised columns of `columns` [rows, members]."""
    center, scale = measure_scaling(columns)
    return METHODS[method](objective_for(metric, (columns - center) / scale, score))


def calibrate(weights: Floats, columns: Floats, score: Floats) -> Combination:
    """Take scaling and line for given `weights` [members] from raw `columns` [rows, members] and `score` [rows]."""
    center, scale = measure_scaling(columns)
    raw_weights = weights / scale
    blended = columns @ raw_weights - center @ raw_weights
    variance = float(blended @ blended)
    return Combination(
        weights=weights,
        center=center,
        scale=scale,
        slope=float(blended @ (score - score.mean())) / variance if variance > 0.0 else 0.0,
        intercept=float(score.mean()),
    )


def measure_scaling(columns: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation [members] of each column; 1 where a column does not vary."""
    center, deviation = columns.mean(axis=0), columns.std(axis=0)
    return center, np.where(deviation > 1e-12 * np.abs(center), deviation, 1.0)


def unit_weights(member: int, n_members: int) -> Floats:
    """Return weights [members] with all on one member."""
    weights = np.zeros(n_members)
    weights[member] = 1.0
    return weights
