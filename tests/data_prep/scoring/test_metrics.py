import math

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from data_prep.scoring.metrics import METRICS, Targets, average_ranks

REFERENCES = {
    "pearson": lambda target, prediction: stats.pearsonr(target, prediction).statistic,
    "spearman": lambda target, prediction: stats.spearmanr(target, prediction).statistic,
    "kendall": lambda target, prediction: stats.kendalltau(target, prediction).statistic,
    "rmse": sklearn.metrics.root_mean_squared_error,
    "mse": sklearn.metrics.mean_squared_error,
    "mae": sklearn.metrics.mean_absolute_error,
    "medae": sklearn.metrics.median_absolute_error,
    "r2": sklearn.metrics.r2_score,
    "log_loss": sklearn.metrics.log_loss,
    "auc": sklearn.metrics.roc_auc_score,
    "average_precision": sklearn.metrics.average_precision_score,
    "accuracy": lambda target, prediction: sklearn.metrics.accuracy_score(*level_names(target, prediction)),
    "f1": lambda target, prediction: sklearn.metrics.f1_score(target == 1.0, prediction >= 0.5),
    "qwk": lambda target, prediction: sklearn.metrics.cohen_kappa_score(
        *level_names(target, prediction), weights="quadratic"
    ),
}
NUMBERS = [name for name, metric in METRICS.items() if metric.targets is not Targets.CLASSES]
"""Metrics of one number for each row, or of several."""
LEVELS = np.array([0, 0.25, 0.5, 0.75, 1])


def level_names(target: np.ndarray, prediction: np.ndarray) -> tuple[list[str], list[str]]:
    """Return the nearest level of each value, as text."""
    nearest = [np.abs(values[:, None] - LEVELS - 1e-9).argmin(axis=1) for values in (target, prediction)]
    return [str(number) for number in nearest[0]], [str(number) for number in nearest[1]]


def vectors(seed: int, n_rows: int = 300, metric: str = "pearson") -> tuple[np.ndarray, np.ndarray]:
    """Return targets with ties that suit the metric, and predictions that follow them."""
    generator = np.random.default_rng(seed)
    two = METRICS[metric].targets is Targets.TWO_LEVELS or metric == "log_loss"
    target = generator.choice(LEVELS[[0, -1]] if two else LEVELS, n_rows)
    prediction = target + generator.normal(0, 0.4, n_rows).round(1)
    return target, np.clip(prediction, 0.01, 0.99) if metric == "log_loss" else prediction


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", NUMBERS)
def test_a_metric_equals_its_reference(name, seed):
    target, prediction = vectors(seed, metric=name)
    assert METRICS[name](target, prediction) == pytest.approx(REFERENCES[name](target, prediction), rel=1e-12)
    narrow = prediction.astype(np.float32)
    assert METRICS[name](target, narrow) == pytest.approx(METRICS[name](target, narrow.astype(float)), rel=1e-12)


@pytest.mark.parametrize("name", ["accuracy", "f1", "qwk"])
def test_a_metric_of_levels_takes_the_nearest_legal_one_also_where_no_row_has_it(name):
    metric = METRICS[name].for_levels([1.0, 2.0, 4.0] if name != "f1" else [1.0, 2.0])
    target, prediction = np.array([1.0, 1.0, 2.0, 2.0]), np.array([1.4, 1.6, 2.6, -9.0])
    assert metric(target, prediction) == metric(target, np.array([1.0, 2.0, 2.0, 1.0]))
    assert metric(target, target) == 1.0
    if name == "qwk":
        assert metric(target, np.array([1.0, 1.0, 2.0, 4.0])) == 0.75


@pytest.mark.parametrize("name", ["auc", "average_precision"])
def test_a_metric_of_two_levels_is_unknown_where_only_one_occurs(name):
    assert math.isnan(METRICS[name](np.ones(5), np.arange(5.0)))
    assert math.isnan(METRICS[name](np.arange(5.0), np.arange(5.0)))


