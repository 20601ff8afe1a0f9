"""`FoldLadder`: keeps what fold runs report, asks the rules what to stop and to promote, and records the answers.

Pure: no Ray, files, clock or randomness. Its state depends only on the calls made, so a ladder is rebuilt by replaying
`report` and `finish` in their recorded order. Each rule has a module of its own; `docs/ladder.md` explains them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from search.ladder.candidate_index import CandidateIndex
from search.ladder.candidate_state import CandidateState
from search.ladder.dead_run_rule import judge_dead_run
from search.ladder.decisions import BestBlend, BlendGain, CandidateStatus, Decision, FoldRun, is_dead
from search.ladder.drop_rule import mean_over, shortfall, why_dropped
from search.ladder.fold_utilities import FoldUtilities
from search.ladder.noise_band import noise_band, rung_band
from search.ladder.promotion_by_blend import may_promote_by_blend, promoted_by_blend
from search.ladder.promotion_by_rank import is_promoted_by_rank, kept_candidates, n_places, rank_on_fold_0
from search.ladder.run_order import best_stopped, run_order
from search.ladder.rung_gains import RungGains
from search.ladder.rung_rule import judge_at_rung, rung_at
from search.ladder.settings import LadderSettings
from search.ladder.targets_evidence import TargetsEvidence


class FoldLadder:
    """The state of a search; the same calls always give the same answers."""

    def __init__(self, settings: LadderSettings, *, n_folds: int) -> None:
        self.settings = settings
        self.n_folds = n_folds
        self._candidates = CandidateIndex()
        self._utilities = FoldUtilities(n_folds)
        self._evidence = TargetsEvidence()
        self._rung_gains = RungGains()
        self._new_available = True
        self._held_back: frozenset[str] = frozenset()
        self._to_repeat: set[int] = set()
        self._recorded_promotions: dict[str, str] = {}

    # ---------------------------------------------------------------- what happened

    def start(self, run: FoldRun) -> None:
        """Record that a worker has a run; the start of a later fold promotes its candidate."""
        candidate = self._candidates.get_or_add(run.candidate, run.family)
        candidate.to_repeat.discard(run.fold)
        if run.fold in candidate.utilities:
            return
        candidate.live.add(run.fold)
        if not candidate.ended and not candidate.promoted and (run.fold > 0 or not self.settings.enabled):
            candidate.promotion = self._why_promoted(candidate)
            self._candidates.promote(candidate, candidate.promotion)

    def attempt(self, run: FoldRun) -> int:
        """Return 0, or 1 if the run failed to learn once (the caller then uses another seed and a lower rate)."""
        candidate = self._candidates.get(run.candidate)
        return candidate.failures.get(run.fold, 0) if candidate else 0

    def report(self, run: FoldRun, progress: float, utility: float) -> Decision:
        """Judge a run, started or not, scored at `progress` in (0, 1]; NaN: it failed to learn. A rung counts once."""
        candidate = self._started(run)
        if candidate.state in ("stopped", "failed"):
            candidate.live.discard(run.fold)
            return Decision(False, candidate.reason)
        if run.fold not in candidate.utilities and is_dead(utility, self.settings.dead_below):
            return self._judge_dead_run(candidate, run.fold, utility, f"at {progress:.0%} of its schedule")
        if candidate.promoted and self._drop_if_hopeless(candidate):
            candidate.live.discard(run.fold)
            return Decision(False, candidate.reason)
        rung = rung_at(progress, self.settings.rungs)
        if rung is None or (run.fold, rung) in candidate.rungs:
            where = f"fold {run.fold} at {progress:.0%}"
            return Decision(True, f"{where}: utility {utility:.4f}, not compared: no new rung is passed")
        self._candidates.record_rung(candidate, run.fold, rung, utility)
        return self._judge_at_rung(candidate, run.fold, rung)

    def finish(
        self,
        run: FoldRun,
        utility: float,
        prediction: NDArray[np.floating] | None,
        target: NDArray[np.floating] | None,
        group: NDArray[np.integer] | None = None,
    ) -> Decision:
        """Record a finished fold run; `go` is False if it failed to learn, and its tables are then not kept.

        `prediction` and `target`, [rows] or [rows, targets], are out-of-fold, in fold order; None if unknown. Each
        `group` [rows] stays whole in the halves of a blend; None: halves are alternating rows.
        """
        candidate = self._started(run)
        if run.fold in candidate.utilities:
            return Decision(True, f"fold {run.fold} had finished before")
        if is_dead(utility, self.settings.dead_below) and candidate.state != "failed":
            return self._judge_dead_run(candidate, run.fold, utility, "at its end")
        candidate.live.discard(run.fold)
        if candidate.state == "failed":
            return Decision(False, candidate.reason)
        for (fold, rung), passed in candidate.rungs.items():
            if fold == run.fold:
                self._rung_gains.add(run.family, fold, rung, utility - passed)
        self._candidates.finish(candidate, run.fold, utility)
        self._utilities.put(candidate.number, run.fold, utility)
        if prediction is not None and target is not None:
            self._evidence.add(run.candidate, run.fold, prediction, target, group)
        self._update_state(candidate)
        return Decision(True, f"fold {run.fold} finished with {utility:.4f}")

    def fail(self, run: FoldRun, reason: str) -> None:
        """Fail the run's candidate for good."""
        candidate = self._started(run)
        candidate.live.discard(run.fold)
        candidate.to_repeat.clear()
        self._candidates.set_state(candidate, "failed", reason)
        self._utilities.forget(candidate.number)

    def lost(self, run: FoldRun) -> None:
        """Record that a started run has no worker any more; `next_run` returns it again."""
        candidate = self._candidates[run.candidate]
        if run.fold in candidate.live:
            candidate.live.discard(run.fold)
            if not candidate.ended:
                self._repeat(candidate, run.fold)

    def recall_promotions(self, promotions: Mapping[str, str]) -> None:
        """Set why candidates were promoted before a replay, which cannot find that out."""
        self._recorded_promotions = dict(promotions)

    def hold_back(self, candidates: Iterable[str]) -> None:
        """Start nothing of these candidates; what they have done still counts in comparisons."""
        self._held_back = frozenset(candidates)

    # ---------------------------------------------------------------- what is next

    def next_run(self, *, new_available: bool) -> FoldRun | None:
        """Return the run to start now; None: start a new candidate (if `new_available`) or wait.

        The run counts as started only after `start`. When nothing new, nothing live and nothing to start is left, the
        waiting candidates stop; if then none is finished, the best of the stopped ones resumes.
        """
        self._new_available = new_available
        run = self._run_to_repeat() or self._next_promoted_run() or self._promotion_by_blend()
        if run or new_available or any(candidate.live for candidate in self._candidates):
            return run
        for candidate in self._candidates.in_state("waiting"):
            if self._may_run(candidate):
                reason = f"not promoted: {self._why_waiting(candidate)}"
                self._candidates.set_state(candidate, "stopped", reason)
        return self._resume_best_stopped()

    def status(self) -> dict[str, CandidateStatus]:
        """Return state and reason of every candidate, in order of first report."""
        return {candidate.name: self._status(candidate) for candidate in self._candidates}

    def n_open(self) -> int:
        """Count the runs that could start now: those to repeat, and the open folds of promoted candidates."""
        open_ones = [c for c in self._candidates if not c.ended and self._may_run(c)]
        return sum(self.n_folds - len(c.utilities) - len(c.live) if c.promoted else len(c.to_repeat) for c in open_ones)

    def finished(self) -> tuple[str, ...]:
        """Return the candidates that have finished all folds, in order of first report."""
        return tuple(candidate.name for candidate in self._candidates.in_state("finished"))

    def best_blend(self, candidates: tuple[str, ...]) -> BestBlend | None:
        """Return how good the blend of some finished candidates is; None: unknown. May run in another thread."""
        return self._evidence.best_blend(candidates, range(self.n_folds))

    @property
    def noise(self) -> float:
        """The noise band that the search shows so far."""
        return noise_band(*self._utilities.residual(), self.settings)

    # ---------------------------------------------------------------- what the rules decide

    def _judge_at_rung(self, candidate: CandidateState, fold: int, rung: float) -> Decision:
        settings, utility, where = self.settings, candidate.rungs[fold, rung], f"fold {fold} at {rung:.0%}"
        if not settings.enabled or fold not in settings.rung_folds or candidate.resumed or fold in candidate.utilities:
            return Decision(True, f"{where}: utility {utility:.4f}, not cut on this fold")
        seen = self._candidates.seen_at(candidate.family, fold, rung)
        band = rung_band(self.noise, *self._rung_gains.residual(fold, rung), settings)
        decision = judge_at_rung(utility, seen, band, where=where, family=candidate.family, settings=settings)
        if not decision.go:
            candidate.live.discard(fold)
            self._candidates.set_state(candidate, "stopped", decision.reason)
        return decision

    def _promoted_by_rank(self, family: str, kept: list[CandidateState]) -> list[CandidateState]:
        """Return the waiting candidates of a family that rank promotes, and record why."""
        chosen, places = [], self._n_places(family)
        for candidate in self._candidates.ranking(family, places):
            if candidate.state != "waiting" or not self._may_run(candidate):
                continue
            behind, gain, is_kept = self._shortfall(candidate), partial(self._blend_gain, candidate), candidate in kept
            if is_promoted_by_rank(behind, gain, is_kept=is_kept, settings=self.settings):
                candidate.promotion = f"promoted: {self._rank(candidate)}; top {places} promoted"
                chosen.append(candidate)
            elif not is_kept:
                break  # everyone ranked below a hopeless candidate is hopeless too
        return chosen

    def _promotion_by_blend(self) -> FoldRun | None:
        """Return the next run of the waiting candidate that the blend promotes, and record why."""
        n_promoted, n_judged = self._candidates.n_promoted, self._candidates.n_judged
        if not may_promote_by_blend(n_promoted, n_judged, new_available=self._new_available, settings=self.settings):
            return None
        waiting = {c.name: c for c in self._candidates.in_state("waiting") if self._may_run(c)}
        gains = self._evidence.gains(waiting, self._members((0,)), (0,))
        for name, candidate in waiting.items():
            candidate.gain = gains.get(name)
        best = promoted_by_blend(gains, self.settings.min_gain)
        if best is None:
            return None
        waiting[best].promotion = f"promoted: adds {gains[best]} on fold 0; {self.settings.min_gain:g} needed"
        return waiting[best].run(waiting[best].next_fold(self.n_folds) or 0)

    def _drop_if_hopeless(self, candidate: CandidateState) -> bool:
        """Stop a promoted candidate if the drop rule says so."""
        if not self.settings.enabled or candidate.resumed or not candidate.utilities or candidate.state != "running":
            return False
        behind, gain = self._shortfall(candidate), partial(self._blend_gain, candidate)
        reason = why_dropped(behind, gain, is_kept=candidate in self._kept(), settings=self.settings)
        if reason is None:
            return False
        candidate.to_repeat.clear()
        self._candidates.set_state(candidate, "stopped", reason)
        return True

    def _judge_dead_run(self, candidate: CandidateState, fold: int, utility: float, when: str) -> Decision:
        n_before = candidate.failures.get(fold, 0)
        candidate.live.discard(fold)
        candidate.failures[fold] = n_before + 1
        what, floor = f"fold {fold} failed to learn {when}", self.settings.dead_below
        decision = judge_dead_run(utility, what, dead_below=floor, n_before=n_before, may_retry=not candidate.ended)
        if n_before:
            self.fail(candidate.run(fold), decision.reason)
        else:
            self._candidates.forget_rungs(candidate, fold)
        if decision.retry:
            self._repeat(candidate, fold)
        return decision

    # ---------------------------------------------------------------- what the rules compare

    def _n_places(self, family: str) -> int:
        n_judged = self._candidates.n_judged_in(family)
        return n_places(n_judged, new_available=self._new_available, settings=self.settings)

    def _kept(self) -> list[CandidateState]:
        families, quota = self._candidates.families(), self.settings.family_quota
        return kept_candidates((self._candidates.ranking(family, quota) for family in families), self.settings)

    def _members(self, folds: tuple[int, ...]) -> tuple[str, ...]:
        """Return the members of the blend: promoted, not dropped or failed, with predictions for all `folds`."""
        survivors = (self._candidates[number].name for number in self._candidates.survivors())
        return self._evidence.known(survivors, folds)

    def _blend_gain(self, candidate: CandidateState) -> BlendGain | None:
        """Measure what a candidate adds to the blend of the others, on the folds that it has done."""
        others = tuple(name for name in self._members(candidate.folds) if name != candidate.name)
        candidate.gain = self._evidence.gain(candidate.name, others, candidate.folds)
        return candidate.gain

    def _leader_over(self, candidate: CandidateState, folds: tuple[int, ...]) -> CandidateState | None:
        """Return the best other candidate, by mean over exactly these folds."""
        if folds == (0,):
            return self._candidates.leader_on_fold_0(candidate)
        rivals = [number for number in self._candidates.survivors() if number != candidate.number]
        best = self._utilities.best_over(rivals, folds)
        return None if best is None else self._candidates[best]

    def _shortfall(self, candidate: CandidateState) -> str | None:
        """Compare with the leader over the folds done, or over fold 0 if nobody else has done them all."""
        leader, folds = self._leader_over(candidate, candidate.folds), candidate.folds
        if leader is None and folds[0] == 0:
            leader, folds = self._leader_over(candidate, (0,)), (0,)
        if leader is None:
            return None
        both = candidate.utilities, leader.utilities
        return shortfall(*both, folds, noise=self.noise, leader=leader.name, settings=self.settings)

    # ---------------------------------------------------------------- states and their reasons

    def _update_state(self, candidate: CandidateState) -> None:
        """Change the state of a candidate that has just finished a fold."""
        if len(candidate.utilities) == self.n_folds:
            mean = mean_over(candidate.utilities, candidate.folds)
            candidate.to_repeat.clear()
            self._candidates.promote(candidate, candidate.reason)
            self._candidates.set_state(candidate, "finished", f"all {self.n_folds} folds done, mean {mean:.4f}")
        elif not candidate.promoted and candidate.state == "running" and 0 in candidate.utilities:
            self._candidates.set_state(candidate, "waiting", candidate.reason)
        else:
            self._drop_if_hopeless(candidate)

    def _why_promoted(self, candidate: CandidateState) -> str:
        """Return the reason as decided, as recorded before a replay, or as far as fold 0 shows it."""
        if not self.settings.enabled:
            return "the ladder is off: all folds run"
        if candidate.promotion:
            return candidate.promotion
        if candidate.name in self._recorded_promotions:
            return self._recorded_promotions[candidate.name]
        rank = f"{self._rank(candidate)}; " if candidate.is_ranked else ""
        return f"promoted: {rank}its later folds had started before"

    def _status(self, candidate: CandidateState) -> CandidateStatus:
        if candidate.state == "waiting":
            return CandidateStatus("waiting", self._why_waiting(candidate))
        return replace(candidate.status, promotion=candidate.promotion) if candidate.promoted else candidate.status

    def _why_waiting(self, candidate: CandidateState) -> str:
        """Return the reason, which changes with the family; the gain is that of the last comparison."""
        behind, gain = self._shortfall(candidate), candidate.gain
        adds = f"adds {gain}, {self.settings.min_gain:g} needed" if gain else "no blend yet to add to"
        rank = f"{self._rank(candidate)}; top {self._n_places(candidate.family)} promoted"
        return "; ".join([rank, behind, adds] if behind else [rank, adds])

    def _rank(self, candidate: CandidateState) -> str:
        rank, n_judged = self._candidates.rank(candidate), self._candidates.n_judged_in(candidate.family)
        return rank_on_fold_0(candidate.utilities[0], rank, n_judged, candidate.family)

    # ---------------------------------------------------------------- starting runs

    def _repeat(self, candidate: CandidateState, fold: int) -> None:
        candidate.to_repeat.add(fold)
        self._to_repeat.add(candidate.number)

    def _run_to_repeat(self) -> FoldRun | None:
        self._to_repeat = {number for number in self._to_repeat if self._candidates[number].to_repeat}
        for number in sorted(self._to_repeat):
            candidate = self._candidates[number]
            if not candidate.ended and self._may_run(candidate):
                return candidate.run(min(candidate.to_repeat))
        return None

    def _next_promoted_run(self) -> FoldRun | None:
        """Return the next fold of a candidate that is promoted, or that rank promotes now."""
        kept = self._kept()
        promoted = [c for c in self._candidates.in_state("running") if c.promoted and self._may_run(c)]
        promoted += [c for family in self._candidates.families() for c in self._promoted_by_rank(family, kept)]

        def order(candidate: CandidateState) -> tuple[int, float]:
            is_certain = not self.settings.enabled or candidate.resumed or candidate in kept
            return run_order(candidate, is_certain=is_certain)

        for candidate in sorted(promoted, key=order):
            fold = candidate.next_fold(self.n_folds)
            if fold is not None and not self._drop_if_hopeless(candidate):
                return candidate.run(fold)
        return None

    def _resume_best_stopped(self) -> FoldRun | None:
        """Resume the best stopped candidate if otherwise none would complete."""
        mine = [candidate for candidate in self._candidates if self._may_run(candidate)]
        best = best_stopped(candidate for candidate in mine if candidate.state == "stopped")
        if best is None or any(candidate.state == "finished" for candidate in mine):
            return None
        best.resumed = True
        best.promotion = f"resumed because no other candidate is left ({best.reason})"
        self._candidates.promote(best, best.promotion)
        return best.run(best.next_fold(self.n_folds) or 0)

    def _may_run(self, candidate: CandidateState) -> bool:
        return candidate.name not in self._held_back

    def _started(self, run: FoldRun) -> CandidateState:
        self.start(run)
        return self._candidates[run.candidate]
