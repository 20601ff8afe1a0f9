from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.linear_model import Ridge

from blend.fit.objective import MetricOnMoments, MetricOnRows, Objective, Readout
from blend.fit.weight_methods import (
    BAG_STEPS,
    BAGS,
    LEAST_STEPS,
    METHODS,
    PENALTIES,
    exact,
    greedy,
    nelder_mead,
    search_simplex,
)
from blend.members.moment_sums import measure
from data_prep.scoring.metrics import METRICS, pearson

READOUTS = (Readout.RAW, Readout.INTERCEPT, Readout.LINE)
ALL = [(name, readout) for name, method in METHODS.items() for readout in method.readouts]


def toy(seed: int, n_members: int = 6, n_rows: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Columns with correlated errors, of different quality."""
    random = np.random.default_rng(seed)
    target = random.integers(0, 5, n_rows) / 4
    factors = random.normal(size=(n_rows, 3)) @ random.normal(size=(3, n_members)) * 0.2
    noise = random.normal(size=(n_rows, n_members)) * random.uniform(0.3, 1.0, n_members)
    return 0.1 + 0.8 * target[:, None] + factors + noise, target


def on_moments(columns: np.ndarray, target: np.ndarray, readout: Readout = Readout.LINE) -> MetricOnMoments:
    unit = np.arange(len(target)) % 4
    return MetricOnMoments([measure(columns[unit == k], target[unit == k]) for k in range(4)], readout)


def slsqp(columns: np.ndarray, target: np.ndarray, readout: Readout) -> float:
    """Best utility on the simplex by another optimizer, on the rows."""

    def loss(weights: np.ndarray) -> float:
        values = columns @ weights
        if readout is Readout.LINE:
            return -float(np.corrcoef(values, target)[0, 1])
        off = target - values
        return float(np.var(off) if readout is Readout.INTERCEPT else np.mean(off**2)) / float(np.var(target)) - 1.0

    n_members = columns.shape[1]
    found = [
        minimize(
            loss,
            start,
            method="SLSQP",
            bounds=[(0, 1)] * n_members,
            constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
            options={"ftol": 1e-14, "maxiter": 500},
        )
        for start in (np.full(n_members, 1 / n_members), np.eye(n_members)[0] * 0.9 + 0.1 / n_members)
    ]
    return max(-float(result.fun) for result in found)


@pytest.mark.parametrize("n_members", [1, 2, 7])
@pytest.mark.parametrize(("method", "readout"), ALL)
def test_every_method_gives_weights_that_sum_to_one(method: str, readout: Readout, n_members: int) -> None:
    columns, target = toy(1, n_members, n_rows=120)
    rows = MetricOnRows(columns, target, METRICS["mae"], [measure(columns, target)], readout)
    for objective in (on_moments(columns, target, readout), rows):
        fit = METHODS[method].fit(objective)
        assert fit.weights.shape == (n_members,)
        assert METHODS[method].free_sign or (fit.weights >= 0).all()
        size = np.abs(fit.weights).sum() if method == "free-ridge" else fit.weights.sum()
        assert size == pytest.approx(1.0, abs=1e-12)
        assert fit.converged or fit.evaluations >= objective.evaluations - n_members


@pytest.mark.parametrize(("method", "readout"), [pair for pair in ALL if pair[0] != "bagged-greedy"])
def test_order_of_columns_does_not_count(method: str, readout: Readout) -> None:
    columns, target = toy(2)
    order = np.array([3, 0, 5, 1, 4, 2])
    objective, moved = (on_moments(x, target, readout) for x in (columns, columns[:, order]))
    weights, after = (METHODS[method].fit(x).weights for x in (objective, moved))
    assert moved(after) == pytest.approx(objective(weights), abs=1e-8)
    np.testing.assert_allclose(after, weights[order], atol=1e-3)


@pytest.mark.parametrize("readout", READOUTS)
@given(seed=st.integers(0, 10_000), n_members=st.integers(2, 8))
@settings(max_examples=10, deadline=None)
def test_exact_is_the_constrained_optimum(readout: Readout, seed: int, n_members: int) -> None:
    columns, target = toy(seed, n_members)
    objective = on_moments(columns, target, readout)
    assert objective(exact(objective).weights) == pytest.approx(slsqp(columns, target, readout), abs=1e-6)


@pytest.mark.parametrize("method", ["nelder-mead", "nnls", "ridge", "free-ridge"])
@given(seed=st.integers(0, 2**32 - 1), size=st.floats(-6, 4))
@settings(max_examples=10, deadline=None)
def test_before_a_line_shift_and_scale_of_columns_do_not_matter(method: str, seed: int, size: float) -> None:
    columns, target = toy(seed % 1000)
    random = np.random.default_rng(seed)
    shift, stretch = random.normal(size=6) * 10**size, 10 ** random.uniform(-2, 2, 6)
    objective, moved = on_moments(columns, target), on_moments(columns * stretch + shift * stretch, target)
    weights, after = (METHODS[method].fit(x).weights for x in (objective, moved))
    assert moved(after) == pytest.approx(objective(weights), abs=1e-7)


@pytest.mark.parametrize("n_members", [2, 4, 8, 12])
def test_nelder_mead_finds_the_optimum_without_being_shown_it(n_members: int) -> None:
    """From equal weights, restarted: the search itself, without the start that `exact` lends it."""
    columns, target = toy(3, n_members)
    objective, weights = on_moments(columns, target), np.full(n_members, 1 / n_members)
    for _ in range(10):
        weights = search_simplex(objective, weights, budget=1_000 * n_members)[0].weights
    assert objective(weights) == pytest.approx(slsqp(columns, target, Readout.LINE), abs=1e-6)


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("n_members", [4, 12, 31, 60])
def test_nelder_mead_meets_its_certificate(n_members: int, readout: Readout) -> None:
    columns, target = toy(4, n_members, n_rows=1_000)
    objective = on_moments(columns, target, readout)
    fit = nelder_mead(objective)
    assert fit.converged
    assert objective(exact(objective).weights) - objective(fit.weights) < 1e-8


def test_repeated_columns_have_an_optimum_too() -> None:
    columns, target = toy(5, 3)
    for readout in READOUTS:
        once = on_moments(columns, target, readout)
        twice = on_moments(np.column_stack([columns, columns]), target, readout)
        assert twice(exact(twice).weights) == pytest.approx(once(exact(once).weights), abs=1e-6)


def test_columns_that_all_point_the_wrong_way_still_get_weights() -> None:
    columns, target = toy(6, 3)
    assert sorted(exact(on_moments(-columns, target)).weights.tolist()) == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("steps", [None, 100])
@pytest.mark.parametrize("readout", READOUTS)
def test_greedy_is_caruanas_loop_on_rows(readout: Readout, steps: int | None) -> None:
    columns, target = toy(7, 5)
    fit = greedy(on_moments(columns, target, readout), steps=steps)

    def worth(bag: list[int]) -> float:
        values = columns[:, bag].mean(axis=1)
        off = target - values
        if readout is Readout.LINE:
            return pearson(target, values)
        return -float(np.var(off) if readout is Readout.INTERCEPT else np.mean(off**2)) / float(np.var(target))

    bag: list[int] = []
    best: tuple[float, list[int]] = (-np.inf, [])
    for _ in range(steps or LEAST_STEPS):
        values = [worth([*bag, member]) for member in range(5)]
        bag.append(int(np.argmax(values)))
        if max(values) > best[0] + 1e-9:
            best = (max(values), list(bag))
    np.testing.assert_allclose(fit.weights, np.bincount(best[1], minlength=5) / len(best[1]), atol=1e-12)


def test_bagged_greedy_is_the_mean_over_bags_of_half_the_columns() -> None:
    columns, target = toy(8, 5)
    random, weights = np.random.default_rng(0), np.zeros(5)
    for _ in range(BAGS):
        bag = np.sort(random.choice(5, 3, replace=False))
        weights[bag] += greedy(on_moments(columns[:, bag], target), steps=BAG_STEPS).weights / BAGS
    np.testing.assert_allclose(METHODS["bagged-greedy"].fit(on_moments(columns, target)).weights, weights, atol=1e-12)


class Alike(Objective):
    """Every choice is worth the same, later ones are worth more."""

    tolerance = 1e-9
    step = 0

    def of(self, columns: object) -> "Alike":  # noqa: ARG002
        return self

    mixed = of

    def many(self, weights: np.ndarray) -> np.ndarray:
        self.step += 1
        return np.full(len(weights), float(self.step))


def test_of_columns_that_help_alike_greedy_adds_the_least_correlated() -> None:
    columns, target = toy(11, 2)
    columns = np.column_stack([columns[:, 0], columns[:, 0] + 0.1 * columns[:, 1], columns[:, 1]])
    weights = greedy(Alike([measure(columns, target)], Readout.LINE)).weights
    assert weights[1] == 0.0, "it is close to both others"
    assert weights[0] == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("method", ["hill-climbing", "free-hill-climbing"])
@pytest.mark.parametrize("readout", READOUTS)
def test_a_climb_begins_at_the_best_column_and_ends_where_no_step_helps(method: str, readout: Readout) -> None:
    columns, target = toy(9, 5)
    columns[:, 4] = columns[:, 0] - 0.7 * target
    objective = on_moments(columns, target, readout)
    fit = METHODS[method].fit(objective)
    assert objective(fit.weights) > objective.steps(np.zeros(5), 0.0, 1.0).max()
    shares = np.arange(1, 26) / 50
    for share in [*shares, *(-shares if method.startswith("free") else ())]:
        assert objective.steps(fit.weights, 1 - share, share).max() <= objective(fit.weights) + 1e-9
    assert (fit.weights.min() < 0) == method.startswith("free")


def test_ridge_is_drawn_to_equal_weights_by_the_penalty_that_does_best_without_a_unit() -> None:
    columns, target = toy(12, 8, n_rows=60)
    unit = np.arange(60) % 4

    def solve(rows: np.ndarray, penalty: float) -> np.ndarray:
        x, y = columns[rows], target[rows]
        centred = x - x.mean(axis=0)
        scale = (centred**2).sum() / 8

        def loss(weights: np.ndarray) -> float:
            return float(((y - x @ weights) ** 2).sum() + penalty * scale * ((weights - 1 / 8) ** 2).sum())

        only = {"type": "eq", "fun": lambda weights: weights.sum() - 1}
        start = np.full(8, 1 / 8)
        options = {"ftol": 1e-14, "maxiter": 1000}
        return np.asarray(
            minimize(loss, start, method="SLSQP", bounds=[(0, 1)] * 8, constraints=only, options=options).x
        )

    def left_out(penalty: float) -> float:
        off = [np.mean((target[unit == k] - columns[unit == k] @ solve(unit != k, penalty)) ** 2) for k in range(4)]
        return -float(np.mean([value / target[unit == k].var() for k, value in enumerate(off)]))

    best = max(PENALTIES, key=left_out)
    assert 0 < best < PENALTIES[-1]
    fit = METHODS["ridge"].fit(on_moments(columns, target, Readout.RAW))
    np.testing.assert_allclose(fit.weights, solve(unit >= 0, best), atol=2e-4)


def test_weights_of_free_sign_are_least_squares() -> None:
    columns, target = toy(13, 4)
    columns[:, 3] = columns[:, 0] + 0.3 * np.random.default_rng(0).normal(size=len(target)) - 0.3 * target
    fit = METHODS["free-ridge"].fit(MetricOnMoments([measure(columns, target)], Readout.LINE))
    centred = columns - columns.mean(axis=0)
    size = np.sqrt((centred**2).sum(axis=0))
    expected = Ridge(alpha=PENALTIES[1], fit_intercept=False).fit(centred / size, target - target.mean()).coef_ / size
    np.testing.assert_allclose(fit.weights, expected / np.abs(expected).sum(), atol=1e-9)
    assert fit.weights.min() < 0


def test_on_rows_and_on_moments_the_same_search_ends_at_the_same_place() -> None:
    columns, target = toy(8, 4)
    fast = on_moments(columns, target)
    slow = MetricOnRows(columns, target, METRICS["pearson"], [measure(columns, target)], Readout.LINE)
    assert fast(nelder_mead(fast).weights) == pytest.approx(fast(nelder_mead(slow).weights), abs=1e-7)


def test_spearman_is_improved_beyond_the_best_pearson() -> None:
    columns, target = toy(9, 4)
    columns = np.sign(columns) * np.abs(columns) ** np.array([3, 1, 2, 1])
    objective = MetricOnRows(columns, target, METRICS["spearman"], [measure(columns, target)], Readout.LINE)
    assert objective(nelder_mead(objective).weights) > objective(exact(objective).weights)


def test_a_search_on_rows_reads_no_more_than_is_affordable() -> None:
    columns, target = toy(10, 5, n_rows=2_000)

    class Counted(MetricOnRows):
        asked = 0

        def _utility(self, values: np.ndarray) -> float:
            Counted.asked += 1
            return super()._utility(values)

        def of(self, columns: Sequence[int]) -> "Counted":
            part = Counted(self._columns[:, columns], target, self._metric, [self.sums.of(columns)], Readout.LINE)
            part.evaluations = self.evaluations
            return part

        def mixed(self, shares: np.ndarray) -> "Counted":
            part = Counted(self._columns @ shares.T, target, self._metric, [self.sums.mixed(shares)], Readout.LINE)
            part.evaluations = self.evaluations
            return part

    objective = Counted(columns, target, METRICS["spearman"], [measure(columns, target)], Readout.LINE)
    objective.evaluations = 400
    for name, method in METHODS.items():
        Counted.asked = 0
        method.fit(objective)
        assert Counted.asked <= 600, name
