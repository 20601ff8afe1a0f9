"""`CandidateIndex`: the candidates of a search, with the counts and rankings that the rules need."""

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field

from search.ladder.candidate_state import CandidateState
from search.ladder.decisions import CandidateStatus, StateName


@dataclass
class _FamilyRanking:
    """Ranking and count of one family."""

    ranking: list[tuple[float, int, CandidateState]] = field(default_factory=list)
    """(-utility on fold 0, order of first report, candidate) of those not failed: ascending, so best first."""
    n_judged: int = 0


class CandidateIndex:
    """All candidates in order of first report; states, promotions and utilities change only through it."""

    def __init__(self) -> None:
        self._all: dict[str, CandidateState] = {}
        self._order: list[CandidateState] = []
        self._families: dict[str, _FamilyRanking] = {}
        self._states: dict[StateName, dict[int, CandidateState]] = {}
        self._survivors: list[int] = []
        self._rungs: dict[tuple[str, int, float], list[float]] = {}
        self.n_judged = 0
        """Candidates that finished fold 0 or were stopped; failed ones do not count."""
        self.n_promoted = 0
        """Candidates ever promoted, whatever happened since."""

    def __iter__(self) -> Iterator[CandidateState]:
        return iter(self._order)

    def __getitem__(self, key: str | int) -> CandidateState:
        """Return a candidate by name or by its order of first report."""
        return self._order[key] if isinstance(key, int) else self._all[key]

    def get(self, name: str) -> CandidateState | None:
        """Return a candidate by name; None if it is unknown."""
        return self._all.get(name)

    def get_or_add(self, name: str, family: str) -> CandidateState:
        """Return a candidate by name, added if it is unknown."""
        candidate = self._all.get(name)
        if candidate is None:
            candidate = self._all[name] = CandidateState(name, family, number=len(self._order))
            self._order.append(candidate)
            self._families.setdefault(family, _FamilyRanking())
            self._states.setdefault(candidate.state, {})[candidate.number] = candidate
        return candidate

    # ---------------------------------------------------------------- changes

    def set_state(self, candidate: CandidateState, state: StateName, reason: str) -> None:
        """Change the state of a candidate, and its reason."""
        self._remove(candidate)
        candidate.status = CandidateStatus(state, reason)
        self._insert(candidate)

    def promote(self, candidate: CandidateState, reason: str) -> None:
        """Promote a candidate to the later folds."""
        self._remove(candidate)
        candidate.promoted, candidate.status = True, CandidateStatus("running", reason)
        self._insert(candidate)

    def finish(self, candidate: CandidateState, fold: int, utility: float) -> None:
        """Record a finished fold."""
        self._remove(candidate)
        candidate.utilities[fold] = utility
        self._insert(candidate)

    def record_rung(self, candidate: CandidateState, fold: int, rung: float, utility: float) -> None:
        """Record the utility at a rung."""
        candidate.rungs[fold, rung] = utility
        insort(self._rungs.setdefault((candidate.family, fold, rung), []), utility)

    def forget_rungs(self, candidate: CandidateState, fold: int) -> None:
        """Remove the rungs of a fold run that failed to learn."""
        for key in [key for key in candidate.rungs if key[0] == fold]:
            seen = self._rungs[candidate.family, *key]
            del seen[bisect_left(seen, candidate.rungs.pop(key))]

    def _remove(self, candidate: CandidateState) -> None:
        """Remove the candidate from every index, before it changes."""
        del self._states[candidate.state][candidate.number]
        if candidate.is_survivor:
            del self._survivors[bisect_left(self._survivors, candidate.number)]
        self._count(candidate, -1)
        if candidate.is_ranked:
            ranking = self._families[candidate.family].ranking
            del ranking[bisect_left(ranking, (-candidate.utilities[0], candidate.number))]

    def _insert(self, candidate: CandidateState) -> None:
        """Insert the candidate into every index, after it has changed."""
        self._states.setdefault(candidate.state, {})[candidate.number] = candidate
        if candidate.is_survivor:
            insort(self._survivors, candidate.number)
        self._count(candidate, +1)
        if candidate.is_ranked:
            insort(self._families[candidate.family].ranking, (-candidate.utilities[0], candidate.number, candidate))

    def _count(self, candidate: CandidateState, step: int) -> None:
        self.n_promoted += step * candidate.promoted
        self.n_judged += step * candidate.is_judged
        self._families[candidate.family].n_judged += step * candidate.is_judged

    # ---------------------------------------------------------------- questions

    def families(self) -> list[str]:
        """Return the families in order of first report."""
        return list(self._families)

    def in_state(self, state: StateName) -> list[CandidateState]:
        """Return the candidates in a state, in order of first report."""
        return [candidate for _, candidate in sorted(self._states.get(state, {}).items())]

    def survivors(self) -> list[int]:
        """Return the numbers of those promoted and neither dropped nor failed, ascending."""
        return self._survivors

    def n_judged_in(self, family: str) -> int:
        """Return how many of a family fold 0 has judged."""
        return self._families[family].n_judged

    def ranking(self, family: str, first: int | None = None) -> list[CandidateState]:
        """Return the family's candidates that finished fold 0 and did not fail, best first, then in order."""
        return [candidate for _, _, candidate in self._families[family].ranking[:first]]

    def leader_on_fold_0(self, candidate: CandidateState) -> CandidateState | None:
        """Return the best other candidate by fold 0 that was not stopped; ties go to the family seen first."""
        leader: CandidateState | None = None
        for family in self._families.values():
            rivals = (other for _, _, other in family.ranking if other is not candidate and other.state != "stopped")
            best = next(rivals, None)
            if best is not None and (leader is None or best.utilities[0] > leader.utilities[0]):
                leader = best
        return leader

    def rank(self, candidate: CandidateState) -> int:
        """Return the rank, from 1, in the family by fold 0."""
        return bisect_left(self._families[candidate.family].ranking, (-candidate.utilities[0], candidate.number)) + 1

    def seen_at(self, family: str, fold: int, rung: float) -> list[float]:
        """Return the utilities of the family's runs of a fold at a rung, ascending."""
        return self._rungs.get((family, fold, rung), [])
