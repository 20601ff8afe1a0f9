import pytest

from search.ladder.decisions import BlendGain
from search.ladder.promotion_by_blend import may_promote_by_blend, promoted_by_blend
from search.ladder.settings import LadderSettings


def gains(**halves: tuple[float, float]) -> dict[str, BlendGain]:
    return {name: BlendGain(both, n_members=2) for name, both in halves.items()}


def test_the_largest_gain_that_both_halves_show_is_promoted() -> None:
    found = gains(small=(0.002, 0.002), one_half=(0.02, -0.001), best=(0.001, 0.005), as_good=(0.003, 0.003))
    assert promoted_by_blend(found, min_gain=0.001) == "best"
    assert promoted_by_blend(found, min_gain=0.003) == "best", "exactly the minimum is enough"
    assert promoted_by_blend(found, min_gain=0.0031) is None
    assert promoted_by_blend({}, min_gain=0.0) is None


def test_a_half_without_a_rise_is_not_enough() -> None:
    assert promoted_by_blend(gains(a=(0.0, 0.01)), min_gain=0.0) is None


@pytest.mark.parametrize(
    ("n_promoted", "new_available", "promote_early", "may"),
    [(9, False, False, True), (0, True, False, False), (1, True, True, True), (2, True, True, False)],
)
def test_while_new_candidates_come_few_or_none_are_promoted(
    n_promoted: int, new_available: bool, promote_early: bool, may: bool
) -> None:
    settings = LadderSettings(eta=3, promote_early=promote_early)
    assert may_promote_by_blend(n_promoted, 8, new_available=new_available, settings=settings) is may
