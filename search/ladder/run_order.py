"""What runs first among promoted candidates, and which stopped one resumes when no other is left."""

import math
from collections.abc import Iterable

from search.ladder.candidate_state import CandidateState


def run_order(candidate: CandidateState, *, is_certain: bool) -> tuple[int, float]:
    """Return the sort key of a promoted candidate: those certain to stay first, then the fewest folds begun.

    Fewest folds first, because one more fold may show that such a candidate is hopeless. Ties: best on fold 0 first.
    """
    n_begun = 0 if is_certain else len(candidate.utilities.keys() | candidate.live)
    return n_begun, -candidate.utilities.get(0, math.inf)


def best_stopped(stopped: Iterable[CandidateState]) -> CandidateState | None:
    """Return the candidate that got furthest on fold 0, and of those the best; None: nobody was stopped."""
    return max(stopped, key=_progress_on_fold_0, default=None)


def _progress_on_fold_0(candidate: CandidateState) -> tuple[bool, float, float]:
    if 0 in candidate.utilities:
        return True, 1.0, candidate.utilities[0]
    passed = [(rung, utility) for (fold, rung), utility in candidate.rungs.items() if fold == 0]
    return False, *max(passed, default=(0.0, 0.0))
