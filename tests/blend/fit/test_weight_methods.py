import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, nnls

from blend.fit.objective import MetricOnRows, PearsonOnMoments, objective_for
from blend.fit.weight_methods import (
    METHODS,
    PENALTIES,
    check_method,
    exact_pearson,
    greedy,
    nelder_mead,
    search_simplex,
)
from blend.members.moment_sums import measure
from data_prep.errors import InputError
from data_prep.scoring.metrics import METRICS, pearson


def toy(seed: int, n_members: int = 6, n_rows: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Standardised columns with correlated errors, of different quality."""
    random = np.random.default_rng(seed)
    score = random.integers(0, 5, n_rows) / 4
    factors = random.normal(size=(n_rows, 3)) @ random.normal(size=(3, n_members)) * 0.2
    columns = score[:, None] + factors + random.normal(size=(n_rows, n_members)) * random.uniform(0.3, 1.0, n_members)
    return (columns - columns.mean(axis=0)) / columns.std(axis=0), score


def folds_of(score: np.ndarray) -> np.ndarray:
    return (np.arange(len(score)) % 4).astype(np.int8)


def on_moments(columns: np.ndarray, score: np.ndarray) -> PearsonOnMoments:
    return PearsonOnMoments([measure(columns, score)])


def slsqp(columns: np.ndarray, score: np.ndarray) -> float:
    """Best Pearson on the simplex by another optimiser, on the rows."""
    n_members = columns.shape[1]
    found = [
        minimize(
            lambda weights: -np.corrcoef(columns @ weights, score)[0, 1],
            start,
            method="SLSQP",
            bounds=[(0, 1)] * n_members,
            constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
            options={"ftol": 1e-14, "maxiter": 500},
        )
        for start in (np.full(n_members, 1 / n_members), np.eye(n_members)[0] * 0.9 + 0.1 / n_members)
    ]
    return max(-float(result.fun) for result in found)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n_members", [1, 2, 7])
def test_every_method_gives_weights_on_the_simplex(method: str, metric: str, n_members: int) -> None:
    columns, score = toy(1, n_members, n_rows=120)
    objective = objective_for(METRICS[metric], columns, score, folds_of(score))
    fit = METHODS[method].fit(objective)
    assert fit.weights.shape == (n_members,)
    assert METHODS[method].free_sign or (fit.weights >= 0).all()
    assert np.abs(fit.weights).sum() == pytest.approx(1.0, abs=1e-12)
    assert fit.utility == pytest.approx(objective(fit.weights), abs=1e-12)
    assert fit.converged


@pytest.mark.parametrize("method", METHODS)
def test_order_of_columns_does_not_count(method: str) -> None:
    columns, score = toy(2)
    order = np.array([3, 0, 5, 1, 4, 2])
    fit = METHODS[method].fit(objective_for(METRICS["pearson"], columns, score, folds_of(score)))
    moved = METHODS[method].fit(objective_for(METRICS["pearson"], columns[:, order], score, folds_of(score)))
    assert moved.utility == pytest.approx(fit.utility, abs=1e-8)
    np.testing.assert_allclose(moved.weights, fit.weights[order], atol=1e-3)


@given(seed=st.integers(0, 10_000), n_members=st.integers(2, 8))
@settings(max_examples=15, deadline=None)
def test_nnls_is_the_constrained_optimum(seed: int, n_members: int) -> None:
    columns, score = toy(seed, n_members)
    fit = exact_pearson(on_moments(columns, score))
    value = float(np.corrcoef(columns @ fit.weights, score)[0, 1])
    assert value == pytest.approx(slsqp(columns, score), abs=1e-6)


@pytest.mark.parametrize("n_members", [2, 4, 8, 12])
def test_nelder_mead_finds_the_optimum_without_being_shown_it(n_members: int) -> None:
    """From equal weights, restarted: the search itself, without the start that `nnls` lends it."""
    columns, score = toy(3, n_members)
    objective = on_moments(columns, score)
    weights = np.full(n_members, 1 / n_members)
    for _ in range(10):
        weights = search_simplex(objective, weights, budget=1_000 * n_members).weights
    assert objective(weights) == pytest.approx(slsqp(columns, score), abs=1e-6)


@pytest.mark.parametrize("n_members", [4, 12, 31, 60])
def test_nelder_mead_meets_its_certificate(n_members: int) -> None:
    columns, score = toy(4, n_members, n_rows=1_000)
    objective = on_moments(columns, score)
    fit = nelder_mead(objective)
    assert fit.converged
    assert fit.restarts >= 1
    assert exact_pearson(objective).utility - fit.utility < 1e-9


def test_repeated_columns_have_an_optimum_too() -> None:
    columns, score = toy(5, 3)
    doubled = np.column_stack([columns, columns])
    once = exact_pearson(on_moments(columns, score))
    twice = exact_pearson(on_moments(doubled, score))
    assert twice.utility == pytest.approx(once.utility, abs=1e-10)


def test_members_that_all_point_the_wrong_way_still_get_weights() -> None:
    columns, score = toy(6, 3)
    fit = exact_pearson(on_moments(-columns, score))
    assert sorted(fit.weights.tolist()) == [0.0, 0.0, 1.0]


def test_greedy_is_caruanas_loop_on_rows() -> None:
    columns, score = toy(7, 5)
    fit = greedy(on_moments(columns, score))
    bag: list[int] = []
    best: tuple[float, list[int]] = (-1.0, [])
    for _ in range(100):
        values = [pearson(score, columns[:, [*bag, member]].mean(axis=1)) for member in range(5)]
        bag.append(int(np.argmax(values)))
        if max(values) > best[0] + 1e-9:
            best = (max(values), list(bag))
    np.testing.assert_allclose(fit.weights, np.bincount(best[1], minlength=5) / len(best[1]))


def test_of_members_that_help_alike_greedy_adds_the_least_correlated() -> None:
    class Alike:
        """Every choice is worth the same, more members are worth more."""

        tolerance = 1e-9

        def __init__(self, columns: np.ndarray, score: np.ndarray) -> None:
            self.parts = [measure(columns, score)]
            self.moments = self.parts[0].centred
            self.step = 0

        def __call__(self, weights: np.ndarray) -> float:
            return float(self.many(weights[None])[0])

        def many(self, weights: np.ndarray) -> np.ndarray:
            self.step += 1
            return np.full(len(weights), float(self.step))

    columns, score = toy(11, 2)
    columns = np.column_stack([columns[:, 0], columns[:, 0] + 0.1 * columns[:, 1], columns[:, 1]])
    weights = greedy(Alike(columns, score)).weights
    assert weights[1] == 0.0, "it is close to both others"
    assert weights[0] == pytest.approx(0.5)


def test_ridge_takes_the_penalty_that_does_best_without_a_fold() -> None:
    columns, score = toy(12, 8, n_rows=60)
    fold = folds_of(score)
    fit = METHODS["ridge"].fit(objective_for(METRICS["pearson"], columns, score, fold))

    def solve(rows: np.ndarray, penalty: float) -> np.ndarray:
        x, y = columns[rows] - columns[rows].mean(axis=0), score[rows] - score[rows].mean()
        gram = x.T @ x + penalty * np.diag((x**2).sum(axis=0))
        root = np.linalg.cholesky(gram).T
        return nnls(root, np.linalg.solve(root.T, x.T @ y))[0]

    def held_out(penalty: float) -> float:
        return float(
            np.mean([pearson(score[fold == k], columns[fold == k] @ solve(fold != k, penalty)) for k in range(4)])
        )

    best = max(PENALTIES, key=held_out)
    assert best > 0
    expected = solve(fold >= 0, best)
    np.testing.assert_allclose(fit.weights, expected / expected.sum(), atol=1e-8)


def test_weights_of_free_sign_are_least_squares() -> None:
    columns, score = toy(13, 4)
    columns[:, 3] = columns[:, 0] + 0.3 * np.random.default_rng(0).normal(size=len(score))
    fit = METHODS["free-ridge"].fit(PearsonOnMoments([measure(columns, score)]))
    expected = np.linalg.lstsq(np.column_stack([columns, np.ones_like(score)]), score, rcond=None)[0][:4]
    np.testing.assert_allclose(fit.weights, expected / np.abs(expected).sum(), atol=1e-9)
    assert fit.weights.min() < 0


def test_on_rows_and_on_moments_the_same_search_ends_at_the_same_place() -> None:
    columns, score = toy(8, 4)
    fast = nelder_mead(on_moments(columns, score))
    slow = nelder_mead(MetricOnRows(columns, score, METRICS["pearson"], [measure(columns, score)]))
    assert fast.utility == pytest.approx(slow.utility, abs=1e-9)


def test_spearman_is_improved_beyond_the_best_pearson() -> None:
    columns, score = toy(9, 4)
    columns = np.sign(columns) * np.abs(columns) ** np.array([3, 1, 2, 1])
    objective = objective_for(METRICS["spearman"], columns, score, folds_of(score))
    assert nelder_mead(objective).utility > objective(exact_pearson(objective).weights)


def test_a_method_that_cannot_serve_is_refused() -> None:
    with pytest.raises(InputError, match=r"unknown method 'magic'; known: nelder-mead, nnls, greedy, ridge, mean"):
        check_method("magic", METRICS["pearson"])
    with pytest.raises(InputError, match=r"task's metric is 'spearman'; take one of: nelder-mead, greedy, ridge, mean"):
        check_method("nnls", METRICS["spearman"])
