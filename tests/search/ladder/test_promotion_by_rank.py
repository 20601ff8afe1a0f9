import pytest

from search.ladder.candidate_state import CandidateState
from search.ladder.decisions import BlendGain
from search.ladder.promotion_by_rank import is_promoted_by_rank, kept_candidates, n_places
from search.ladder.settings import LadderSettings

SETTINGS = LadderSettings(min_gain=0.001)
ENOUGH, TOO_LITTLE = BlendGain((0.003, -0.001), 2), BlendGain((0.001, 0.0009), 2)
"""A hopeless candidate is measured by the mean alone: a fall on one half does not count against it."""


@pytest.mark.parametrize(
    ("n_judged", "new_available", "promote_early", "places"),
    [(7, False, False, 3), (6, False, False, 2), (1, False, True, 2), (7, True, False, 0), (7, True, True, 2)],
)
def test_places_round_down_while_new_candidates_come_and_up_afterwards(
    n_judged: int, new_available: bool, promote_early: bool, places: int
) -> None:
    settings = LadderSettings(eta=3, family_quota=2, promote_early=promote_early)
    assert n_places(n_judged, new_available=new_available, settings=settings) == places


@pytest.mark.parametrize(
    ("behind", "is_kept", "gain", "promoted"),
    [
        (None, False, None, True),
        ("far behind", False, ENOUGH, False),
        ("far behind", True, ENOUGH, True),
        ("far behind", True, TOO_LITTLE, False),
        ("far behind", True, None, True),
    ],
)
def test_rank_promotes_who_is_not_hopeless_and_who_is_kept_unless_the_blend_gains_nothing(
    behind: str | None, is_kept: bool, gain: BlendGain | None, promoted: bool
) -> None:
    assert is_promoted_by_rank(behind, lambda: gain, is_kept=is_kept, settings=SETTINGS) is promoted


def test_the_best_of_the_best_families_are_kept() -> None:
    def ranking(*utilities: float) -> list[CandidateState]:
        return [CandidateState(f"c{utility}", "family", utilities={0: utility}) for utility in utilities]

    settings = LadderSettings(kept_families=2, family_quota=2)
    kept = kept_candidates([ranking(0.5, 0.4), [], ranking(0.9, 0.8, 0.7), ranking(0.6)], settings)
    assert [candidate.name for candidate in kept] == ["c0.9", "c0.8", "c0.6"]
