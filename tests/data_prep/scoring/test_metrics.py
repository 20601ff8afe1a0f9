import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.metrics import root_mean_squared_error

from data_prep.scoring.metrics import METRICS, average_ranks

REFERENCES = {
    "pearson": lambda score, prediction: stats.pearsonr(score, prediction).statistic,
    "spearman": lambda score, prediction: stats.spearmanr(score, prediction).statistic,
    "rmse": root_mean_squared_error,
}


def vectors(seed: int, n_rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Return scores with ties and predictions that follow them."""
    generator = np.random.default_rng(seed)
    score = generator.choice([0, 0.25, 0.5, 0.75, 1], n_rows)
    return score, score + generator.normal(0, 0.4, n_rows).round(1)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", METRICS)
def test_a_metric_equals_its_reference(name, seed):
    score, prediction = vectors(seed)
    assert METRICS[name](score, prediction) == pytest.approx(REFERENCES[name](score, prediction), rel=1e-12)
    narrow = prediction.astype(np.float32)
    assert METRICS[name](score, narrow) == pytest.approx(METRICS[name](score, narrow.astype(float)), rel=1e-12)


def test_equal_values_share_the_mean_of_their_ranks():
    values = np.random.default_rng(0).integers(0, 20, 200) / 4
    np.testing.assert_array_equal(average_ranks(values), stats.rankdata(values))


@pytest.mark.parametrize("name", METRICS)
def test_a_nan_never_hides(name):
    score, prediction = vectors(0)
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


@pytest.mark.parametrize("name", METRICS)
def test_scale_and_offset_leave_correlations_alone_and_nothing_else(name):
    score, prediction = vectors(2)
    unmoved = METRICS[name](score, 3 * prediction + 1) == pytest.approx(METRICS[name](score, prediction), rel=1e-9)
    assert METRICS[name].is_correlation == unmoved


def test_correlation_survives_a_large_offset():
    score, prediction = vectors(1)
    assert METRICS["pearson"](score, prediction + 1e6) == pytest.approx(METRICS["pearson"](score, prediction), abs=1e-8)


@given(arrays(np.float64, 12, elements=st.floats(-1e3, 1e3, width=32)))
def test_correlation_lies_between_minus_one_and_one(values):
    found = METRICS["pearson"](np.arange(12.0), values)
    assert math.isnan(found) or abs(found) <= 1 + 1e-12


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("shapes", [((3,), (4,)), ((0,), (0,)), ((2, 2), (2, 2))])
def test_vectors_that_do_not_fit_are_refused(name, shapes):
    with pytest.raises(ValueError, match="two non-empty vectors of equal length"):
        METRICS[name](np.ones(shapes[0]), np.ones(shapes[1]))


@pytest.mark.parametrize("name", METRICS)
def test_utility_is_greater_for_the_better_prediction(name):
    score, prediction = vectors(2)
    metric = METRICS[name]
    assert metric.utility(metric(score, score + 0.01 * prediction)) > metric.utility(metric(score, prediction))
