import math

import pytest
import torch

from models.training.divergence import EXPLODED, FIRST, LossHistory

CALM = [0.2, 0.0, 0.4, 0.3, 0.2, 0.1, 0.3, 0.2, 0.2, 0.2]


def history(losses):
    found = LossHistory()
    for loss in losses:
        found.add(torch.tensor(loss))
    return found


@pytest.mark.parametrize(
    ("losses", "diverged"),
    [
        (CALM, False),
        ([*CALM, *[1.9] * 20], False),
        ([*CALM, *[2.1] * 20], True),
        ([*CALM, *[math.nan] * 11], True),
        ([*CALM, *[math.inf] * 9], False),
        ([*CALM, 1e9, *CALM], False),
        ([math.nan] * 3, True),
        ([0.0] * 12, False),
        ([-x for x in CALM] + [5.0] * 11, True),
        ([], False),
    ],
)
def test_it_diverges_when_most_losses_are_no_numbers_or_over_ten_times_the_first_level(losses, diverged):
    assert FIRST == 10
    assert EXPLODED == 10
    assert history(losses).diverged() is diverged


def test_only_losses_since_the_last_answer_count_but_the_level_stays():
    found = history(CALM)
    assert not found.diverged()
    assert not found.diverged()
    found.add(torch.tensor(2.1))
    assert found.diverged()
    assert not found.diverged()


def test_it_goes_on_after_a_round_trip():
    before, after = history([*CALM, 5.0]), LossHistory()
    after.load_state(before.state())
    for found in (before, after):
        for _ in range(10):
            found.add(torch.tensor(5.0))
    assert before.diverged()
    assert after.diverged()
