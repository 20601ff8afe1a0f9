"""Weight methods: ways to choose weights that sum to 1. To add one, write a function and register it in `METHODS`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from blend.fit.objective import Objective, Readout
from blend.members.moment_sums import MomentSums, total
from data_prep.scoring.combination import Floats
from data_prep.scoring.moments import Moments, best_nonnegative_weights, nonnegative_least_squares

MAX_RESTARTS = 30
SCREENING = 20
"""Evaluations per member for each start, before the best start is continued to its end."""
BUDGET = 1_000
"""Evaluations per member in one Nelder-Mead run; scipy's default of 200 does not converge from about 12 members."""
SINGLE_STARTS = 3
MOST_SEARCHED = 20
"""Dimensions that Nelder-Mead searches, at most."""
LEAST_STEPS, MOST_STEPS = 25, 100
"""Greedy selection takes as many steps as there are columns, within these bounds."""
BAGS, BAG_STEPS = 20, 25
CLIMBS = 100
STRIDES = np.arange(1, 26) / 50
"""Shares that hill climbing gives to one more column."""
PENALTIES = (0.0, *np.logspace(-4, 2, 10).tolist())
"""Ridge penalties to try, as shares of the columns' mean sum of squares."""


@dataclass(frozen=True)
class WeightFit:
    """Weights and how the search for them went."""

    weights: Floats
    """[columns], with sum 1; of either sign, absolute values sum to 1."""
    converged: bool = True
    evaluations: int = 0
    """Evaluations of the objective; 0 if the method needs none."""
    restarts: int = 0


def single(objective: Objective) -> WeightFit:
    """Take the best column alone."""
    return WeightFit(best_single(objective))


def best_single(objective: Objective) -> Floats:
    """Return weights [columns] that are 1 for the best column and 0 for all others."""
    columns = np.zeros(objective.n_columns)
    columns[int(np.argmax(objective.steps(columns, 0.0, 1.0)))] = 1.0
    return columns


def mean(objective: Objective) -> WeightFit:
    """Weigh every column equally."""
    return WeightFit(np.full(objective.n_columns, 1.0 / objective.n_columns))


def standardized_mean(objective: Objective) -> WeightFit:
    """Weigh every column by the inverse of its standard deviation."""
    return WeightFit(_to_sum_1(1.0 / _spread(objective.sums.centred)))


def exact(objective: Objective) -> WeightFit:
    """Take the exact non-negative optimum of Pearson or the squared error, by non-negative least squares."""
    weights = _solve(objective.sums, objective.readout)
    return WeightFit(weights if weights.any() else best_single(objective))


def _solve(sums: MomentSums, readout: Readout, penalty: Floats | None = None, towards: Floats | None = None) -> Floats:
    """Return the non-negative weights, sum 1, with the least squared error after the readout.

    `penalty` [columns] weighs the squared distance to `towards` [columns].
    """
    table = sums.centred
    if readout is Readout.RAW:
        gram = table.gram + sums.count * np.outer(sums.mean, sums.mean)
        table = Moments(gram, table.cross + sums.count * sums.target_mean * sums.mean, table.square)
    if penalty is not None and towards is not None:
        table = Moments(table.gram + np.diag(penalty), table.cross + penalty * towards, table.square)
    if readout in (Readout.LINE, Readout.CUTS):
        return best_nonnegative_weights(table)
    rigid = 1e3 * float(np.trace(table.gram)) / len(table.cross)  # so heavy a penalty makes the weights' sum 1
    return _to_sum_1(nonnegative_least_squares(table.gram + rigid, table.cross + rigid))


def nelder_mead(objective: Objective) -> WeightFit:
    """Search the simplex with scipy's Nelder-Mead, from several starts, restarted until a restart gains nothing.

    It searches the columns that the exact optimum of the squared error uses; where they are many, the weak ones move
    together, in the proportions of that optimum. If the metric has another optimum, several starts (that one, equal
    weights, best single columns) are searched briefly. The best goes to its end, then again from a fresh simplex there,
    because Nelder-Mead's simplex collapses in many dimensions.
    """
    optimum = exact(objective).weights
    order = np.argsort(-optimum, kind="stable")[: int(np.count_nonzero(optimum))]
    n_alone = len(order) if len(order) <= MOST_SEARCHED else MOST_SEARCHED - 1
    shares = np.eye(objective.n_columns)[np.sort(order[:n_alone])]
    if n_alone < len(order):
        together = np.zeros(objective.n_columns)
        together[order[n_alone:]] = optimum[order[n_alone:]]
        shares = np.vstack([shares, _to_sum_1(together)])
    found = _search(objective.mixed(shares))
    return WeightFit(found.weights @ shares, found.converged, found.evaluations, found.restarts)


