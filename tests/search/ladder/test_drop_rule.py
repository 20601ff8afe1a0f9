import math

import numpy as np
import pytest

from search.ladder.decisions import BlendGain
from search.ladder.drop_rule import shortfall, why_dropped
from search.ladder.settings import LadderSettings

SETTINGS = LadderSettings(z=2, min_gain=0.001)


@pytest.mark.parametrize("n_folds", [1, 2, 5])
@pytest.mark.parametrize("sign", [-1, 1])
def test_hopeless_is_who_is_more_than_z_standard_errors_behind(n_folds: int, sign: int) -> None:
    generator = np.random.default_rng(n_folds)
    noise = 0.004
    leader, folds = dict(enumerate(generator.uniform(0.6, 0.8, n_folds))), tuple(range(n_folds))
    error = generator.normal(size=n_folds)
    behind = 2 * noise / math.sqrt(n_folds) - sign * 1e-9
    mine = {fold: leader[fold] - behind + error[fold] - error.mean() for fold in folds}
    found = shortfall(mine, leader, folds, noise=noise, leader="best", settings=SETTINGS)
    assert (found is None) == (sign > 0)


def test_the_shortfall_says_the_numbers() -> None:
    found = shortfall({0: 0.7, 1: 0.6}, {0: 0.8, 1: 0.72}, (0, 1), noise=0.005, leader="best", settings=SETTINGS)
    assert found == "mean difference to best on folds 0, 1 -0.1100, at best -0.1029 with noise 0.0050"


@pytest.mark.parametrize(
    ("gain", "is_kept", "dropped"),
    [
        (BlendGain((0.004, -0.002), 3), False, False),
        (BlendGain((0.001, 0.0009), 3), True, True),
        (None, True, False),
        (None, False, True),
    ],
)
def test_a_hopeless_candidate_stays_for_the_blend_or_where_that_is_unknown_if_it_is_kept(
    gain: BlendGain | None, is_kept: bool, dropped: bool
) -> None:
    reason = why_dropped("far behind", lambda: gain, is_kept=is_kept, settings=SETTINGS)
    assert (reason is not None) is dropped
    assert reason is None or reason.startswith("dropped: far behind; ")


def test_the_blend_is_not_measured_for_who_is_not_hopeless() -> None:
    def measure() -> BlendGain:
        raise AssertionError("it costs a fit")

    assert why_dropped(None, measure, is_kept=False, settings=SETTINGS) is None
