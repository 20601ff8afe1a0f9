import math

import numpy as np
import pytest
import sklearn.metrics

from data_prep.scoring.class_metrics import to_shares
from data_prep.scoring.metrics import METRICS, Targets

NAMES = [name for name, metric in METRICS.items() if metric.targets is Targets.CLASSES]
N_CLASSES = 12


def mean_average_precision(truth: np.ndarray, shares: np.ndarray, most: int) -> float:
    """Return MAP@K, written out row by row, for rows that each have one right answer."""
    total = 0.0
    for label, row in zip(truth.tolist(), shares.tolist(), strict=True):
        best = sorted(range(len(row)), key=lambda place, row=row: -row[place])[:most]
        total += 1 / (best.index(label) + 1) if label in best else 0
    return total / len(truth)


REFERENCES = {
    "multiclass_log_loss": lambda truth, shares: sklearn.metrics.log_loss(truth, shares, labels=range(N_CLASSES)),
    "multiclass_accuracy": lambda truth, shares: sklearn.metrics.accuracy_score(truth, shares.argmax(axis=1)),
    "macro_f1": lambda truth, shares: sklearn.metrics.f1_score(truth, shares.argmax(axis=1), average="macro"),
    **{
        f"map@{most}": lambda truth, shares, most=most: mean_average_precision(truth, shares, most)
        for most in (3, 5, 10)
    },
}


def rows(seed: int, n_rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Return the class of each row, one of which never occurs, and probabilities [rows, classes] that follow them."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, N_CLASSES - 1, n_rows)
    raw = generator.random((n_rows, N_CLASSES)) + 0.7 * np.eye(N_CLASSES)[truth]
    return truth, raw / raw.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", NAMES)
def test_a_metric_of_classes_equals_its_reference(name, seed):
    truth, shares = rows(seed)
    one_hot = np.eye(N_CLASSES)[truth]
    metric = METRICS[name].for_classes(N_CLASSES)
    expected = REFERENCES[name](truth, shares)
    assert 0.1 < expected < 3
    assert metric(one_hot, shares) == pytest.approx(expected, rel=1e-12)
    assert metric(one_hot.ravel(), shares.ravel()) == metric(one_hot, shares), "flat cells are the same"
    assert metric(one_hot, 7 * shares) == pytest.approx(expected, rel=1e-12), "rows are scaled to sum to 1"
    assert metric.utility(metric(one_hot, shares + one_hot)) > metric.utility(metric(one_hot, shares))


@pytest.mark.parametrize("name", NAMES)
def test_a_nan_never_hides_among_classes(name):
    truth, shares = rows(0)
    one_hot = np.eye(N_CLASSES)[truth]
    broken = shares.copy()
    broken[3, 2] = np.nan
    metric = METRICS[name].for_classes(N_CLASSES)
    assert math.isnan(metric(one_hot, broken))
    assert math.isnan(metric(broken, shares))


def test_log_loss_of_shares_is_their_cross_entropy():
    shares, probabilities = np.array([[0.5, 0.5, 0.0], [0.0, 0.25, 0.75]]), np.array([[0.2, 0.3, 0.5], [0.0, 1.0, 0.0]])
    expected = -(0.5 * np.log(0.2) + 0.5 * np.log(0.3) + 0.25 * np.log(1.0) + 0.75 * np.log(1e-15)) / 2
    assert METRICS["multiclass_log_loss"].for_classes(3)(shares, probabilities) == pytest.approx(expected, rel=1e-12)


def test_a_class_that_is_neither_there_nor_decided_does_not_count():
    one_hot = np.eye(3)[[0, 0, 1, 1]]
    assert METRICS["macro_f1"].for_classes(3)(one_hot, one_hot) == 1.0


def test_shares_sum_to_one_and_nothing_is_negative():
    found = to_shares([[2.0, 6.0], [-1.0, 3.0], [0.0, -2.0]])
    np.testing.assert_array_equal(found, [[0.25, 0.75], [0.0, 1.0], [0.5, 0.5]])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shapes", [((6,), (3,)), ((0,), (0,)), ((2, 3), (3, 3))])
def test_tables_that_do_not_fit_are_refused(name, shapes):
    with pytest.raises(ValueError, match="two tables"):
        METRICS[name].for_classes(3)(np.ones(shapes[0]), np.ones(shapes[1]))
