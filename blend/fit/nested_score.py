"""How good a blend is: the metric on the rows it was fitted on, and on rows it was not fitted on (nested).

Nested: everything that is chosen for a fold (members, weights, best single candidate) is chosen on the other folds. The
line onto the target is shared by all folds: an intercept from the other folds leans against a fold's own mean, and
pooled Pearson would count that as an error of the blend.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from blend.fit.calibration import ScaledColumns
from blend.fit.objective import Objective, objective_of
from blend.members.member_predictions import MemberPredictions
from blend.members.moment_sums import MomentSums
from data_prep.scoring.combination import Floats
from data_prep.scoring.metrics import Metric
from data_prep.scoring.moments import Moments

Folds = NDArray[np.int8]
Weigh = Callable[[int, Objective], Floats]
"""Weights [members] for the fold of a number, from what weights are worth on the other folds."""


@dataclass(frozen=True)
class MetricValues:
    """The metric of one prediction vector, over folds and pooled."""

    fold_mean: float
    """Mean over folds: what candidates are ranked by."""
    pooled: float
    """Over all rows at once; the two disagree where folds drift in scale."""
    folds: tuple[float, ...]


@dataclass(frozen=True)
class NestedPrediction:
    """Predictions whose weights were fitted without the fold of the row."""

    prediction: Floats
    """[rows]"""
    weights: Floats
    """[folds, members]: the weights used for each fold."""


def measure_prediction(prediction: Floats, target: Floats, fold: Folds, metric: Metric) -> MetricValues:
    """Return the metric of one prediction vector [rows]."""
    folds = tuple(metric(target[fold == k], prediction[fold == k]) for k in np.unique(fold))
    return MetricValues(fold_mean=float(np.mean(folds)), pooled=metric(target, prediction), folds=folds)


def metric_by_fold(predictions: MemberPredictions, parts: Sequence[MomentSums], metric: Metric) -> Floats:
    """Return the metric of every member on every fold, [members, folds]; Pearson without reading a row again."""
    n_members = len(predictions.members)
    if metric.name == "pearson":
        return np.column_stack([_pearson_of_each(part.centred) for part in parts])
    values = np.empty((n_members, len(parts)))
    for member in range(n_members):
        column = predictions.oof([member])[:, 0]
        values[member] = [metric(predictions.target[rows], column[rows]) for rows in predictions.folds]
    return values


def _pearson_of_each(table: Moments) -> Floats:
    """Return each column's Pearson, [columns]; NaN where it does not vary."""
    variance = np.diag(table.gram) * table.square
    return np.asarray(np.where(variance > 0.0, table.cross / np.sqrt(np.where(variance > 0.0, variance, 1.0)), np.nan))


def predict_nested(
    scaled: ScaledColumns, target: Floats, fold: Folds, metric: Metric, weigh: Weigh
) -> NestedPrediction:
    """Predict each fold with weights from the other folds."""
    prediction = np.empty_like(target)
    weights = []
    for number, k in enumerate(np.unique(fold).tolist()):
        columns, seen = scaled.without(k), fold != k
        parts = [part for place, part in enumerate(scaled.sums(k)) if place != number]
        weights.append(weigh(number, objective_of(metric, parts, partial(_taken, columns, target, seen))))
        blended = columns @ weights[-1]
        slope, intercept = fit_line(blended, target)
        prediction[~seen] = intercept + slope * blended[~seen]
    return NestedPrediction(prediction, np.array(weights))


def _taken(columns: Floats, target: Floats, rows: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    return columns[rows], target[rows]


def fit_line(blended: Floats, target: Floats) -> tuple[float, float]:
    """Return slope and intercept of the least-squares line from `blended` [rows] to `target` [rows]."""
    centred = blended - blended.mean()
    variance = float(centred @ centred)
    slope = float(centred @ (target - target.mean())) / variance if variance > 0.0 else 0.0
    return slope, float(target.mean() - slope * blended.mean())
