import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.isotonic import IsotonicRegression

from blend.fit.calibration import CALIBRATIONS, ScaledColumns
from blend.members.moment_sums import measure

SUPERVISED = [name for name, calibration in CALIBRATIONS.items() if calibration.uses_target]


def toy(seed: int = 0, n_groups: int = 80) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    group = np.repeat(np.arange(n_groups), 4).astype(np.int32)
    score = random.integers(0, 5, len(group)) / 4
    fold = (group % 4).astype(np.int8)
    raw = (score[:, None] + 0.3 * random.normal(size=(len(group), 2))) * [3.0, 0.1] + fold[:, None] * [1.0, 0.0]
    return {"raw": raw, "score": score, "fold": fold, "group": group}


def scaled(data: dict[str, np.ndarray], name: str) -> ScaledColumns:
    return ScaledColumns(
        data["raw"],
        data["score"],
        data["fold"],
        group=data["group"],
        own_folds=[data["fold"]] * 2,
        calibration=CALIBRATIONS[name],
    )


@pytest.mark.parametrize("name", [name for name in CALIBRATIONS if name not in SUPERVISED])
def test_where_no_score_is_used_rows_pass_what_test_rows_pass(name: str) -> None:
    data = toy()
    found = scaled(data, name)
    for member in range(2):
        scalings = CALIBRATIONS[name].scalings(data["raw"][:, member], data["score"], data["fold"])
        assert len(scalings) == (4 if name.endswith("by-fold") else 1)
        for fold in range(4):
            rows = data["fold"] == fold
            expected = scalings[fold if len(scalings) > 1 else 0](data["raw"][rows, member])
            np.testing.assert_array_equal(found.columns[rows, member], expected)
    np.testing.assert_array_equal(found.without(2), found.columns)


def test_each_does_what_its_name_says() -> None:
    data = toy()
    raw, fold = data["raw"], data["fold"]
    np.testing.assert_array_equal(scaled(data, "none").columns, raw)
    np.testing.assert_allclose(scaled(data, "z").columns, (raw - raw.mean(0)) / raw.std(0))
    np.testing.assert_allclose(scaled(data, "min-max").columns, (raw - raw.min(0)) / np.ptp(raw, axis=0))
    np.testing.assert_allclose(
        scaled(data, "rank").columns, (rankdata(raw, axis=0) - 0.5) / len(raw), atol=1e-12, err_msg="share below"
    )
    by_fold = scaled(data, "z-by-fold").columns
    for k in range(4):
        np.testing.assert_allclose(by_fold[fold == k].mean(0), 0, atol=1e-12)
        np.testing.assert_allclose(by_fold[fold == k].std(0), 1)


def test_ranks_of_many_values_are_ranks_all_the_same() -> None:
    random = np.random.default_rng(0)
    prediction = random.lognormal(size=20_000)
    found = CALIBRATIONS["rank"].fit(prediction, prediction)(prediction)
    np.testing.assert_allclose(found, (rankdata(prediction) - 0.5) / len(prediction), atol=2e-3)


def test_isotonic_is_scikit_learns_without_the_rows_own_fold() -> None:
    data = toy()
    for held_out in (None, 2):
        columns = scaled(data, "isotonic").columns if held_out is None else scaled(data, "isotonic").without(held_out)
        for fold in range(4):
            rows, known = data["fold"] == fold, ~np.isin(data["fold"], [fold, fold if held_out is None else held_out])
            curve = IsotonicRegression(out_of_bounds="clip").fit(data["raw"][known, 0], data["score"][known])
            np.testing.assert_allclose(columns[rows, 0], curve.predict(data["raw"][rows, 0]), atol=1e-9)


@pytest.mark.parametrize("name", SUPERVISED)
def test_no_value_knows_its_own_score(name: str) -> None:
    data = toy()
    before = scaled(data, name).columns
    for group in (0, 5, 41):
        rows = data["group"] == group
        changed = {**data, "score": np.where(rows, 1.0 - data["score"], data["score"])}
        after = scaled(changed, name).columns
        np.testing.assert_array_equal(before[rows], after[rows])
        assert not np.array_equal(before, after), "the score is used for others"


def test_while_a_fold_is_held_out_its_scores_are_used_for_nobody() -> None:
    data = toy()
    before = scaled(data, "isotonic").without(1)
    changed = {**data, "score": np.where(data["fold"] == 1, 0.5, data["score"])}
    np.testing.assert_array_equal(before, scaled(changed, "isotonic").without(1))


def test_a_fold_of_one_group_has_no_curve_of_its_own_score() -> None:
    data = toy(n_groups=4)
    before = scaled(data, "isotonic-by-fold").columns
    changed = {**data, "score": np.where(data["group"] == 3, 0.5, data["score"])}
    rows = data["group"] == 3
    np.testing.assert_array_equal(before[rows], scaled(changed, "isotonic-by-fold").columns[rows])


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_a_constant_column_stays_finite(name: str) -> None:
    data = toy()
    data["raw"][:, 1] = 0.1
    assert np.isfinite(scaled(data, name).columns).all()


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_sums_are_those_of_the_columns_fold_by_fold(name: str) -> None:
    data = toy()
    found = scaled(data, name)
    for columns, sums in ((found.columns, found.sums()), (found.without(2), found.sums(2))):
        assert len(sums) == len(np.unique(data["fold"]))
        for k, part in enumerate(sums):
            rows = data["fold"] == k
            expected = measure(columns[rows], data["score"][rows])
            np.testing.assert_allclose(part.centred.gram, expected.centred.gram)
            np.testing.assert_allclose(part.mean, expected.mean)