def _search(objective: Objective) -> WeightFit:
    n_columns = objective.n_columns
    if n_columns == 1:
        return WeightFit(np.ones(1), evaluations=1)
    affordable = objective.evaluations
    screening = int(min(SCREENING * n_columns, affordable / 10))
    screened = [search_simplex(objective, start, budget=screening) for start in _starts(objective)]
    best, utility = max(screened, key=lambda found: found[1])
    evaluations = sum(found.evaluations for found, _ in screened)
    for restart in range(1, MAX_RESTARTS + 1):
        budget = int(min(BUDGET * n_columns, affordable - evaluations))
        if budget < n_columns:
            return WeightFit(best.weights, converged=False, evaluations=evaluations, restarts=restart - 1)
        found, reached = search_simplex(objective, best.weights, budget=budget)
        evaluations += found.evaluations
        gain = reached - utility
        if gain > 0.0:
            best, utility = found, reached
        if found.converged and gain < objective.tolerance:
            return WeightFit(best.weights, evaluations=evaluations, restarts=restart)
    return WeightFit(best.weights, converged=False, evaluations=evaluations, restarts=MAX_RESTARTS)


def search_simplex(objective: Objective, start: Floats, *, budget: int) -> tuple[WeightFit, float]:
    """Run Nelder-Mead once from `start`, for at most about `budget` evaluations; return weights and their utility.

    It uses the weights of standardized columns, where all directions are alike. Near an optimum utility falls with the
    square of the distance, so weights need the root of utility's tolerance.
    """
    from scipy.optimize import minimize  # noqa: PLC0415 - slow to import

    n_columns, spread = len(start), _spread(objective.sums.centred)
    options: Any = {
        "initial_simplex": _to_sum_1(start * spread) + np.vstack([np.zeros(n_columns), np.eye(n_columns) / n_columns]),
        "adaptive": True,
        "xatol": objective.tolerance**0.5,
        "fatol": objective.tolerance / 10,
        "maxfev": budget,
        "maxiter": budget,
    }

    def loss(point: Floats) -> float:
        weights = np.maximum(point, 0.0) / spread
        size = weights.sum()
        return -objective(weights / size) if size > 0.0 else np.inf

    found = minimize(loss, np.zeros(n_columns), method="Nelder-Mead", options=options)
    weights = _to_sum_1(np.maximum(found.x, 0.0) / spread)
    return WeightFit(weights, converged=bool(found.success), evaluations=int(found.nfev)), objective(weights)


def _starts(objective: Objective) -> list[Floats]:
    if objective.has_optimum:
        return [exact(objective).weights]
    alone = objective.steps(np.zeros(objective.n_columns), 0.0, 1.0)
    order = np.argsort(-alone, kind="stable")[:SINGLE_STARTS]
    return [exact(objective).weights, mean(objective).weights, *np.eye(objective.n_columns)[order]]


def greedy(objective: Objective, *, steps: int | None = None) -> WeightFit:
    """Add one column at a time, with replacement; keep the best average passed on the way (Caruana et al. 2004).

    Ties go to the column least correlated with the average so far.
    """
    weights = np.zeros(objective.n_columns)
    best, best_utility = weights, -np.inf
    steps = steps or min(max(objective.n_columns, LEAST_STEPS), MOST_STEPS)
    steps = max(1, min(steps, int(min(objective.evaluations, 1e9) / objective.n_columns)))
    for step in range(1, steps + 1):
        utilities = objective.steps(weights, (step - 1) / step, 1 / step)
        alike = np.flatnonzero(utilities >= utilities.max() - objective.tolerance)
        chosen = int(alike[np.argmin(_correlations(objective.sums.centred, weights)[alike])])
        weights = weights * ((step - 1) / step)
        weights[chosen] += 1 / step
        if utilities[chosen] > best_utility + objective.tolerance:
            best, best_utility = weights, float(utilities[chosen])
    return WeightFit(best, evaluations=steps * objective.n_columns)


def bagged_greedy(objective: Objective) -> WeightFit:
    """Average greedy selection over bags of half the columns (Caruana, Munson and Niculescu-Mizil 2006)."""
    random, weights, size = np.random.default_rng(0), np.zeros(objective.n_columns), (objective.n_columns + 1) // 2
    steps = max(2, int(min(BAG_STEPS, objective.evaluations / (BAGS * size))))
    for _ in range(BAGS):
        bag = np.sort(random.choice(objective.n_columns, size, replace=False))
        weights[bag] += greedy(objective.of(bag.tolist()), steps=steps).weights / BAGS
    return WeightFit(weights, evaluations=BAGS * steps * size)


def climb(objective: Objective) -> WeightFit:
    """Climb from the best column: each time one more column gets the share that helps most, until none helps."""
    return _climb(objective, STRIDES)


def free_climb(objective: Objective) -> WeightFit:
    """Like `climb`, also with negative shares."""
    return _climb(objective, np.concatenate([-STRIDES, STRIDES]))


