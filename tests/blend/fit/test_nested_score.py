import numpy as np
import pytest

from blend.fit.calibration import CALIBRATIONS, ScaledColumns
from blend.fit.nested_score import Weigh, fit_line, measure_prediction, predict_nested
from blend.fit.objective import Objective, objective_for
from blend.fit.weight_methods import METHODS
from data_prep.scoring.metrics import METRICS


def toy(seed: int = 0, n_groups: int = 60, per_group: int = 5) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    n_rows = n_groups * per_group
    group = np.repeat(np.arange(n_groups), per_group).astype(np.int32)
    score = random.integers(0, 5, n_rows) / 4
    columns = score[:, None] + random.normal(size=(n_rows, 3)) * [0.4, 0.5, 0.8]
    return {"columns": columns, "score": score, "fold": (group % 4).astype(np.int8), "group": group}


def scaled(data: dict[str, np.ndarray], calibration: str = "z") -> ScaledColumns:
    return ScaledColumns(
        data["columns"],
        data["score"],
        data["fold"],
        group=data["group"],
        own_folds=[data["fold"]] * 3,
        calibration=CALIBRATIONS[calibration],
    )


def by_method(method: str) -> Weigh:
    def weigh(number: int, objective: Objective) -> np.ndarray:
        return METHODS[method].fit(objective).weights

    return weigh


@pytest.mark.parametrize("method", METHODS)
def test_nested_weights_never_see_the_fold_they_are_scored_on(method: str) -> None:
    data = toy()
    pearson, weigh = METRICS["pearson"], by_method(method)
    before = predict_nested(scaled(data, "none"), data["score"], data["fold"], pearson, weigh).weights
    rows = data["fold"] == 2
    spoiled = data["columns"].copy()
    spoiled[rows] = np.random.default_rng(1).normal(size=(rows.sum(), 3))
    scores = np.where(rows, 1.0 - data["score"], data["score"])
    changed = {**data, "columns": spoiled, "score": scores}
    after = predict_nested(scaled(changed, "none"), scores, data["fold"], pearson, weigh).weights
    np.testing.assert_array_equal(before[2], after[2])
    if METHODS[method].fit is not METHODS["mean"].fit:
        assert not np.array_equal(before, after)


def test_nested_is_the_loop_a_person_would_write() -> None:
    data = toy()
    found = predict_nested(scaled(data), data["score"], data["fold"], METRICS["pearson"], by_method("nnls"))
    standard = (data["columns"] - data["columns"].mean(axis=0)) / data["columns"].std(axis=0)
    for fold in range(4):
        seen = data["fold"] != fold
        objective = objective_for(METRICS["pearson"], standard[seen], data["score"][seen], data["fold"][seen])
        blended = standard @ METHODS["nnls"].fit(objective).weights
        slope, intercept = np.polyfit(blended, data["score"], 1)
        np.testing.assert_allclose(found.prediction[~seen], intercept + slope * blended[~seen], atol=1e-10)


@pytest.mark.parametrize("metric", METRICS)
def test_scores_are_the_metric_over_folds_and_pooled(metric: str) -> None:
    data, measure = toy(), METRICS[metric]
    found = measure_prediction(data["columns"][:, 1], data["score"], data["fold"], measure)
    folds = [measure(data["score"][data["fold"] == k], data["columns"][data["fold"] == k, 1]) for k in range(4)]
    assert found.folds == pytest.approx(folds)
    assert found.fold_mean == pytest.approx(np.mean(folds))
    assert found.pooled == pytest.approx(measure(data["score"], data["columns"][:, 1]))


def test_the_line_is_least_squares() -> None:
    data = toy()
    slope, intercept = fit_line(data["columns"][:, 0], data["score"])
    assert (slope, intercept) == pytest.approx(tuple(np.polyfit(data["columns"][:, 0], data["score"], 1)))
    assert fit_line(np.full(4, 2.0), np.array([0.0, 1.0, 0.0, 1.0])) == (0.0, 0.5)
