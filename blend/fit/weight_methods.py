"""Weight methods: ways to choose weights that sum to 1. To add one, write a function and register it in `METHODS`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from blend.fit.objective import MOMENT_METRICS, Objective
from blend.members.moment_sums import total
from data_prep.errors import InputError
from data_prep.scoring.combination import Floats
from data_prep.scoring.metrics import Metric
from data_prep.scoring.moments import Moments, best_nonnegative_weights, pearson_of

MAX_RESTARTS = 30
SCREENING = 20
"""Evaluations per member for each start, before the best start is continued to its end."""
BUDGET = 1_000
"""Evaluations per member in one Nelder-Mead run; scipy's default of 200 does not converge from about 12 members."""
SINGLE_STARTS = 3
GREEDY_STEPS = 100
PENALTIES = (0.0, *np.logspace(-5, 1, 13).tolist())
"""Ridge penalties to try, as shares of each column's sum of squares."""


@dataclass(frozen=True)
class WeightFit:
    """Weights and how the search for them went."""

    weights: Floats
    """[members], non-negative with sum 1; with free sign, absolute values sum to 1."""
    utility: float
    """Utility of the weights on the rows they were fitted on."""
    converged: bool
    evaluations: int
    """Evaluations of the objective; 0 if the method needs none."""
    restarts: int


def nelder_mead(objective: Objective) -> WeightFit:
    """Search the simplex with scipy's Nelder-Mead, from several starts, restarted until a restart gains nothing.

    Starts (exact Pearson optimum, equal weights, best single members) are searched briefly, the best of them to its
    end; then again from a fresh simplex there, because Nelder-Mead's simplex collapses in many dimensions.
    """
    n_members = len(objective.moments.cross)
    if n_members == 1:
        return WeightFit(np.ones(1), objective(np.ones(1)), converged=True, evaluations=1, restarts=0)
    screened = [search_simplex(objective, start, budget=SCREENING * n_members) for start in _starts(objective)]
    best = max(screened, key=lambda fit: fit.utility)
    evaluations = sum(fit.evaluations for fit in screened)
    for restart in range(1, MAX_RESTARTS + 1):
        found = search_simplex(objective, best.weights, budget=BUDGET * n_members)
        evaluations += found.evaluations
        gain = found.utility - best.utility
        best = max(best, found, key=lambda fit: fit.utility)
        if found.converged and gain < objective.tolerance:
            return WeightFit(best.weights, best.utility, converged=True, evaluations=evaluations, restarts=restart)
    return WeightFit(best.weights, best.utility, converged=False, evaluations=evaluations, restarts=MAX_RESTARTS)


