"""`CandidateIndex`: the candidates of a search, indexed by what decisions ask of them."""

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field

from search.ladder.candidate_state import CandidateState
from search.ladder.decisions import CandidateStatus, StateName


@dataclass
class _Family:
    """What is kept of one family."""

    ranking: list[tuple[float, int, CandidateState]] = field(default_factory=list)
    """(-utility on fold 0, order of first sight, candidate) of those not failed: ascending, so best first."""
    n_judged: int = 0


class CandidateIndex:
    """All candidates in order of first sight; whoever changes a state, a promotion or fold 0 does it here."""

    def __init__(self) -> None:
        self._all: dict[str, CandidateState] = {}
        self._order: list[CandidateState] = []
        self._families: dict[str, _Family] = {}
        self._states: dict[StateName, dict[int, CandidateState]] = {}
        self._going: list[int] = []
        self._rungs: dict[tuple[str, int, float], list[float]] = {}
        self.n_judged = 0
        """Candidates that fold 0 has judged: finished it, or were stopped; failed ones do not count."""
        self.n_promoted = 0
        """Candidates ever promoted, whatever became of them."""

    def __iter__(self) -> Iterator[CandidateState]:
        return iter(self._order)

    def __getitem__(self, key: str | int) -> CandidateState:
        """Return a candidate by name or by its order of first sight."""
        return self._order[key] if isinstance(key, int) else self._all[key]

    def get(self, name: str) -> CandidateState | None:
        """Return a candidate by name; None where it has not been seen."""
        return self._all.get(name)

    def meet(self, name: str, family: str) -> CandidateState:
        """Return a candidate by name, made on first sight."""
        candidate = self._all.get(name)
        if candidate is None:
            candidate = self._all[name] = CandidateState(name, family, number=len(self._order))
            self._order.append(candidate)
            self._families.setdefault(family, _Family())
            self._states.setdefault(candidate.state, {})[candidate.number] = candidate
        return candidate

    # ---------------------------------------------------------------- changes

    def settle(self, candidate: CandidateState, state: StateName, reason: str) -> None:
        """Give a candidate a state, with its reason."""
        self._leave(candidate)
        candidate.status = CandidateStatus(state, reason)
        self._enter(candidate)

    def promote(self, candidate: CandidateState, reason: str) -> None:
        """Let a candidate go on to the later folds."""
        self._leave(candidate)
        candidate.promoted, candidate.status = True, CandidateStatus("running", reason)
        self._enter(candidate)

    def finish(self, candidate: CandidateState, fold: int, utility: float) -> None:
        """Note a finished fold."""
        self._leave(candidate)
        candidate.metrics[fold] = utility
        self._enter(candidate)

    def pass_rung(self, candidate: CandidateState, fold: int, rung: float, utility: float) -> None:
        """Note the utility at a rung."""
        candidate.rungs[fold, rung] = utility
        insort(self._rungs.setdefault((candidate.family, fold, rung), []), utility)

    def forget_rungs(self, candidate: CandidateState, fold: int) -> None:
        """Take back what was seen of a dead fold run."""
        for key in [key for key in candidate.rungs if key[0] == fold]:
            seen = self._rungs[candidate.family, *key]
            del seen[bisect_left(seen, candidate.rungs.pop(key))]

    def _leave(self, candidate: CandidateState) -> None:
        """Take the candidate out of every index, before it changes."""
        del self._states[candidate.state][candidate.number]
        if candidate.is_going:
            del self._going[bisect_left(self._going, candidate.number)]
        self._count(candidate, -1)
        if candidate.is_ranked:
            ranking = self._families[candidate.family].ranking
            del ranking[bisect_left(ranking, (-candidate.metrics[0], candidate.number))]

    def _enter(self, candidate: CandidateState) -> None:
        """Put the candidate into every index, after it has changed."""
        self._states.setdefault(candidate.state, {})[candidate.number] = candidate
        if candidate.is_going:
            insort(self._going, candidate.number)
        self._count(candidate, +1)
        if candidate.is_ranked:
            insort(self._families[candidate.family].ranking, (-candidate.metrics[0], candidate.number, candidate))

    def _count(self, candidate: CandidateState, step: int) -> None:
        self.n_promoted += step * candidate.promoted
        self.n_judged += step * candidate.is_judged
        self._families[candidate.family].n_judged += step * candidate.is_judged

    # ---------------------------------------------------------------- questions

    def families(self) -> list[str]:
        """Return the families in order of first sight."""
        return list(self._families)

    def in_state(self, state: StateName) -> list[CandidateState]:
        """Return the candidates in a state, in order of first sight."""
        return [candidate for _, candidate in sorted(self._states.get(state, {}).items())]

    def going(self) -> list[int]:
        """Return the numbers of those that go on or have finished, ascending."""
        return self._going

    def n_judged_in(self, family: str) -> int:
        """Return how many of a family fold 0 has judged."""
        return self._families[family].n_judged

    def ranking(self, family: str, first: int | None = None) -> list[CandidateState]:
        """Return the family's candidates that finished fold 0 and did not fail, best first (ties: first seen first)."""
        return [candidate for _, _, candidate in self._families[family].ranking[:first]]

    def leader_on_fold_0(self, candidate: CandidateState) -> CandidateState | None:
        """Return the best other candidate by fold 0 that was not stopped; of equals that of the first family."""
        leader: CandidateState | None = None
        for family in self._families.values():
            rivals = (other for _, _, other in family.ranking if other is not candidate and other.state != "stopped")
            best = next(rivals, None)
            if best is not None and (leader is None or best.metrics[0] > leader.metrics[0]):
                leader = best
        return leader

    def rank(self, candidate: CandidateState) -> int:
        """Return the rank, from 1, in the family by fold 0."""
        return bisect_left(self._families[candidate.family].ranking, (-candidate.metrics[0], candidate.number)) + 1

    def seen_at(self, family: str, fold: int, rung: float) -> list[float]:
        """Return the utilities that the family's runs of a fold showed at a rung, worst first."""
        return self._rungs.get((family, fold, rung), [])
