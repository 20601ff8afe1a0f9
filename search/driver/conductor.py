"""`Conductor`: asks ladder and sampler what runs next, and keeps the record they can be rebuilt from.

Knows nothing of Ray. Everything that decides is in the run directory: `Curves` (every rung, in order of
arrival), the prediction tables, and `DrawnCandidates` (every candidate drawn, in order). A new conductor over the same
directory replays them through a fresh ladder and a fresh sampler, so it takes up where the last one was cut off.
"""

import math
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from data_prep.prepared import Prepared
from data_prep.store.files import exists, write_json
from data_prep.store.oof_store import OofStore, Provenance
from models.candidate import Candidate
from search.ladder.decisions import FINISHED, CandidateStatus, Decision, FoldRun, is_dead
from search.ladder.fold_ladder import FoldLadder
from search.run_dir.curves import CurvePoint, Curves
from search.run_dir.drawn_candidates import DrawnCandidates
from search.run_dir.run_dir import RunDir
from search.run_dir.status_file import StatusFile, read_statuses, write_statuses
from search.study.read_candidates import read_candidates
from search.study.read_space import read_space
from search.study.sampler import Sampler
from search.study.study_file import Study
from search.worker.messages import Assignment


class Watcher(Protocol):
    """Is told what happens, for people to follow."""

    def started(self, assignment: Assignment) -> None: ...  # noqa: D102
    def reported(self, assignment: Assignment, point: CurvePoint, decision: Decision) -> None: ...  # noqa: D102
    def failed(self, assignment: Assignment, reason: str) -> None: ...  # noqa: D102
    def lost(self, assignment: Assignment, reason: str) -> None: ...  # noqa: D102
    def recalled(self, candidate: Candidate, fold: int, metric: float) -> None: ...  # noqa: D102
    def note(self, text: str) -> None: ...  # noqa: D102


@dataclass
class _Replay:
    """What the recorded points say of one fold run."""

    seen: set[tuple[int, float]] = field(default_factory=set)
    open: bool = True


