"""What a weight vector is worth: the metric of the weighted sum of columns.

Pearson of a weighted sum needs only the moments of the columns,

    r(w) = w.c / sqrt(w'Sw . v)      S = cov(columns), c = cov(columns, score), v = var(score)

so a weight vector costs O(m^2) for m columns, however many rows there are. A blend ends with the least-squares line
from weighted sum to score (`blend.calibration`), after which rmse^2 = v (1 - r^2): the weights with the least rmse are
those with the greatest Pearson, and the same moments serve both. Other metrics are measured on the rows.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from data_prep.metrics import Metric

Floats = NDArray[np.float64]
"""An array of float64; shapes stand where it is used."""

MOMENT_METRICS = ("pearson", "rmse")
"""Metrics whose best weights are those of the greatest Pearson."""


@dataclass(frozen=True)
class Moments:
    """First and second moments of columns and score over some rows (variances divide by the row count)."""

    mean: Floats
    """[columns]"""
    covariance: Floats
    """[columns, columns]"""
    score_mean: float
    score_variance: float
    score_covariance: Floats
    """[columns]: covariance of each column with the score."""

    @property
    def scale(self) -> Floats:
        """[columns]: standard deviations, 1 where a column does not vary."""
        deviation = np.sqrt(np.diag(self.covariance))
        return np.where(deviation > 1e-12 * np.abs(self.mean), deviation, 1.0)

    def standardised(self) -> "Moments":
        """Return the moments of the same columns with mean 0 and standard deviation 1."""
        scale = self.scale
        return replace(
            self,
            mean=np.zeros_like(self.mean),
            covariance=self.covariance / np.outer(scale, scale),
            score_covariance=self.score_covariance / scale,
        )


def measure_moments(columns: Floats, score: Floats) -> Moments:
    """Measure the moments of `columns` [rows, columns] and `score` [rows], centred first: large means cost nothing."""
    mean = columns.mean(axis=0)
    centred = columns - mean
    score_mean = float(score.mean())
    centred_score = score - score_mean
    return Moments(
        mean=mean,
        covariance=centred.T @ centred / len(score),
        score_mean=score_mean,
        score_variance=float(centred_score @ centred_score) / len(score),
        score_covariance=centred.T @ centred_score / len(score),
    )


class Objective(Protocol):
    """The utility (more is better) of weights; minus infinity where the weighted sum does not vary."""

    @property
    def moments(self) -> Moments:
        """Moments of the columns that are weighted."""
        ...

    def __call__(self, weights: Floats) -> float:
        """Return the utility of `weights` [columns]."""
        ...

    def many(self, weights: Floats) -> Floats:
        """Return the utilities [k] of k weight vectors, `weights` [k, columns]."""
        ...


class PearsonOnMoments:
    """Pearson of the weighted sum, from moments."""

    def __init__(self, moments: Moments) -> None:
        self.moments = moments
        self._covariance = moments.covariance
        self._direction = moments.score_covariance / np.sqrt(moments.score_variance)

    def __call__(self, weights: Floats) -> float:
        """Return Pearson of one weight vector."""
        variance = float(weights @ (self._covariance @ weights))
        return float(weights @ self._direction) / float(np.sqrt(variance)) if variance > 0.0 else -np.inf

    def many(self, weights: Floats) -> Floats:
        """Return Pearson of each row of `weights`."""
        variance = np.einsum("km,km->k", weights @ self._covariance, weights)
        varies = variance > 0.0
        return np.where(varies, weights @ self._direction / np.sqrt(np.where(varies, variance, 1.0)), -np.inf)


class MetricOnRows:
    """Any metric of the weighted sum, measured on the rows."""

    def __init__(self, columns: Floats, score: Floats, metric: Metric) -> None:
        self.moments = measure_moments(columns, score)
        self._columns = columns
        self._score = score
        self._metric = metric

    def __call__(self, weights: Floats) -> float:
        """Return the utility of one weight vector."""
        value = self._metric.utility(self._metric(self._score, self._columns @ weights))
        return value if np.isfinite(value) else -np.inf

    def many(self, weights: Floats) -> Floats:
        """Return the utility of each row of `weights`."""
        return np.array([self(row) for row in weights])


def objective_for(metric: Metric, columns: Floats, score: Floats) -> Objective:
    """Return the objective for standardised `columns` [rows, columns]: from moments where the metric allows it."""
    if metric.name in MOMENT_METRICS:
        return PearsonOnMoments(measure_moments(columns, score).standardised())
    return MetricOnRows(columns, score, metric)