def search_simplex(objective: Objective, start: Floats, *, budget: int) -> WeightFit:
    """Run Nelder-Mead once from `start`, for at most about `budget` evaluations; `converged` is what scipy reports.

    It uses the weights of standardized columns, where all directions are alike. Near an optimum utility falls with the
    square of the distance, so weights need the root of utility's tolerance.
    """
    from scipy.optimize import minimize  # noqa: PLC0415 - slow to import

    n_members, spread = len(start), _spread(objective.moments)
    options: Any = {
        "initial_simplex": _on_simplex(start * spread)
        + np.vstack([np.zeros(n_members), np.eye(n_members) / n_members]),
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

    found = minimize(loss, np.zeros(n_members), method="Nelder-Mead", options=options)
    weights = _on_simplex(np.maximum(found.x, 0.0) / spread)
    return WeightFit(
        weights, objective(weights), converged=bool(found.success), evaluations=int(found.nfev), restarts=0
    )


def exact_pearson(objective: Objective) -> WeightFit:
    """Return the non-negative weights with the greatest Pearson, exactly, by non-negative least squares."""
    weights = best_nonnegative_weights(objective.moments)
    if not weights.any():
        weights = best_single(objective)
    return WeightFit(weights, objective(weights), converged=True, evaluations=0, restarts=0)


def greedy(objective: Objective) -> WeightFit:
    """Add one member at a time, with replacement; keep the best average passed on the way (Caruana et al. 2004).

    Ties go to the member least correlated with the average so far.
    """
    n_members = len(objective.moments.cross)
    counts = np.zeros(n_members)
    best, best_utility = counts, -np.inf
    for step in range(1, GREEDY_STEPS + 1):
        choices = (counts + np.eye(n_members)) / step
        utilities = objective.many(choices)
        alike = np.flatnonzero(utilities >= utilities.max() - objective.tolerance)
        chosen = int(alike[np.argmin(_correlations(objective.moments, counts)[alike])])
        counts = choices[chosen] * step
        if utilities[chosen] > best_utility + objective.tolerance:
            best, best_utility = choices[chosen], float(utilities[chosen])
    return WeightFit(best, best_utility, converged=True, evaluations=GREEDY_STEPS * n_members, restarts=0)


def ridge(objective: Objective) -> WeightFit:
    """Least squares with a penalty on the squares of the (standardized) weights, which may not be negative.

    The penalty is the one of `PENALTIES` with the best mean Pearson on held-out folds; none with a single fold.
    """
    return _penalised(objective, best_nonnegative_weights)


def free_ridge(objective: Objective) -> WeightFit:
    """Like `ridge`, with weights of either sign, which overfit; absolute values sum to 1."""
    return _penalised(objective, _least_squares)


def _penalised(objective: Objective, solve: Callable[[Moments], Floats]) -> WeightFit:
    parts = list(objective.parts)

    def held_out(penalty: float) -> float:
        values = []
        for place, part in enumerate(parts):
            others = total([*parts[:place], *parts[place + 1 :]]).centred
            values.append(pearson_of(part.centred, solve(_penalise(others, penalty))))
        return float(np.nan_to_num(values, nan=-1.0).mean())

    penalty = max(PENALTIES, key=held_out) if len(parts) > 1 else PENALTIES[0]
    weights = solve(_penalise(objective.moments, penalty))
    if not weights.any():
        weights = best_single(objective)
    evaluations = len(PENALTIES) * len(parts) if len(parts) > 1 else 0
    return WeightFit(weights, objective(weights), converged=True, evaluations=evaluations, restarts=0)


def _penalise(table: Moments, penalty: float) -> Moments:
    return Moments(table.gram + penalty * np.diag(np.diag(table.gram)), table.cross, table.square)


def _least_squares(table: Moments) -> Floats:
    """Return weights [columns] of either sign with the greatest Pearson; absolute values sum to 1."""
    spread = _spread(table)
    weights = np.linalg.lstsq(table.gram / np.outer(spread, spread), table.cross / spread, rcond=1e-10)[0] / spread
    size = np.abs(weights).sum()
    return np.asarray(weights / size if size > 0 else weights)


def mean(objective: Objective) -> WeightFit:
    """Weigh every member equally."""
    n_members = len(objective.moments.cross)
    weights = np.full(n_members, 1.0 / n_members)
    return WeightFit(weights, objective(weights), converged=True, evaluations=0, restarts=0)


def best_single(objective: Objective) -> Floats:
    """Return weights [members] that are 1 for the best member and 0 for all others."""
    singles = np.eye(len(objective.moments.cross))
    return np.asarray(singles[int(np.argmax(objective.many(singles)))])


def _starts(objective: Objective) -> list[Floats]:
    singles = np.eye(len(objective.moments.cross))
    order = np.argsort(-objective.many(singles), kind="stable")[:SINGLE_STARTS]
    return [exact_pearson(objective).weights, mean(objective).weights, *singles[order]]


def _spread(table: Moments) -> Floats:
    """Return the root of each column's sum of squares, 1 where it does not vary."""
    square = np.diag(table.gram)
    return np.sqrt(np.where(square > 0.0, square, 1.0))


def _on_simplex(point: Floats) -> Floats:
    return np.asarray(point / point.sum())


def _correlations(table: Moments, weights: Floats) -> Floats:
    """Return each column's correlation with the weighted sum; all 0 where that does not vary."""
    products = table.gram @ weights
    variance = float(weights @ products)
    return np.asarray(products / (_spread(table) * variance**0.5)) if variance > 0.0 else np.zeros(len(weights))


def check_method(method: str, metric: Metric) -> None:
    """Raise InputError, with the methods that can, if this one is unknown or cannot serve the metric."""
    if method not in METHODS:
        raise InputError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    if method == "nnls" and metric.name not in MOMENT_METRICS:
        others = ", ".join(name for name in METHODS if name != "nnls")
        raise InputError(
            f"method 'nnls' finds the best {' or '.join(MOMENT_METRICS)}, the task's metric is {metric.name!r}; "
            f"take one of: {others}"
        )


@dataclass(frozen=True)
class WeightMethod:
    """A way to choose weights, and what comes with it."""

    fit: Callable[[Objective], WeightFit]
    calibration: str | None = None
    """The only one of `blend.fit.calibration.CALIBRATIONS` that it works with; None: any."""
    free_sign: bool = False
    """Weights may be negative; the method is used only if the user chooses it."""


METHODS: dict[str, WeightMethod] = {
    "nelder-mead": WeightMethod(nelder_mead),
    "nnls": WeightMethod(exact_pearson),
    "greedy": WeightMethod(greedy),
    "ridge": WeightMethod(ridge),
    "mean": WeightMethod(mean),
    "rank-mean": WeightMethod(mean, calibration="rank"),
    "free-ridge": WeightMethod(free_ridge, free_sign=True),
}
