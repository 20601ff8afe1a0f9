"""How good a blend is: scores on the rows it was fitted on, nested scores, and the noise of a difference.

Nested: for each fold, the weights (or the choice of the best single candidate) are fitted on the other folds and
applied to this one. Scaling and line are shared by all folds: an intercept from the other folds leans against a fold's
own mean, and pooled Pearson would count that as an error of the blend.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from blend.calibration import calibrate, fit_weights, unit_weights
from blend.objective import Floats
from data_prep.metrics import Metric

Folds = NDArray[np.int8]
Choose = Callable[[Floats, Floats, Folds], Floats]
"""Weights [members] from columns [rows, members], score [rows] and fold [rows] that may be looked at."""


@dataclass(frozen=True)
class Score:
    """The metric of one prediction vector, over folds and pooled."""

    fold_mean: float
    """Mean over folds: the score of a candidate."""
    pooled: float
    """Over all rows at once; the two disagree where folds drift in scale."""
    folds: tuple[float, ...]


@dataclass(frozen=True)
class Nested:
    """Predictions whose every row was weighted without its own fold."""

    prediction: Floats
    """[rows]"""
    weights: Floats
    """[folds, members]: the weights used for each fold."""


@dataclass(frozen=True)
class Difference:
    """A paired difference of fold-mean utility, and its noise."""

    value: float
    """Positive: the first prediction is better."""
    standard_error: float
    """From a bootstrap over groups."""

    @property
    def is_noise(self) -> bool:
        """Within two standard errors of nothing."""
        return not abs(self.value) > 2.0 * self.standard_error


def score_prediction(prediction: Floats, score: Floats, fold: Folds, metric: Metric) -> Score:
    """Score one prediction vector [rows]."""
    folds = tuple(metric(score[fold == k], prediction[fold == k]) for k in np.unique(fold))
    return Score(fold_mean=float(np.mean(folds)), pooled=metric(score, prediction), folds=folds)


def score_members(columns: Floats, score: Floats, fold: Folds, metric: Metric) -> list[Score]:
    """Score every column of `columns` [rows, members], raw."""
    return [score_prediction(column, score, fold, metric) for column in columns.T]


def nested(columns: Floats, score: Floats, fold: Folds, choose: Choose) -> Nested:
    """Predict each fold with weights from the other folds."""
    prediction = np.empty_like(score)
    weights = []
    for k in np.unique(fold):
        scored = fold == k
        chosen = choose(columns[~scored], score[~scored], fold[~scored])
        prediction[scored] = calibrate(chosen, columns, score).predict(columns[scored])
        weights.append(chosen)
    return Nested(prediction, np.array(weights))


def by_method(method: str, metric: Metric) -> Choose:
    """Return a choice that fits weights with a method of `blend.weights.METHODS`."""
    return lambda columns, score, _fold: fit_weights(columns, score, method=method, metric=metric).weights


def by_best_single(metric: Metric) -> Choose:
    """Return a choice that takes the single candidate with the best mean over folds."""

    def choose(columns: Floats, score: Floats, fold: Folds) -> Floats:
        scores = [metric.utility(member.fold_mean) for member in score_members(columns, score, fold, metric)]
        return unit_weights(int(np.nanargmax(scores)), columns.shape[1])

    return choose


def compare(
    first: Floats,
    second: Floats,
    *,
    score: Floats,
    fold: Folds,
    group: NDArray[np.int32],
    metric: Metric,
    seed: int = 0,
    resamples: int = 500,
) -> Difference:
    """Return by how much `first` [rows] is better than `second` [rows], with its standard error.

    Whole groups are drawn with replacement; both predictions are scored on the same draw. A draw costs a sum over
    groups, not rows: the metric follows from each group's sums of score, prediction and their products. For Spearman
    the ranks are taken once, inside each fold.
    """
    value = metric.utility(score_prediction(first, score, fold, metric).fold_mean) - metric.utility(
        score_prediction(second, score, fold, metric).fold_mean
    )
    _, number = np.unique(group, return_inverse=True)
    n_groups = int(number.max()) + 1
    sums = np.array(
        [
            [
                _group_sums(prediction[fold == k], score[fold == k], number[fold == k], n_groups, metric)
                for k in np.unique(fold)
            ]
            for prediction in (first, second)
        ]
    )
    random = np.random.default_rng(seed)
    draws = np.empty(resamples)
    for draw in range(resamples):
        times = np.bincount(random.integers(0, n_groups, n_groups), minlength=n_groups)
        values = FROM_SUMS[metric.name](sums @ times)
        means = np.nanmean(values, axis=1)
        draws[draw] = metric.utility(float(means[0])) - metric.utility(float(means[1]))
    return Difference(value=value, standard_error=float(np.nanstd(draws, ddof=1)))


def _group_sums(prediction: Floats, score: Floats, group: NDArray[np.intp], n_groups: int, metric: Metric) -> Floats:
    """Return [6, groups]: count, sums of score and prediction, of their squares and product."""
    if metric.name == "spearman":
        prediction, score = rankdata(prediction), rankdata(score)
    if metric.name != "rmse":
        prediction, score = prediction - prediction.mean(), score - score.mean()
    products = (np.ones_like(score), score, prediction, score**2, prediction**2, score * prediction)
    return np.array([np.bincount(group, weights=product, minlength=n_groups) for product in products])


def _correlation(sums: Floats) -> Floats:
    """Pearson from sums [..., 6]; NaN where a side does not vary."""
    count, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((xy - x * y / count) / np.sqrt((xx - x * x / count) * (yy - y * y / count)))


def _root_mean_square(sums: Floats) -> Floats:
    count, _, _, xx, yy, xy = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.sqrt(np.maximum(xx - 2.0 * xy + yy, 0.0) / count))


FROM_SUMS: dict[str, Callable[[Floats], Floats]] = {
    "pearson": _correlation,
    "spearman": _correlation,
    "rmse": _root_mean_square,
}
"""A metric from the sums of `_group_sums`, by name."""
