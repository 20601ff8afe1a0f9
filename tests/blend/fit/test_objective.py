import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blend.fit.objective import MOMENT_METRICS, FittedLine, MetricOnMoments, MetricOnRows, Objective, Readout, fit_line
from blend.members.moment_sums import measure
from data_prep.scoring.metrics import METRICS

READOUTS = (Readout.RAW, Readout.INTERCEPT, Readout.LINE)


def toy(seed: int, n_rows: int = 200, n_members: int = 5) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    target = random.integers(0, 5, n_rows) / 4
    shared = random.normal(size=n_rows)
    noise = random.normal(size=(n_rows, n_members)) * np.linspace(0.3, 1.0, n_members)
    return 0.2 + 0.7 * target[:, None] + noise + 0.2 * shared[:, None], target


def on_moments(columns: np.ndarray, target: np.ndarray, readout: Readout) -> MetricOnMoments:
    halves = (slice(0, 60), slice(60, None))
    return MetricOnMoments([measure(columns[rows], target[rows]) for rows in halves], readout)


def on_rows(columns: np.ndarray, target: np.ndarray, readout: Readout, metric: str) -> MetricOnRows:
    return MetricOnRows(columns, target, METRICS[metric], [measure(columns, target)], readout)


@given(seed=st.integers(0, 2**32 - 1), n_members=st.integers(1, 12), offset=st.floats(-1e3, 1e3))
@settings(max_examples=30, deadline=None)
def test_pearson_from_moments_is_numpys(seed: int, n_members: int, offset: float) -> None:
    columns, target = toy(seed, n_members=n_members)
    weights = np.random.default_rng(seed).dirichlet(np.ones(n_members))
    expected = np.corrcoef(columns @ weights, target)[0, 1]
    assert on_moments(columns + offset, target, Readout.LINE)(weights) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("readout", READOUTS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_errors_from_moments_are_those_on_the_rows(readout: Readout, seed: int) -> None:
    columns, target = toy(seed)
    weights = np.random.default_rng(seed).dirichlet(np.ones(5))
    line = fit_line(columns @ weights, target, readout, METRICS["rmse"])
    explained = METRICS["r2"](target, line(columns @ weights))
    found = on_moments(columns, target, readout)(weights)
    assert (found**2 if readout is Readout.LINE else found) == pytest.approx(explained, abs=1e-10)


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("metric", METRICS)
def test_the_objective_serves_the_metric(metric: str, readout: Readout) -> None:
    """More utility means a better metric after the readout, for random weights of every metric."""
    columns, target = toy(3)
    target = target.round() if metric in ("auc", "average_precision", "log_loss", "f1") else target
    kind = METRICS[metric]
    drawn = np.random.default_rng(0).dirichlet(np.ones(5), size=40)
    values = []
    for weights in drawn:
        blended = columns @ weights
        values.append(kind.utility(kind(target, fit_line(blended, target, readout, kind)(blended))))
    assert np.argsort(on_rows(columns, target, readout, metric).many(drawn)).tolist() == np.argsort(values).tolist()
    if metric in MOMENT_METRICS and not (metric == "pearson" and readout is not Readout.LINE):
        assert np.argsort(on_moments(columns, target, readout).many(drawn)).tolist() == np.argsort(values).tolist()


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("build", [on_moments, lambda *toy: on_rows(*toy, "mae")], ids=["moments", "rows"])
def test_a_step_is_the_utility_of_the_weights_after_it(build: object, readout: Readout) -> None:
    columns, target = toy(4)
    objective: Objective = build(columns, target, readout)  # type: ignore[operator]
    weights = np.array([0.5, 0.0, 0.3, 0.0, 0.2])
    after = 0.9 * weights + 0.1 * np.eye(5)
    np.testing.assert_allclose(objective.steps(weights, 0.9, 0.1), objective.many(after), atol=1e-12)
    chosen = [3, 0]
    np.testing.assert_allclose(
        objective.of(chosen).many(np.array([[0.4, 0.6]])), objective.many(np.array([[0.6, 0, 0, 0.4, 0]])), atol=1e-12
    )


@pytest.mark.parametrize("readout", READOUTS)
def test_worth_elsewhere_is_the_metric_of_what_was_fitted_here(readout: Readout) -> None:
    columns, target = toy(5)
    here, there = slice(0, 120), slice(120, None)
    fitted, elsewhere = (measure(columns[rows], target[rows]) for rows in (here, there))
    weights = np.random.default_rng(0).dirichlet(np.ones(5), size=3)
    found = MetricOnMoments([fitted], readout).worth_elsewhere(weights, fitted, elsewhere)
    for row, worth in zip(weights, found, strict=True):
        values = columns @ row
        if readout is Readout.LINE:
            assert worth == pytest.approx(np.corrcoef(values[there], target[there])[0, 1], abs=1e-12)
        else:
            line = fit_line(values[here], target[here], readout, METRICS["rmse"])
            assert worth == pytest.approx(METRICS["r2"](target[there], line(values[there])), abs=1e-10)


def test_a_sum_that_does_not_vary_is_worth_nothing() -> None:
    columns, target = toy(0, n_members=2)
    columns[:, 1] = 3.0
    nothing = np.array([0.0, 1.0])
    assert on_moments(columns, target, Readout.LINE)(nothing) == -np.inf
    assert on_rows(columns, target, Readout.LINE, "spearman")(nothing) == -np.inf


def test_the_line_is_least_squares_and_the_intercept_suits_the_metric() -> None:
    columns, target = toy(6)
    values, rmse = columns[:, 0], METRICS["rmse"]
    found = fit_line(values, target, Readout.LINE, rmse)
    assert (found.slope, found.intercept) == pytest.approx(tuple(np.polyfit(values, target, 1)))
    assert fit_line(np.full(4, 2.0), np.array([0.0, 1.0, 0.0, 1.0]), Readout.LINE, rmse) == FittedLine(0.0, 0.5)
    assert fit_line(values, target, Readout.RAW, rmse) == FittedLine()
    for metric in ("rmse", "mae"):
        kind = METRICS[metric]
        shift = fit_line(values, target, Readout.INTERCEPT, kind).intercept
        best = kind(target, values + shift)
        assert all(best <= kind(target, values + shift + step) for step in (-0.1, -0.01, 0.01, 0.1))
