"""Ways to choose weights: non-negative, summing to 1, with the convergence of the search reported."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize

from blend.objective import MOMENT_METRICS, Floats, Objective
from data_prep.errors import InputError
from data_prep.metrics import Metric
from data_prep.moments import best_nonnegative_weights

MAX_RESTARTS = 30
SCREENING = 20
"""Evaluations per member that each start gets before the best one is followed to its end."""
BUDGET = 1_000
"""Evaluations per member of one Nelder-Mead run; scipy's 200 end unconverged from about 12 members on."""
SINGLE_STARTS = 3
GREEDY_STEPS = 100


@dataclass(frozen=True)
class Fit:
    """Weights and how the search for them went."""

    weights: Floats
    """[members], non-negative, sum 1."""
    utility: float
    """Utility of the weights on the rows they were fitted on."""
    converged: bool
    evaluations: int
    """Evaluations of the objective; 0 where a method needs none."""
    restarts: int


def nelder_mead(objective: Objective) -> Fit:
    """Search the simplex with scipy's Nelder-Mead, from several starts, restarted until a restart gains nothing.

    Starts: the exact Pearson optimum (`nnls`), equal weights, the best single members. Each is followed for a short
    while, the best of them to its end; a fresh simplex around the end point is then searched again, because
    Nelder-Mead's simplex collapses in many dimensions. Weights are normalised inside the objective.
    """
    n_members = len(objective.moments.cross)
    if n_members == 1:
        return Fit(np.ones(1), objective(np.ones(1)), converged=True, evaluations=1, restarts=0)
    screened = [search_simplex(objective, start, budget=SCREENING * n_members) for start in _starts(objective)]
    best = max(screened, key=lambda fit: fit.utility)
    evaluations = sum(fit.evaluations for fit in screened)
    for restart in range(1, MAX_RESTARTS + 1):
        found = search_simplex(objective, best.weights, budget=BUDGET * n_members)
        evaluations += found.evaluations
        gain = found.utility - best.utility
        best = max(best, found, key=lambda fit: fit.utility)
        if found.converged and gain < objective.tolerance:
            return Fit(best.weights, best.utility, converged=True, evaluations=evaluations, restarts=restart)
    return Fit(best.weights, best.utility, converged=False, evaluations=evaluations, restarts=MAX_RESTARTS)


def search_simplex(objective: Objective, start: Floats, *, budget: int) -> Fit:
    """Run Nelder-Mead once from `start`, for at most about `budget` evaluations; `converged` is scipy's own word.

    Near an optimum utility falls with the square of the distance, so weights need the root of utility's tolerance.
    """
    n_members = len(start)
    options: Any = {
        "initial_simplex": start + np.vstack([np.zeros(n_members), np.eye(n_members) / n_members]),
        "adaptive": True,
        "xatol": objective.tolerance**0.5,
        "fatol": objective.tolerance / 10,
        "maxfev": budget,
        "maxiter": budget,
    }

    def loss(point: Floats) -> float:
        return -_utility(objective, point)

    found = minimize(loss, start.tolist(), method="Nelder-Mead", options=options)
    weights = _on_simplex(np.asarray(found.x))
    return Fit(weights, objective(weights), converged=bool(found.success), evaluations=int(found.nfev), restarts=0)


def exact_pearson(objective: Objective) -> Fit:
    """Return the non-negative weights with the greatest Pearson, exactly, by non-negative least squares."""
    weights = best_nonnegative_weights(objective.moments)
    if not weights.any():
        weights = best_single(objective)
    return Fit(weights, objective(weights), converged=True, evaluations=0, restarts=0)


def greedy(objective: Objective) -> Fit:
    """Add one member at a time, with replacement; keep the best average passed on the way (Caruana et al. 2004)."""
    n_members = len(objective.moments.cross)
    counts = np.zeros(n_members)
    best, best_utility = counts, -np.inf
    for step in range(1, GREEDY_STEPS + 1):
        choices = (counts + np.eye(n_members)) / step
        utilities = objective.many(choices)
        chosen = int(np.argmax(utilities))
        counts = choices[chosen] * step
        if utilities[chosen] > best_utility + objective.tolerance:
            best, best_utility = choices[chosen], float(utilities[chosen])
    return Fit(best, best_utility, converged=True, evaluations=GREEDY_STEPS * n_members, restarts=0)


def mean(objective: Objective) -> Fit:
    """Weigh every member equally."""
    n_members = len(objective.moments.cross)
    weights = np.full(n_members, 1.0 / n_members)
    return Fit(weights, objective(weights), converged=True, evaluations=0, restarts=0)


def best_single(objective: Objective) -> Floats:
    """Return weights [members] with all on the member of the greatest utility."""
    singles = np.eye(len(objective.moments.cross))
    return np.asarray(singles[int(np.argmax(objective.many(singles)))])


def _starts(objective: Objective) -> list[Floats]:
    singles = np.eye(len(objective.moments.cross))
    order = np.argsort(-objective.many(singles), kind="stable")[:SINGLE_STARTS]
    return [exact_pearson(objective).weights, mean(objective).weights, *singles[order]]


def _utility(objective: Objective, point: Floats) -> float:
    clipped = np.maximum(point, 0.0)
    return objective(clipped / clipped.sum()) if clipped.any() else -np.inf


def _on_simplex(point: Floats) -> Floats:
    clipped = np.maximum(point, 0.0)
    return np.asarray(clipped / clipped.sum())


def check_method(method: str, metric: Metric) -> None:
    """Refuse a method that does not exist or cannot serve the metric.

    Raises:
        InputError: names the methods that can.
    """
    if method not in METHODS:
        raise InputError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    if method == "nnls" and metric.name not in MOMENT_METRICS:
        others = ", ".join(name for name in METHODS if name != "nnls")
        raise InputError(
            f"method 'nnls' finds the best {' or '.join(MOMENT_METRICS)}, the task's metric is {metric.name!r}; "
            f"take one of: {others}"
        )


METHODS: dict[str, Callable[[Objective], Fit]] = {
    "nelder-mead": nelder_mead,
    "nnls": exact_pearson,
    "greedy": greedy,
    "mean": mean,
}
