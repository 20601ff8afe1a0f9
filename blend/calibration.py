"""From members' raw predictions to one prediction on the scale of the score.

Columns are standardised with the mean and standard deviation of the out-of-fold rows the blend is fitted on, weighted,
and the weighted sum is mapped by the least-squares line onto the score. The same numbers, taken from out-of-fold rows
only, are applied to holdout and test predictions, which are means over a candidate's folds.
"""

from dataclasses import dataclass

import numpy as np

from blend.objective import Floats, measure_moments, objective_for
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
    moments = measure_moments(columns, score)
    objective = objective_for(metric, (columns - moments.mean) / moments.scale, score)
    return METHODS[method](objective)


def calibrate(weights: Floats, columns: Floats, score: Floats) -> Combination:
    """Take scaling and line for given `weights` [members] from raw `columns` [rows, members] and `score` [rows]."""
    moments = measure_moments(columns, score)
    standard = moments.standardised()
    variance = float(weights @ standard.covariance @ weights)
    covariance = float(weights @ standard.score_covariance)
    return Combination(
        weights=weights,
        center=moments.mean,
        scale=moments.scale,
        slope=covariance / variance if variance > 0.0 else 0.0,
        intercept=moments.score_mean,
    )


def unit_weights(member: int, n_members: int) -> Floats:
    """Return weights [members] with all on one member."""
    weights = np.zeros(n_members)
    weights[member] = 1.0
    return weights
