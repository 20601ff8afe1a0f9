import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.isotonic import IsotonicRegression

from blend.fit.calibration import CALIBRATIONS, cross_fitted


def toy(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    target = random.integers(0, 5, 320) / 4
    return 3 * target + random.normal(size=320), target, np.arange(320) % 4


def test_ranks_are_the_share_that_is_lower() -> None:
    column, target, _ = toy()
    found = CALIBRATIONS["rank"](column, target)(column)
    np.testing.assert_allclose(found, (rankdata(column) - 0.5) / len(column), atol=1e-12)


def test_ranks_of_many_values_are_ranks_all_the_same() -> None:
    prediction = np.random.default_rng(0).lognormal(size=20_000)
    found = CALIBRATIONS["rank"](prediction, prediction)(prediction)
    np.testing.assert_allclose(found, (rankdata(prediction) - 0.5) / len(prediction), atol=2e-3)


def test_isotonic_is_scikit_learns() -> None:
    column, target, _ = toy()
    curve = IsotonicRegression(out_of_bounds="clip").fit(column, target)
    other = np.linspace(-5, 9, 200)
    np.testing.assert_allclose(CALIBRATIONS["isotonic"](column, target)(other), curve.predict(other), atol=1e-9)


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_each_unit_passes_through_the_curve_of_the_others(name: str) -> None:
    column, target, unit = toy()
    found = cross_fitted(column, target, unit, CALIBRATIONS[name])
    for number in range(4):
        rows = unit == number
        curve = CALIBRATIONS[name](column[~rows], target[~rows])
        np.testing.assert_array_equal(found[rows], curve(column[rows]))
        changed = np.where(rows, 1.0 - target, target)
        np.testing.assert_array_equal(
            cross_fitted(column, changed, unit, CALIBRATIONS[name])[rows], found[rows], "its own targets play no part"
        )


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_a_constant_column_stays_finite(name: str) -> None:
    _, target, unit = toy()
    assert np.isfinite(cross_fitted(np.full(320, 0.1), target, unit, CALIBRATIONS[name])).all()
