"""The rule that promotes a candidate after fold 0 because of its rank in its family."""

import math
from collections.abc import Callable, Iterable, Sequence

from search.ladder.candidate_state import CandidateState
from search.ladder.decisions import BlendGain
from search.ladder.drop_rule import is_useful
from search.ladder.settings import LadderSettings


def n_places(n_judged: int, *, new_available: bool, settings: LadderSettings) -> int:
    """Return how many of a family may be promoted by rank when fold 0 has judged `n_judged` of them.

    While new candidates are still to come, none; with `promote_early` one in `eta`, rounded down, so that nobody is
    promoted for coming first. Afterwards one in `eta`, rounded up, and at least `family_quota`.
    """
    share = n_judged / settings.eta
    if new_available:
        return math.floor(share) if settings.promote_early else 0
    return max(settings.family_quota, math.ceil(share))


def kept_candidates(rankings: Iterable[Sequence[CandidateState]], settings: LadderSettings) -> list[CandidateState]:
    """Return the best `family_quota` of each of the best `kept_families` families; rankings are best first."""
    best = sorted((ranking for ranking in rankings if ranking), key=lambda ranking: -ranking[0].utilities[0])
    return [candidate for ranking in best[: settings.kept_families] for candidate in ranking[: settings.family_quota]]


def is_promoted_by_rank(
    behind: str | None, blend_gain: Callable[[], BlendGain | None], *, is_kept: bool, settings: LadderSettings
) -> bool:
    """Tell whether a candidate that ranks within the places of its family is promoted.

    A candidate with a shortfall (`behind`) is hopeless; only if it is also kept, `blend_gain` measures what it adds.
    """
    if behind is None:
        return True
    return is_kept and is_useful(blend_gain(), is_kept=is_kept, settings=settings)


def rank_on_fold_0(utility: float, rank: int, n_judged: int, family: str) -> str:
    """Say where fold 0 puts a candidate in its family."""
    return f"fold 0 {utility:.4f} ranks {rank} of {n_judged} in {family}"
