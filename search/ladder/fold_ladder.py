"""The fold ladder: every decision about which fold run stops, waits or starts next.

Pure: no Ray, files, clock or randomness. The state is plain data and a function of the sequence of calls, so a ladder
is rebuilt by replaying `report` and `finish` in the order in which they were recorded. `docs/ladder.md` explains it.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from search.ladder.blend_gain import BlendEvidence
from search.ladder.candidate_index import CandidateIndex
from search.ladder.candidate_state import CandidateState
from search.ladder.decisions import BestBlend, CandidateStatus, Decision, FoldRun, is_dead
from search.ladder.fold_utilities import FoldUtilities
from search.ladder.rung_gains import RungGains
from search.ladder.settings import LadderSettings

_RUNG_SLACK = 0.1
"""A report up to this share of the schedule behind a rung counts there; a later one is compared with nothing."""


class FoldLadder:
    """Decides from observations alone; replaying the same calls gives the same answers."""

    def __init__(self, settings: LadderSettings, *, n_folds: int) -> None:
        self.settings = settings
        self.n_folds = n_folds
        self._roster = CandidateIndex()
        self._table = FoldUtilities(n_folds)
        self._evidence = BlendEvidence()
        self._new_available = True
        self._held: frozenset[str] = frozenset()
        self._growth = RungGains()
        self._repeats: set[int] = set()
        self._recalled: dict[str, str] = {}

    # ---------------------------------------------------------------- what happened

    def start(self, run: FoldRun) -> None:
        """Note that a run has been handed to a worker; a later fold of a waiting candidate promotes it."""
        candidate = self._roster.meet(run.candidate, run.family)
        candidate.again.discard(run.fold)
        if run.fold in candidate.metrics:
            return
        candidate.live.add(run.fold)
        if not candidate.ended and not candidate.promoted and (run.fold > 0 or not self.settings.enabled):
            candidate.promotion = self._why_promoted(candidate)
            self._roster.promote(candidate, candidate.promotion)

    def attempt(self, run: FoldRun) -> int:
        """Return 0, or 1 for the retry of a dead run (the caller trains it with another seed and a lower rate)."""
        candidate = self._roster.get(run.candidate)
        return candidate.deaths.get(run.fold, 0) if candidate else 0

    def report(self, run: FoldRun, progress: float, metric: float) -> Decision:
        """Judge a run that has just scored itself at `progress` in (0, 1]; NaN means dead.

        A run that `start` was not told of counts as started; a rung reported twice counts once.
        """
        candidate = self._started(run)
        if candidate.state in ("stopped", "failed"):
            candidate.live.discard(run.fold)
            return Decision(False, candidate.reason)
        if run.fold not in candidate.metrics and is_dead(metric, self.settings.dead_below):
            return self._bury(candidate, run.fold, metric, f"at {progress:.0%} of its schedule")
        if candidate.promoted and self._drop_if_hopeless(candidate):
            candidate.live.discard(run.fold)
            return Decision(False, candidate.reason)
        rung = self._rung_of(progress)
        if rung is None or (run.fold, rung) in candidate.rungs:
            return Decision(True, f"fold {run.fold} at {progress:.0%}: {metric:.4f}, no rung to compare at")
        self._roster.pass_rung(candidate, run.fold, rung, metric)
        return self._judge_at_rung(candidate, run.fold, rung)

    def finish(
        self,
        run: FoldRun,
        metric: float,
        prediction: NDArray[np.floating] | None,
        score: NDArray[np.floating] | None,
        group: NDArray[np.integer] | None = None,
    ) -> Decision:
        """Take a finished fold run; `go` is False when it turned out dead, its tables are then not to be kept.

        Args:
            run: the run that ended.
            metric: utility over the whole fold.
            prediction: [rows] out-of-fold predictions in fold order; None where unknown.
            score: [rows] the truth in the same order.
            group: [rows] group of each row, kept whole when halves are made; None: halves are alternating rows.
        """
        candidate = self._started(run)
        if run.fold in candidate.metrics:
            return Decision(True, f"fold {run.fold} had finished before")
        if is_dead(metric, self.settings.dead_below) and candidate.state != "failed":
            return self._bury(candidate, run.fold, metric, "at its end")
        candidate.live.discard(run.fold)
        if candidate.state == "failed":
            return Decision(False, candidate.reason)
        for (fold, rung), passed in candidate.rungs.items():
            if fold == run.fold:
                self._growth.add(run.family, fold, rung, metric - passed)
        self._roster.finish(candidate, run.fold, metric)
        self._table.put(candidate.number, run.fold, metric)
        if prediction is not None and score is not None:
            self._evidence.add(run.candidate, run.fold, prediction, score, group)
        self._settle_after_finish(candidate)
        return Decision(True, f"fold {run.fold} finished with {metric:.4f}")

    def kill(self, run: FoldRun, reason: str) -> None:
        """Fail the run's candidate for good."""
        candidate = self._started(run)
        candidate.live.discard(run.fold)
        candidate.again.clear()
        self._roster.settle(candidate, "failed", reason)
        self._table.forget(candidate.number)

    def lost(self, run: FoldRun) -> None:
        """Note that a started run has no worker any more; `next_run` hands it out again."""
        candidate = self._roster[run.candidate]
        if run.fold in candidate.live:
            candidate.live.discard(run.fold)
            if not candidate.ended:
                self._repeat(candidate, run.fold)

    def recall(self, promotions: Mapping[str, str]) -> None:
        """Take the reasons of promotions decided before a replay, by candidate: a replay cannot know them."""
        self._recalled = dict(promotions)

    def hold_back(self, candidates: Iterable[str]) -> None:
        """Hand out nothing of these candidates; what they have done still counts in comparisons."""
        self._held = frozenset(candidates)

    # ---------------------------------------------------------------- what comes next

    def next_run(self, *, new_available: bool) -> FoldRun | None:
        """Return the run to start now, best first; None: start something new (if `new_available`) or wait.

        The run counts as started only when `start` is told so. With nothing new, nothing live and nothing to hand out,
        the waiting candidates are stopped; if then none is finished, the best of the stopped ones is taken back.
        """
        self._new_available = new_available
        run = self._run_again() or self._best_run()
        if run or new_available or any(candidate.live for candidate in self._roster):
            return run
        self._stop_waiting()
        return self._revive()

    def status(self) -> dict[str, CandidateStatus]:
        """Return state and reason of every candidate seen, in order of first sight."""
        return {c.name: self._status(c) for c in self._roster}

    def status_of(self, candidate: str) -> CandidateStatus:
        """Return state and reason of one candidate seen."""
        return self._status(self._roster[candidate])

    def n_open(self) -> int:
        """Count the runs that could start now: lost or dead ones again, and the folds of those that go on.

        Whoever is yet to be promoted does not count.
        """
        free = [c for c in self._roster if not c.ended and c.name not in self._held]
        return sum(self.n_folds - len(c.metrics) - len(c.live) if c.promoted else len(c.again) for c in free)

    def finished(self) -> tuple[str, ...]:
        """Return the candidates that have finished all folds, in order of first sight."""
        return tuple(candidate.name for candidate in self._roster.in_state("finished"))

    def blended(self, candidates: tuple[str, ...]) -> BestBlend | None:
        """Return how good the blend of some finished candidates is; None: of none are the predictions known.

        Decides nothing, and may run in another thread while the ladder goes on.
        """
        return self._evidence.blended(candidates, range(self.n_folds))

    # ---------------------------------------------------------------- dead runs

    def _bury(self, candidate: CandidateState, fold: int, metric: float, when: str) -> Decision:
        floor = self.settings.dead_below
        bound = "not a number (NaN or constant predictions)" if math.isnan(metric) else f"below {floor}"
        reason = f"fold {fold} is dead {when}: metric {metric:.4f} is {bound}"
        candidate.live.discard(fold)
        candidate.deaths[fold] = candidate.deaths.get(fold, 0) + 1
        if candidate.deaths[fold] > 1:
            self.kill(candidate.run(fold), f"{reason}, for the second time")
            return Decision(False, candidate.reason)
        self._roster.forget_rungs(candidate, fold)
        if candidate.ended:
            return Decision(False, reason)
        self._repeat(candidate, fold)
        return Decision(False, f"{reason}; tried once more with another seed and a lower rate", retry=True)

    def _repeat(self, candidate: CandidateState, fold: int) -> None:
        candidate.again.add(fold)
        self._repeats.add(candidate.number)

    # ---------------------------------------------------------------- inside a fold

    @property
    def noise(self) -> float:
        """The band in which two runs count as equal on one fold: standard deviation of their difference over folds.

        The errors that candidate and fold effects leave have variance s^2; the difference of two candidates on a fold
        has 2 s^2. The prior `noise` counts for `prior_folds` degrees of freedom.
        """
        squares, freedom = self._table.residual()
        prior = self.settings.prior_folds
        return math.sqrt((prior * self.settings.noise**2 + 2 * squares) / (prior + freedom))

    def _band_at(self, fold: int, rung: float) -> float:
        """How far behind the cut-off a run may be at a rung: the noise or what it may yet make up for, the larger.

        What runs of a family gain from there to the end has variance g^2; `z` deviations are left to a slow starter.
        """
        squares, freedom = self._growth.residual(fold, rung)
        prior = self.settings.prior_folds
        growth = math.sqrt((prior * self.settings.growth**2 + squares) / (prior + freedom))
        return max(self.noise, self.settings.z * growth)

    def _rung_of(self, progress: float) -> float | None:
        passed = [rung for rung in self.settings.rungs if rung <= progress + 1e-9]
        return passed[-1] if passed and progress < 1 and progress - passed[-1] <= _RUNG_SLACK else None

    def _judge_at_rung(self, candidate: CandidateState, fold: int, rung: float) -> Decision:
        settings = self.settings
        where = f"fold {fold} at {rung:.0%}"
        metric = candidate.rungs[fold, rung]
        if not settings.enabled or fold not in settings.rung_folds or candidate.revived or fold in candidate.metrics:
            return Decision(True, f"{where}: {metric:.4f}, never cut here")
        seen, band = self._roster.seen_at(candidate.family, fold, rung), self._band_at(fold, rung)
        if len(seen) - 1 < settings.min_peers:
            return Decision(True, f"{where}: {metric:.4f}, only {len(seen) - 1} of {settings.min_peers} peers seen")
        kept = math.ceil(len(seen) / settings.rung_eta)
        cutoff = seen[-kept]
        against = f"the {cutoff:.4f} of rank {kept} of {len(seen)} in {candidate.family}"
        if metric >= cutoff - band:
            return Decision(True, f"{where}: {metric:.4f} is above or within {band:.4f} of {against}")
        candidate.live.discard(fold)
        self._roster.settle(
            candidate, "stopped", f"cut on {where}: {metric:.4f} is more than {band:.4f} below {against}"
        )
        return Decision(False, candidate.reason)

    # ---------------------------------------------------------------- after fold 0

    def _quota(self, family: str) -> int:
        """How many of a family go on by rank.

        While new candidates are to come it is none, or with `promote_early` the share rounded down: a better one may
        arrive, and nobody is promoted for having come first. Afterwards it is rounded up, and at least `family_quota`.
        """
        share = self._roster.n_judged_in(family) / self.settings.eta
        if self._new_available:
            return math.floor(share) if self.settings.promote_early else 0
        return max(self.settings.family_quota, math.ceil(share))

    def _ranked_in(self, family: str, kept: list[CandidateState]) -> list[CandidateState]:
        """The waiting candidates of a family that rank promotes: kept, or not hopeless on fold 0; sets the reason.

        Whoever ranks behind a hopeless one is hopeless, too.
        """
        quota = self._quota(family)
        chosen = []
        for candidate in self._roster.ranking(family, quota):
            if candidate.state != "waiting" or not self._is_free(candidate):
                continue
            if self._shortfall(candidate) and candidate not in kept:
                break
            if self._shortfall(candidate) and not self._is_wanted(candidate):
                continue
            candidate.promotion = f"goes on: {self._place(candidate)}, {quota} go on"
            chosen.append(candidate)
        return chosen

    def _place(self, candidate: CandidateState) -> str:
        """Say where fold 0 puts a candidate in its family."""
        return (
            f"fold 0 {candidate.metrics[0]:.4f} is rank {self._roster.rank(candidate)} of "
            f"{self._roster.n_judged_in(candidate.family)} judged in {candidate.family}"
        )

    def _blended_in(self) -> CandidateState | None:
        """The waiting candidate that raises the blend most, if enough; sets its reason."""
        share = self._roster.n_judged / self.settings.eta if self.settings.promote_early else 0
        if self._new_available and self._roster.n_promoted >= math.floor(share):
            return None
        members = self._members((0,))
        best: tuple[float, CandidateState] | None = None
        waiting = [candidate for candidate in self._roster.in_state("waiting") if self._is_free(candidate)]
        gains = self._evidence.gains((candidate.name for candidate in waiting), members, (0,))
        for candidate in waiting:
            gain = candidate.gain = gains.get(candidate.name)
            if gain and gain.reaches(self.settings.min_gain) and (best is None or gain.mean > best[0]):
                best = (gain.mean, candidate)
                candidate.promotion = f"goes on: adds {gain} on fold 0, at least {self.settings.min_gain:g} asked"
        return best[1] if best else None

    def _members(self, folds: tuple[int, ...]) -> tuple[str, ...]:
        """The candidates that go on or have finished, with predictions for all `folds`: the blend to be raised."""
        going = (self._roster[number].name for number in self._roster.going())
        return self._evidence.known(going, folds)

    def _why_promoted(self, candidate: CandidateState) -> str:
        """The reason of a candidate that goes on: as decided, as recalled, or rebuilt from fold 0."""
        if not self.settings.enabled:
            return "the ladder is off: all folds run"
        if candidate.promotion:
            return candidate.promotion
        if candidate.name in self._recalled:
            return self._recalled[candidate.name]
        place = f"{self._place(candidate)}; " if candidate.is_ranked else ""
        return f"goes on: {place}its later folds had been started before"

    def _status(self, candidate: CandidateState) -> CandidateStatus:
        if candidate.state == "waiting":
            return self._waiting(candidate)
        return replace(candidate.status, promotion=candidate.promotion) if candidate.promoted else candidate.status

    def _waiting(self, candidate: CandidateState) -> CandidateStatus:
        """Where a waiting candidate stands, which changes with its family.

        What it adds to the blend is what was found when the blend last had a place to give.
        """
        gain, shortfall = candidate.gain, self._shortfall(candidate)
        return CandidateStatus(
            "waiting",
            f"{self._place(candidate)}, {self._quota(candidate.family)} go on; "
            + (f"{shortfall}; " if shortfall else "")
            + (f"adds {gain}, {self.settings.min_gain:g} asked" if gain else "no blend yet to add to"),
        )

    # ---------------------------------------------------------------- beside the leader

    def _kept(self) -> list[CandidateState]:
        """The best of the best families: different families are what ensembles live from."""
        settings, families = self.settings, self._roster.families()
        best = [ranking for family in families if (ranking := self._roster.ranking(family, settings.family_quota))]
        best.sort(key=lambda ranking: -ranking[0].metrics[0])
        return [candidate for ranking in best[: settings.kept_families] for candidate in ranking]

    def _leader_over(self, candidate: CandidateState, folds: tuple[int, ...]) -> CandidateState | None:
        """The best other candidate, by mean over exactly these folds."""
        if folds == (0,):
            return self._roster.leader_on_fold_0(candidate)
        rivals = [number for number in self._roster.going() if number != candidate.number]
        best = self._table.best_over(rivals, folds)
        return None if best is None else self._roster[best]

    def _paired(self, candidate: CandidateState) -> tuple[CandidateState, tuple[int, ...]] | None:
        """The leader and the folds to compare over: those done, or fold 0 where nobody else has done them all."""
        leader, folds = self._leader_over(candidate, candidate.folds), candidate.folds
        if leader is None and folds[0] == 0:
            leader, folds = self._leader_over(candidate, (0,)), (0,)
        return None if leader is None else (leader, folds)

    def _shortfall(self, candidate: CandidateState) -> str | None:
        """Say how far a hopeless candidate is behind the leader; None: there is hope, or no leader."""
        pair = self._paired(candidate)
        if pair is None:
            return None
        (leader, folds), noise = pair, self.noise
        behind = candidate.mean(folds) - leader.mean(folds)
        hope = behind + self.settings.z * noise / math.sqrt(len(folds))
        if hope >= 0:
            return None
        where = f"fold{'s' * (len(folds) > 1)} {', '.join(map(str, folds))}"
        return f"mean difference to {leader.name} on {where} {behind:+.4f}, at best {hope:+.4f} with noise {noise:.4f}"

    def _is_wanted(self, candidate: CandidateState) -> bool:
        """Tell whether a hopeless candidate stays: the blend gains from it, or, where that is not known, it is kept."""
        others = tuple(name for name in self._members(candidate.folds) if name != candidate.name)
        gain = candidate.gain = self._evidence.gain(candidate.name, others, candidate.folds)
        return gain.mean >= self.settings.min_gain if gain else candidate in self._kept()

    def _drop_if_hopeless(self, candidate: CandidateState) -> bool:
        """Stop a promoted candidate that is hopelessly behind the leader and adds nothing to the blend."""
        folds, settings = candidate.folds, self.settings
        if not settings.enabled or candidate.revived or not folds or candidate.state != "running":
            return False
        shortfall = self._shortfall(candidate)
        if shortfall is None:
            return False
        if self._is_wanted(candidate):
            return False
        gain = candidate.gain
        candidate.again.clear()
        reason = f"dropped: {shortfall}; " + (
            f"adds {gain}, {settings.min_gain:g} asked" if gain else "what it adds to a blend is not known"
        )
        self._roster.settle(candidate, "stopped", reason)
        return True

    def _settle_after_finish(self, candidate: CandidateState) -> None:
        if len(candidate.metrics) == self.n_folds:
            mean = candidate.mean(candidate.folds)
            candidate.again.clear()
            self._roster.promote(candidate, candidate.reason)
            self._roster.settle(candidate, "finished", f"all {self.n_folds} folds done, mean {mean:.4f}")
        elif not candidate.promoted and candidate.state == "running" and 0 in candidate.metrics:
            self._roster.settle(candidate, "waiting", candidate.reason)
        else:
            self._drop_if_hopeless(candidate)

    # ---------------------------------------------------------------- handing out

    def _run_again(self) -> FoldRun | None:
        self._repeats = {number for number in self._repeats if self._roster[number].again}
        for candidate in map(self._roster.__getitem__, sorted(self._repeats)):
            if not candidate.ended and self._is_free(candidate):
                return candidate.run(min(candidate.again))
        return None

    def _best_run(self) -> FoldRun | None:
        """The next fold of a candidate that goes on; else of one that the blend wants.

        Kept ones first, best on fold 0 first; then those with the fewest folds, which the next may show hopeless.
        """
        kept = self._kept()
        going = [c for c in self._roster.in_state("running") if c.promoted and self._is_free(c)]
        going += [c for family in self._roster.families() for c in self._ranked_in(family, kept)]

        def turn(candidate: CandidateState) -> tuple[int, float]:
            sure = not self.settings.enabled or candidate in kept or candidate.revived
            n_begun = 0 if sure else len(candidate.metrics.keys() | candidate.live)
            return n_begun, -candidate.metrics.get(0, math.inf)

        for candidate in sorted(going, key=turn):
            fold = self._open_fold(candidate)
            if fold is not None and not self._drop_if_hopeless(candidate):
                return candidate.run(fold)
        wanted = self._blended_in()
        return wanted.run(self._open_fold(wanted) or 0) if wanted else None

    def _is_free(self, candidate: CandidateState) -> bool:
        """Tell whether the candidate may be handed out: it is not held back."""
        return candidate.name not in self._held

    def _open_fold(self, candidate: CandidateState) -> int | None:
        taken = candidate.metrics.keys() | candidate.live
        return next((fold for fold in range(self.n_folds) if fold not in taken), None)

    def _stop_waiting(self) -> None:
        for candidate in self._roster.in_state("waiting"):
            if self._is_free(candidate):
                self._roster.settle(candidate, "stopped", f"not promoted: {self._waiting(candidate).reason}")

    def _revive(self) -> FoldRun | None:
        """Take back the best stopped candidate when otherwise none would complete."""
        mine = [c for c in self._roster if self._is_free(c)]
        stopped = [c for c in mine if c.state == "stopped"]
        if not stopped or any(c.state == "finished" for c in mine):
            return None
        best = max(stopped, key=lambda c: c.rank)
        best.revived = True
        best.promotion = f"taken back because no other candidate is left ({best.reason})"
        self._roster.promote(best, best.promotion)
        return best.run(self._open_fold(best) or 0)

    def _started(self, run: FoldRun) -> CandidateState:
        self.start(run)
        return self._roster[run.candidate]
