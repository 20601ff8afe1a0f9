"""What the ladder is expected to let through, beside a ladder that is played."""

import random

import pytest

from search.ladder.decisions import FoldRun
from search.ladder.fold_ladder import FoldLadder
from search.ladder.forecast import forecast, passing
from search.ladder.settings import LadderSettings

STRICT = LadderSettings(rungs=(0.5,), noise=0.0, growth=0.0, min_peers=2, dead_below=None)


def play(n: int, settings: LadderSettings, generator: random.Random) -> int:
    """Return how many of n candidates in random order pass the rung of a ladder without a noise band."""
    ladder, order = FoldLadder(settings, n_folds=5), generator.sample(range(n), n)
    return sum(ladder.report(FoldRun(f"c{rank}", "family", 0), 0.5, 1.0 + rank).go for rank in order)


@pytest.mark.parametrize(("n", "eta"), [(3, 2.0), (8, 2.0), (12, 3.0)])
def test_as_many_pass_a_rung_as_in_the_mean_of_many_orders(n, eta):
    generator, settings = random.Random(1), STRICT.model_copy(update={"rung_eta": eta})
    mean = sum(play(n, settings, generator) for _ in range(2000)) / 2000
    assert passing(n, eta=eta, min_peers=2) == pytest.approx(mean, abs=0.1)


def test_a_family_by_hand():
    settings = LadderSettings(rungs=(0.4,), min_peers=1, rung_eta=2, eta=3)
    found = forecast(["bert"] * 4 + ["funnel"], settings, n_folds=5)
    behind = 1 + 1 / 2 + 2 / 3 + 2 / 4
    bert = found["bert"]
    assert bert.at_rungs == pytest.approx((behind,))
    assert bert.fold_0 == pytest.approx(4 * 0.4 + behind * 0.6)
    assert bert.promoted == 2
    assert bert.runs == pytest.approx(bert.fold_0 + 2 * 4)
    assert bert.finished == pytest.approx(behind + 8)
    assert found["funnel"].runs == 5


def test_without_a_ladder_the_whole_grid_runs():
    found = forecast(["bert"] * 4, LadderSettings(enabled=False), n_folds=5)["bert"]
    assert (found.runs, found.finished) == (20, 20)
