import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import root_mean_squared_error

from blend.fit.objective import MetricOnRows, PearsonOnMoments, objective_for
from blend.fit.weight_methods import METHODS
from blend.members.moment_sums import measure
from data_prep.scoring.metrics import METRICS


def toy(seed: int, n_rows: int = 200, n_members: int = 5) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    score = random.integers(0, 5, n_rows) / 4
    shared = random.normal(size=n_rows)
    noise = random.normal(size=(n_rows, n_members)) * np.linspace(0.3, 1.0, n_members)
    return score[:, None] + noise + 0.2 * shared[:, None], score


@given(seed=st.integers(0, 2**32 - 1), n_members=st.integers(1, 12))
@settings(max_examples=30, deadline=None)
def test_pearson_from_moments_is_numpys(seed: int, n_members: int) -> None:
    columns, score = toy(seed, n_members=n_members)
    weights = np.random.default_rng(seed).dirichlet(np.ones(n_members))
    objective = PearsonOnMoments([measure(columns, score)])
    expected = np.corrcoef(columns @ weights, score)[0, 1]
    assert objective(weights) == pytest.approx(expected, abs=1e-12)
    assert objective.many(weights[None])[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("method", ["nelder-mead", "nnls", "ridge", "free-ridge"])
@given(seed=st.integers(0, 2**32 - 1), size=st.floats(-6, 6))
@settings(max_examples=10, deadline=None)
def test_fitted_weights_make_up_for_shift_and_scale_of_columns(method: str, seed: int, size: float) -> None:
    columns, score = toy(seed)
    random, fold = np.random.default_rng(seed), (np.arange(len(score)) % 4).astype(np.int8)
    shift, stretch = random.normal(size=5) * 10**size, 10 ** random.uniform(-2, 2, 5)
    moved = columns * stretch + shift * stretch
    before, after = (METHODS[method].fit(objective_for(METRICS["pearson"], x, score, fold)) for x in (columns, moved))
    assert after.utility == pytest.approx(before.utility, abs=1e-7)
    assert np.corrcoef(columns @ before.weights, moved @ after.weights)[0, 1] == pytest.approx(1.0, abs=1e-6)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_order_of_rows_does_not_count(seed: int) -> None:
    columns, score = toy(seed)
    order = np.random.default_rng(seed).permutation(len(score))
    weights = np.full(5, 0.2)
    assert PearsonOnMoments([measure(columns, score)])(weights) == pytest.approx(
        PearsonOnMoments([measure(columns[order], score[order])])(weights), abs=1e-12
    )


def test_a_sum_that_does_not_vary_is_worth_nothing() -> None:
    columns, score = toy(0, n_members=2)
    columns[:, 1] = 3.0
    objective = PearsonOnMoments([measure(columns, score)])
    nothing = np.array([0.0, 1.0])
    assert objective(nothing) == -np.inf
    assert objective.many(nothing[None])[0] == -np.inf
    assert MetricOnRows(columns, score, METRICS["pearson"], [measure(columns, score)])(nothing) == -np.inf


@pytest.mark.parametrize("metric", METRICS)
def test_the_objective_serves_the_metric(metric: str) -> None:
    """More utility means a better metric after the least-squares line, for random weights of every metric."""
    columns, score = toy(3)
    measure_of = METRICS[metric]
    objective = objective_for(measure_of, columns, score, np.zeros(len(score), np.int8))
    drawn = np.random.default_rng(0).dirichlet(np.ones(5), size=40)
    values = [measure_of.utility(measure_of(score, on_line(columns @ weights, score))) for weights in drawn]
    assert len(values) == 40
    assert np.argsort(objective.many(drawn)).tolist() == np.argsort(values).tolist()


def on_line(blended: np.ndarray, score: np.ndarray) -> np.ndarray:
    slope, intercept = np.polyfit(blended, score, 1)
    return intercept + slope * blended


def test_best_rmse_is_where_pearson_is_best() -> None:
    columns, score = toy(5)
    fit = METHODS["nnls"].fit(objective_for(METRICS["rmse"], columns, score, np.zeros(len(score), np.int8)))
    best = root_mean_squared_error(score, on_line(columns @ fit.weights, score))
    others = np.random.default_rng(0).dirichlet(np.ones(5), size=300)
    assert all(best <= root_mean_squared_error(score, on_line(columns @ weights, score)) for weights in others)