def test_equal_values_share_the_mean_of_their_ranks():
    values = np.random.default_rng(0).integers(0, 20, 200) / 4
    np.testing.assert_array_equal(average_ranks(values), stats.rankdata(values))


@pytest.mark.parametrize("name", NUMBERS)
def test_a_nan_never_hides(name):
    score, prediction = vectors(0, metric=name)
    prediction[3] = np.nan
    assert math.isnan(METRICS[name](score, prediction))
    assert math.isnan(METRICS[name](prediction, score))


@pytest.mark.parametrize("name", ["pearson", "spearman"])
@pytest.mark.parametrize("n_rows", [2, 7, 300, 7301])
def test_a_constant_side_has_no_correlation(name, n_rows):
    score = np.arange(n_rows) / 7
    for constant in (0.0, 0.1, 0.3, -1 / 3, 0.5863372815313004):
        assert math.isnan(METRICS[name](score, np.full(n_rows, constant)))
        assert math.isnan(METRICS[name](np.full(n_rows, constant, np.float32), score))


@pytest.mark.parametrize("name", NUMBERS)
def test_scale_and_offset_leave_scale_free_metrics_alone_and_nothing_else(name):
    target, prediction = vectors(2, metric=name)
    unmoved = METRICS[name](target, 3 * prediction + 1) == pytest.approx(METRICS[name](target, prediction), rel=1e-9)
    assert METRICS[name].scale_free == unmoved
    assert METRICS[name].scale_free >= METRICS[name].is_correlation


def test_correlation_survives_a_large_offset():
    score, prediction = vectors(1)
    assert METRICS["pearson"](score, prediction + 1e6) == pytest.approx(METRICS["pearson"](score, prediction), abs=1e-8)


@given(arrays(np.float64, 12, elements=st.floats(-1e3, 1e3, width=32)))
def test_correlation_lies_between_minus_one_and_one(values):
    found = METRICS["pearson"](np.arange(12.0), values)
    assert math.isnan(found) or abs(found) <= 1 + 1e-12


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("shapes", [((3,), (4,)), ((0,), (0,)), ((2, 2, 2), (2, 2, 2))])
def test_vectors_that_do_not_fit_are_refused(name, shapes):
    with pytest.raises(ValueError, match="two non-empty vectors of equal length"):
        METRICS[name](np.ones(shapes[0]), np.ones(shapes[1]))


@pytest.mark.parametrize("name", NUMBERS)
def test_of_several_targets_a_metric_is_the_mean_over_the_rows_that_have_each(name):
    pairs = [vectors(seed, metric=name) for seed in range(3)]
    targets, predictions = (np.column_stack(sides) for sides in zip(*pairs, strict=True))
    missing = np.random.default_rng(4).random(targets.shape) < 0.3
    targets[missing] = np.nan
    expected = [
        REFERENCES[name](targets[there, place], predictions[there, place]) for place, there in enumerate(~missing.T)
    ]
    assert METRICS[name](targets, predictions) == pytest.approx(np.mean(expected), rel=1e-12)
    assert METRICS[name].of_each(targets, predictions) == pytest.approx(expected, rel=1e-12)
    predictions[np.flatnonzero(~missing[:, 1])[0], 1] = np.nan
    assert math.isnan(METRICS[name](targets, predictions))


def test_rmse_of_several_targets_is_mcrmse():
    targets, predictions = np.array([[1.0, 0.0], [3.0, np.nan]]), np.array([[2.0, 3.0], [2.0, 9.0]])
    assert METRICS["rmse"](targets, predictions) == (1.0 + 3.0) / 2


@pytest.mark.parametrize("name", NUMBERS)
def test_utility_is_greater_for_the_better_prediction(name):
    target, prediction = vectors(2, metric=name)
    metric = METRICS[name]
    better = target + 0.1 * (prediction - target)
    assert metric.utility(metric(target, better)) > metric.utility(metric(target, prediction))
