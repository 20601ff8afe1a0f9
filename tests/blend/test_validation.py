import numpy as np
import pytest

from blend.calibration import calibrate, fit_weights
from blend.validation import Difference, by_best_single, by_method, compare, nested, score_members, score_prediction
from blend.weights import METHODS
from data_prep.metrics import METRICS


def toy(seed: int = 0, n_groups: int = 60, per_group: int = 5) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    n_rows = n_groups * per_group
    group = np.repeat(np.arange(n_groups), per_group).astype(np.int32)
    score = random.integers(0, 5, n_rows) / 4
    columns = score[:, None] + random.normal(size=(n_rows, 3)) * [0.4, 0.5, 0.8]
    return {"columns": columns, "score": score, "fold": (group % 4).astype(np.int8), "group": group}


@pytest.mark.parametrize("method", METHODS)
def test_nested_weights_never_see_the_fold_they_are_scored_on(method: str) -> None:
    data = toy()
    choose = by_method(method, METRICS["pearson"])
    before = nested(data["columns"], data["score"], data["fold"], choose).weights
    spoiled = data["columns"].copy()
    rows = data["fold"] == 2
    spoiled[rows] = np.random.default_rng(1).normal(size=(rows.sum(), 3))
    after = nested(spoiled, data["score"], data["fold"], choose).weights
    np.testing.assert_array_equal(before[2], after[2])
    if method != "mean":
        assert not np.array_equal(before, after)


def test_nested_is_the_loop_a_person_would_write() -> None:
    data = toy()
    found = nested(data["columns"], data["score"], data["fold"], by_method("nnls", METRICS["pearson"]))
    for fold in range(4):
        seen = data["fold"] != fold
        fit = fit_weights(data["columns"][seen], data["score"][seen], method="nnls", metric=METRICS["pearson"])
        blended = (data["columns"] / data["columns"].std(axis=0)) @ fit.weights
        slope, intercept = np.polyfit(blended, data["score"], 1)
        np.testing.assert_allclose(found.prediction[~seen], intercept + slope * blended[~seen], atol=1e-10)


def test_the_best_single_is_picked_on_the_other_folds() -> None:
    data = toy()
    rows = data["fold"] == 0
    data["columns"][rows, 2] = data["score"][rows]
    chosen = nested(data["columns"], data["score"], data["fold"], by_best_single(METRICS["pearson"])).weights
    assert chosen[0].tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("metric", METRICS)
def test_scores_are_the_metric_over_folds_and_pooled(metric: str) -> None:
    data = toy()
    scores = score_members(data["columns"], data["score"], data["fold"], METRICS[metric])
    assert len(scores) == 3
    measure = METRICS[metric]
    folds = [measure(data["score"][data["fold"] == k], data["columns"][data["fold"] == k, 1]) for k in range(4)]
    assert scores[1].folds == pytest.approx(folds)
    assert scores[1].fold_mean == pytest.approx(np.mean(folds))
    assert scores[1].pooled == pytest.approx(measure(data["score"], data["columns"][:, 1]))


def test_the_line_is_least_squares_and_keeps_test_on_the_out_of_fold_scale() -> None:
    data = toy()
    weights = np.array([0.5, 0.3, 0.2])
    combination = calibrate(weights, data["columns"], data["score"])
    standard = (data["columns"] - data["columns"].mean(axis=0)) / data["columns"].std(axis=0)
    slope, intercept = np.polyfit(standard @ weights, data["score"], 1)
    new = np.random.default_rng(2).normal(size=(7, 3))
    expected = intercept + slope * (((new - data["columns"].mean(axis=0)) / data["columns"].std(axis=0)) @ weights)
    np.testing.assert_allclose(combination.predict(new), expected, atol=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_standard_error_is_that_of_a_bootstrap_on_rows(metric: str) -> None:
    """The same draws of groups, scored from scratch on the rows."""
    data = toy(n_groups=40)
    measure = METRICS[metric]
    first, second = data["columns"][:, 0], data["columns"][:, 1]
    found = compare(
        first, second, score=data["score"], fold=data["fold"], group=data["group"], metric=measure, seed=7, resamples=60
    )
    random = np.random.default_rng(7)
    draws = []
    for _ in range(60):
        rows = np.concatenate([np.flatnonzero(data["group"] == g) for g in random.integers(0, 40, 40)])
        fold = data["fold"][rows]
        values = [score_prediction(p[rows], data["score"][rows], fold, measure).fold_mean for p in (first, second)]
        draws.append(measure.utility(values[0]) - measure.utility(values[1]))
    tolerance = 0.1 if metric == "spearman" else 1e-9
    assert found.standard_error == pytest.approx(np.std(draws, ddof=1), rel=tolerance)
    assert found.value > 0


@pytest.mark.parametrize(
    ("value", "error", "noise"), [(0.01, 0.004, False), (-0.01, 0.004, False), (0.01, 0.006, True)]
)
def test_two_standard_errors_part_noise_from_a_difference(value: float, error: float, noise: bool) -> None:
    assert Difference(value, error).is_noise is noise


def test_a_prediction_differs_from_itself_by_nothing() -> None:
    data = toy()
    column = data["columns"][:, 0]
    found = compare(
        column, 2 * column + 1, score=data["score"], fold=data["fold"], group=data["group"], metric=METRICS["pearson"]
    )
    assert found.value == pytest.approx(0.0, abs=1e-12)
    assert found.standard_error == pytest.approx(0.0, abs=1e-12)


def test_standard_error_has_the_size_of_the_truth() -> None:
    """Over fresh samples, the spread of the difference is what one sample's bootstrap says, within a third."""
    differences, errors = [], []
    for seed in range(60):
        data = toy(seed, n_groups=40)
        found = compare(
            data["columns"][:, 0],
            data["columns"][:, 1],
            score=data["score"],
            fold=data["fold"],
            group=data["group"],
            metric=METRICS["pearson"],
            resamples=100,
        )
        differences.append(found.value)
        errors.append(found.standard_error)
    assert np.mean(errors) == pytest.approx(np.std(differences), rel=0.33)
