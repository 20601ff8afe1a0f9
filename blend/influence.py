"""What each member is to a blend: how firm its weight is, what its loss would cost, whose errors it shares."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blend.bootstrap import Difference, GroupBootstrap
from blend.calibration import ScaledColumns, SomeColumns
from blend.validation import Folds, fit_line, nested
from data_prep.combination import Floats
from data_prep.metrics import Metric
from data_prep.moments import Moments, best_nonnegative_weights, moments

WEIGHT_RESAMPLES = 200


@dataclass(frozen=True)
class WeightSpread:
    """A member's weight when groups are drawn with replacement and the exact optimum is found again."""

    mean: float
    low: float
    """5 % of the draws are lower."""
    high: float
    """5 % of the draws are higher."""
    present: float
    """Share of the draws in which it has any weight."""


def weight_spread(columns: Floats, score: Floats, group: NDArray[np.int32], *, seed: int = 0) -> list[WeightSpread]:
    """Return how each member's weight spreads over bootstrap draws of groups; `columns` [rows, members], scaled."""
    random = np.random.default_rng(seed)
    names, number = np.unique(group, return_inverse=True)
    weights = np.empty((WEIGHT_RESAMPLES, columns.shape[1]))
    for draw in range(WEIGHT_RESAMPLES):
        times = np.bincount(random.integers(0, len(names), len(names)), minlength=len(names))[number]
        weights[draw] = best_nonnegative_weights(_repeated(columns, score, times.astype(np.float64)))
    low, high = np.quantile(weights, [0.05, 0.95], axis=0)
    return [
        WeightSpread(*map(float, values))
        for values in zip(weights.mean(axis=0), low, high, (weights > 0).mean(axis=0), strict=True)
    ]


def _repeated(columns: Floats, score: Floats, times: Floats) -> Moments:
    """Return the moments of rows that stand `times` [rows] times each."""
    count, root = times.sum(), np.sqrt(times)
    x = (columns - times @ columns / count) * root[:, None]
    y = (score - times @ score / count) * root
    return Moments(x.T @ x, x.T @ y, float(y @ y))


def drop_costs(
    scaled: ScaledColumns | SomeColumns,
    score: Floats,
    fold: Folds,
    group: NDArray[np.int32],
    metric: Metric,
    *,
    seed: int = 0,
) -> list[Difference]:
    """Return, for each member, by how much the nested score falls without it, exact weights with and without.

    Positive: its loss would cost that much. A single member has no cost that could be told.
    """
    n_members = scaled.columns.shape[1]
    everyone = range(n_members)
    sets = [list(everyone), *([other for other in everyone if other != member] for member in everyone)]

    def without(members: Sequence[int]) -> Floats:
        def weigh(_number: int, columns: Floats, score: Floats, _fold: Folds) -> Floats:
            return best_nonnegative_weights(moments(columns, score))

        return nested(scaled.of(members), score, fold, weigh).prediction

    predictions = np.column_stack([without(members) for members in sets])
    draws = GroupBootstrap(score, fold, group, metric, seed=seed).draws(predictions)
    return [draws.difference(0, 1 + member) for member in everyone]


def error_correlations(columns: Floats, score: Floats) -> Floats:
    """Return how the members' errors correlate, [members, members]; each on its own least-squares line to the score."""
    errors = []
    for column in columns.T:
        slope, intercept = fit_line(column, score)
        errors.append(score - intercept - slope * column)
    return np.atleast_2d(np.corrcoef(errors))