class Conductor:
    """Decides what starts, takes reports, remembers both."""

    def __init__(
        self,
        study: Study,
        data: Prepared,
        run_dir: str,
        watcher: Watcher,
        *,
        hours_spent: Callable[[], float],
        only: Collection[str] | None = None,
    ) -> None:
        """Take up the search where the run directory left it.

        With `only` (candidate ids) nothing of other candidates starts, and nothing new is drawn; what they did before
        still counts in comparisons.
        """
        self.study = study
        self.candidates: dict[str, Candidate] = {}
        self._data = data
        self._run_dir = run_dir
        self._watcher = watcher
        self._hours_spent = hours_spent
        self._only = only
        self._store = OofStore(run_dir)
        self._samples = DrawnCandidates(run_dir)
        self._status_file = StatusFile(run_dir)
        self._news = False
        self._failed: set[str] = set()
        self._sampler = Sampler(read_space(study.space), kind=study.sampler, seed=study.seed) if study.space else None
        self._fresh: deque[Candidate] = deque()
        self._runs: dict[FoldRun, _Replay] = {}
        self._said_time_is_up = False
        self._to_remake: deque[FoldRun] = deque()
        self._remaking: set[FoldRun] = set()
        self._remade: set[FoldRun] = set()
        self._set_up_candidates()
        for report in self._store.set_aside_damaged():
            watcher.note(report)
        self.curves = Curves(run_dir)
        self._rebuild()

    # What there is to run

    def next_assignment(self) -> Assignment | None:
        """Return the fold run to start now and count it as started; None: nothing now, later perhaps.

        Fold runs whose tables are damaged or gone are made again before anything else is decided: with a part of the
        evidence missing the ladder would decide otherwise than it did. When the time is up nothing new is available:
        the ladder's last round completes those that it wants of what has started.
        """
        if self._to_remake or self._remaking:
            return self._next_to_remake()
        new_available = self._may_start_new()
        run = self.ladder.next_run(new_available=new_available)
        if run is None and new_available:
            candidate = self._new_candidate()
            if candidate is None:
                return self.next_assignment()
            run = FoldRun(candidate.id, candidate.family, 0)
        if run is None:
            return None
        assignment = Assignment(self._known(run.candidate), run.fold, self.ladder.attempt(run))
        self.ladder.start(run)
        self._runs.setdefault(run, _Replay())
        self._news = True
        self._watcher.started(assignment)
        return assignment

    def _next_to_remake(self) -> Assignment | None:
        if not self._to_remake:
            return None
        run = self._to_remake.popleft()
        self._remaking.add(run)
        assignment = Assignment(self._known(run.candidate), run.fold, self.ladder.attempt(run))
        self._watcher.started(assignment)
        return assignment

    def publish(self) -> None:
        """Bring `status.json` up to date if a fold run began or ended and time allows; for between decisions."""
        if self._news and self._status_file.offer(self.status):
            self._news = False

    def close(self) -> None:
        """Bring the record into the files that others read, and with it where every candidate stands."""
        self.curves.compact()
        self._samples.compact()
        write_statuses(self._run_dir, self.status())

    @property
    def n_startable(self) -> int:
        """How many fold runs could start now if there were room; decisions that are yet to be taken do not count."""
        if self._to_remake or self._remaking:
            return len(self._to_remake)
        return self.ladder.n_open() + self.candidates_to_come

    @property
    def candidates_to_come(self) -> int:
        """How many candidates have not begun, as far as the budget tells."""
        if self._time_is_up():
            return 0
        limit = self.study.budget.candidates
        undrawn = 0 if not self._may_sample() or limit is None else max(limit - len(self.candidates), 0)
        return len(self._fresh) + undrawn

    def status(self) -> dict[str, CandidateStatus]:
        """Return where every candidate that ever started stands."""
        return self.ladder.status()

    def _may_start_new(self) -> bool:
        if self._time_is_up():
            return False
        return bool(self._fresh) or self._may_sample()

    def _time_is_up(self) -> bool:
        hours = self.study.budget.hours
        if hours is None or self._hours_spent() < hours:
            return False
        if not self._said_time_is_up:
            self._said_time_is_up = True
            self._watcher.note(
                f"budget.hours={hours:g} is spent: nothing new starts; the best of those begun finish their folds"
            )
        return True

    def _may_sample(self) -> bool:
        limit = self.study.budget.candidates
        may = self._sampler is not None and self._only is None
        return may and (limit is None or len(self.candidates) < limit)

    def _new_candidate(self) -> Candidate | None:
        if self._fresh:
            return self._fresh.popleft()
        assert self._sampler is not None
        sample = self._sampler.ask(self.candidates)
        if sample is None:
            self._sampler = None
            if self.study.sampler != "grid":
                self._watcher.note("the space gives no candidate that is not known already; no more are drawn")
            return None
        self._adopt(sample.candidate)
        self._samples.append(sample)
        return sample.candidate

    # What is reported

    def observe(self, assignment: Assignment, point: CurvePoint) -> Decision:
        """Take what a fold run reports; `go` tells whether it is to continue.

        A point that is on record already (a fold run that resumed from a checkpoint older than its last report)
        changes nothing: what was decided then holds.
        """
        run, record = assignment.run, self._runs[assignment.run]
        final = point.progress >= FINISHED
        if run in self._remaking:
            decision = Decision(True, "made again, as its tables were lost")
            self._watcher.reported(assignment, point, decision)
            if final:
                self._end_remake(run)
            return decision
        key = (assignment.attempt, point.progress)
        if key in record.seen and not final:
            return Decision(True, "reported before")
        if key not in record.seen:
            record.seen.add(key)
            self.curves.append(point)
        decision = self._decide(run, point)
        self._watcher.reported(assignment, point, decision)
        self._news = self._news or final or not decision.go
        return decision

    def note(self, assignment: Assignment, text: str) -> None:
        """Pass on what a fold run says to people."""
        self._watcher.note(f"{assignment.label}: {text}")

    def fail(self, assignment: Assignment, reason: str) -> None:
        """Note that a fold run cannot be done."""
        if assignment.run in self._remaking:
            self._end_remake(assignment.run)
        self.ladder.fail(assignment.run, reason)
        self._failed.add(assignment.candidate.id)
        self._runs[assignment.run].open = False
        self._tell(assignment.run, None, 1.0)
        self._watcher.failed(assignment, reason)
        self._news = True

    def lose(self, assignment: Assignment, reason: str) -> None:
        """Note that a fold run has no worker any more; it is handed out again and goes on from its checkpoint."""
        if assignment.run in self._remaking:
            self._remaking.discard(assignment.run)
            self._to_remake.append(assignment.run)
        else:
            self.ladder.lost(assignment.run)
        self._watcher.lost(assignment, reason)

    def _end_remake(self, run: FoldRun) -> None:
        """Note that lost tables were made again, once at most; the ladder is rebuilt when the last ones are there."""
        self._remaking.discard(run)
        self._remade.add(run)
        if not self._to_remake and not self._remaking:
            self._rebuild()

    def _decide(self, run: FoldRun, point: CurvePoint) -> Decision:
        utility = self._data.task.measure.utility(point.metric)
        if point.progress < FINISHED:
            decision = self.ladder.report(run, point.progress, utility)
        elif self._store.is_finished(run.candidate, run.fold):
            decision = self.ladder.finish(run, utility, *self._columns(run))
        else:
            decision = self.ladder.finish(run, utility, None, None)
        self._runs[run].open = (decision.go and point.progress < FINISHED) or decision.retry
        if self.ladder.attempt(run) > 1:
            self._failed.add(run.candidate)
        if not decision.retry and (point.progress >= FINISHED or not decision.go):
            self._tell(run, None if run.candidate in self._failed else utility, point.progress)
        return decision

    def _tell(self, run: FoldRun, utility: float | None, progress: float) -> None:
        if run.fold == 0 and self._sampler is not None:
            self._sampler.tell(
                run.candidate, None if utility is None or math.isnan(utility) else utility, progress=progress
            )

    def _columns(self, run: FoldRun) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.integer]]:
        table = self._store.read("oof", run.candidate, run.fold)
        in_fold = self._data.train["fold"].to_numpy() == run.fold
        return (
            table["prediction"].to_numpy(),
            table["score"].to_numpy(),
            self._data.train["group"].to_numpy()[in_fold],
        )

    # What was there before

    def _set_up_candidates(self) -> None:
        for candidate in read_candidates(self.study.candidates, allow_twins=True).values():
            self._adopt(candidate)
        for sample in self._samples.drawn:
            assert self._sampler is not None
            self._adopt(sample.candidate)
            self._sampler.restore(sample)
        self._fresh.extend(self.candidates.values())

    def _adopt(self, candidate: Candidate) -> None:
        self.candidates[candidate.id] = candidate
        path = RunDir(self._run_dir).candidate_path(candidate.id)
        if not exists(path):
            write_json(candidate.model_dump(mode="json"), path)

    def _known(self, candidate: str) -> Candidate:
        """Return a candidate by id; one that the study no longer names is read from the run directory."""
        if candidate not in self.candidates:
            self.candidates[candidate] = RunDir(self._run_dir).candidate(candidate)
        return self.candidates[candidate]

    def _rebuild(self) -> None:
        """Replay the record through a fresh ladder; what has lost its tables is noted, to be made again."""
        self.ladder = FoldLadder(self.study.ladder, n_folds=self._data.manifest.n_folds)
        self.ladder.recall_promotions(
            {name: s.promotion for name, s in read_statuses(self._run_dir).items() if s.promotion}
        )
        self._runs.clear()
        self._replay()
        if self._only is not None:
            self._fresh = deque(candidate for candidate in self._fresh if candidate.id in self._only)
            self.ladder.hold_back(self.candidates.keys() - set(self._only))
        self._to_remake.extend(run for run in self._without_tables() if run not in self._remade)

    def _without_tables(self) -> list[FoldRun]:
        """Return the fold runs that finished and whose tables are not there, in the order in which they ended."""
        ended = [
            point for point in self.curves.points if point.progress >= FINISHED and not self._is_dead(point.metric)
        ]
        lost = [point for point in ended if not self._store.is_finished(point.candidate, point.fold)]
        mine = [point for point in lost if self._only is None or point.candidate in self._only]
        return list(dict.fromkeys(FoldRun(p.candidate, self._known(p.candidate).family, p.fold) for p in mine))

    def _replay(self) -> None:
        for point in self.curves.points:
            self._replay_point(point)
        for candidate, fold in self._store.fold_runs():
            self._adopt_tables(candidate, fold)
        for point in self.curves.points:
            if point.progress >= FINISHED and self._store.is_finished(point.candidate, point.fold):
                self._watcher.recalled(self._known(point.candidate), point.fold, point.metric)
        for run, record in self._runs.items():
            if record.open:
                self.ladder.lost(run)
        started = {run.candidate for run in self._runs}
        self._fresh = deque(candidate for candidate in self._fresh if candidate.id not in started)

    def _replay_point(self, point: CurvePoint) -> None:
        candidate = self._known(point.candidate)
        run = FoldRun(candidate.id, candidate.family, point.fold)
        record = self._runs.setdefault(run, _Replay())
        attempt = self.ladder.attempt(run)
        self.ladder.start(run)
        record.seen.add((attempt, point.progress))
        vanished = point.progress >= FINISHED and not self._store.is_finished(run.candidate, run.fold)
        if vanished and not self._is_dead(point.metric):
            return
        self._decide(run, point)

    def _is_dead(self, metric: float) -> bool:
        return is_dead(self._data.task.measure.utility(metric), self.study.ladder.dead_below)

    def _adopt_tables(self, candidate: str, fold: int) -> None:
        """Count a fold run whose tables were written just before the driver died, and which no point tells of."""
        known = self._known(candidate)
        run = FoldRun(known.id, known.family, fold)
        record = self._runs.setdefault(run, _Replay())
        if any(progress >= FINISHED for _, progress in record.seen) and not record.open:
            return
        table = self._store.read("oof", candidate, fold)
        metric = self._data.task.measure(table["score"].to_numpy(), table["prediction"].to_numpy())
        provenance = Provenance.of(table)
        point = CurvePoint(candidate, fold, FINISHED, provenance.epoch, metric, float("nan"))
        self.ladder.start(run)
        record.seen.add((provenance.attempt, FINISHED))
        self.curves.append(point)
        self._decide(run, point)


@contextmanager
def closing(conductor: Conductor, message: Callable[[str], None]) -> Iterator[None]:
    """Close the record at the end of the block; an error of the block is raised even where closing fails, too."""
    try:
        yield
    except BaseException:
        try:
            conductor.close()
        except OSError as error:
            message(f"the record stays in its journals, which hold all of it: {error}")
        raise
    conductor.close()