def _climb(objective: Objective, strides: Floats) -> WeightFit:
    weights = best_single(objective)
    utility, evaluations = objective(weights), 0
    for _ in range(CLIMBS):
        evaluations += len(strides) * objective.n_columns
        if evaluations > objective.evaluations:
            break
        utilities = np.array([objective.steps(weights, 1.0 - share, share) for share in strides.tolist()])
        stride, column = np.unravel_index(int(np.argmax(utilities)), utilities.shape)
        if not utilities[stride, column] > utility + objective.tolerance:
            break
        utility = float(utilities[stride, column])
        weights = weights * (1.0 - strides[stride])
        weights[column] += strides[stride]
    return WeightFit(weights, evaluations=evaluations)


def ridge(objective: Objective) -> WeightFit:
    """Non-negative least squares, drawn towards equal weights by a penalty that is chosen by leaving units out."""

    def solve(sums: MomentSums, penalty: float) -> Floats:
        equal = 1.0 / _spread(sums.centred) if objective.readout is Readout.LINE else np.ones(objective.n_columns)
        equal = _to_sum_1(equal)
        scale = np.diag(sums.centred.gram).copy()
        if objective.readout is Readout.LINE:
            equal *= max(_slope(sums.centred, equal), 0.0)
        else:
            scale[:] = scale.mean()
        return _solve(sums, objective.readout, penalty * scale, equal)

    return _penalized(objective, solve)


def free_ridge(objective: Objective) -> WeightFit:
    """Least squares with a penalty on squared (standardized) weights, of either sign; absolute values sum to 1."""
    return _penalized(objective, lambda sums, penalty: _least_squares(sums.centred, penalty))


def _penalized(objective: Objective, solve: Callable[[MomentSums, float], Floats]) -> WeightFit:
    """Return weights with the penalty that is best on average when each unit is left out."""
    parts = list(objective.parts)
    if len(parts) == 1:
        weights = solve(objective.sums, PENALTIES[1])
        return WeightFit(weights if weights.any() else best_single(objective))
    worth = np.zeros(len(PENALTIES))
    for place, part in enumerate(parts):
        others = total([*parts[:place], *parts[place + 1 :]])
        weights = np.array([solve(others, penalty) for penalty in PENALTIES])
        worth += part.count * objective.worth_elsewhere(weights, others, part)
    weights = solve(objective.sums, PENALTIES[int(np.argmax(worth))])
    return WeightFit(weights if weights.any() else best_single(objective), evaluations=len(PENALTIES) * len(parts))


def _least_squares(table: Moments, penalty: float) -> Floats:
    """Return weights [columns] of either sign with the greatest Pearson; absolute values sum to 1."""
    spread = _spread(table)
    gram = table.gram / np.outer(spread, spread) + penalty * np.eye(len(spread))
    weights = np.linalg.lstsq(gram, table.cross / spread, rcond=1e-10)[0] / spread
    size = np.abs(weights).sum()
    return np.asarray(weights / size if size > 0 else weights)


def _slope(table: Moments, weights: Floats) -> float:
    variance = float(weights @ table.gram @ weights)
    return float(weights @ table.cross) / variance if variance > 0.0 else 0.0


def _spread(table: Moments) -> Floats:
    """Return the root of each column's sum of squares, 1 where it does not vary."""
    square = np.diag(table.gram)
    return np.sqrt(np.where(square > 0.0, square, 1.0))


def _to_sum_1(point: Floats) -> Floats:
    size = float(point.sum())
    return np.asarray(point / size if size != 0.0 else point)


def _correlations(table: Moments, weights: Floats) -> Floats:
    """Return each column's correlation with the weighted sum; all 0 where that does not vary."""
    products = table.gram @ weights
    variance = float(weights @ products)
    return np.asarray(products / (_spread(table) * variance**0.5)) if variance > 0.0 else np.zeros(len(weights))


@dataclass(frozen=True)
class WeightMethod:
    """A way to choose weights, and what may be fitted to their sum."""

    fit: Callable[[Objective], WeightFit]
    readouts: Sequence[Readout] = (Readout.RAW, Readout.INTERCEPT, Readout.LINE)
    free_sign: bool = False
    """Weights may be negative."""


METHODS: dict[str, WeightMethod] = {
    "nelder-mead": WeightMethod(nelder_mead),
    "single": WeightMethod(single),
    "mean": WeightMethod(mean),
    "z-mean": WeightMethod(standardized_mean, (Readout.LINE,)),
    "nnls": WeightMethod(exact),
    "greedy": WeightMethod(greedy),
    "bagged-greedy": WeightMethod(bagged_greedy),
    "hill-climbing": WeightMethod(climb),
    "free-hill-climbing": WeightMethod(free_climb, free_sign=True),
    "ridge": WeightMethod(ridge),
    "free-ridge": WeightMethod(free_ridge, (Readout.LINE,), free_sign=True),
}
"""By name; of equals, the first is taken."""
