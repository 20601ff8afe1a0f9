"""`Tally`: what one run of the search has seen: what runs, how fold runs ended, what is best, what it took."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from data_prep.prepared import Prepared
from data_prep.scoring.metrics import Metric
from models.candidate import Candidate
from search.ladder.decisions import FINISHED, Decision
from search.run_dir.curves import CurvePoint
from search.run_dir.pulse_file import Leader, LiveRun, Pulse, Spent, Trouble
from search.study.study_file import Resources, Study, StudyResources
from search.watch.blend_watch import BlendWatch
from search.worker.fold_run import training_rows
from search.worker.messages import Assignment

TROUBLES = 20
"""Things that went wrong which are kept to be shown; the latest ones."""


@dataclass
class Slot:
    """A fold run on a worker."""

    assignment: Assignment
    since: float
    """When it started, by the tally's clock."""
    progress: float = 0.0
    metric: float = math.nan
    rows: float = 0.0
    """Training rows that it has gone through, by its last report."""
    seconds: float = 0.0
    """Time that it took for them."""


@dataclass
class _Best:
    """Means over folds, with the best one for each number of folds."""

    metric: Metric
    scores: dict[str, dict[int, float]] = field(default_factory=dict)
    leaders: dict[int, Leader] = field(default_factory=dict)

    def add(self, candidate: Candidate, fold: int, metric: float) -> None:
        scores = self.scores.setdefault(candidate.id, {})
        scores[fold] = metric
        mean = sum(scores.values()) / len(scores)
        best = self.leaders.get(len(scores))
        if best is None or self.metric.utility(mean) > self.metric.utility(best.mean):
            self.leaders[len(scores)] = Leader(candidate.id, candidate.label, mean, len(scores))


class Tally:
    """Takes what happens from the search's own thread; may be read from any.

    Args:
        metric: of the task, to tell which score is best.
        n_folds: folds of the split.
        resources: what fold runs occupy.
        training_rows: rows that a fold run of each fold trains on.
        clock: seconds, rising.
        today: seconds since 1970.
    """

    def __init__(
        self,
        *,
        metric: Metric,
        n_folds: int,
        resources: StudyResources,
        training_rows: Sequence[int],
        clock: Callable[[], float] = time.monotonic,
        today: Callable[[], float] = time.time,
    ) -> None:
        self.metric = metric
        self.n_folds = n_folds
        self.clock = clock
        self.since = clock()
        self.counts = {"started": 0, "finished": 0, "stopped": 0, "dead": 0, "failed": 0}
        self.to_come: Callable[[], int] = lambda: 0
        """Says how many candidates have not begun."""
        self.blends = BlendWatch()
        self._resources = resources
        self._training_rows = training_rows
        self._today = today
        self._lock = threading.RLock()
        self._slots: dict[str, Slot] = {}
        self._begun: set[str] = set()
        self._promoted: set[str] = set()
        self._n_promoted = 0
        self._best = _Best(metric)
        self._busy = 0.0
        self._rows, self._row_seconds = 0.0, 0.0
        self._core_seconds, self._gpu_seconds = 0.0, 0.0
        self._earlier = Spent()
        self._troubles: deque[Trouble] = deque(maxlen=TROUBLES)

    @classmethod
    def of(cls, study: Study, data: Prepared) -> "Tally":
        """Return the tally of a run of a study that begins now."""
        n_folds = data.manifest.n_folds
        return cls(
            metric=data.task.measure,
            n_folds=n_folds,
            resources=study.resources,
            training_rows=[training_rows(data, fold) for fold in range(n_folds)],
        )

    # ---------------------------------------------------------------- what happens

    def started(self, assignment: Assignment) -> None:
        """Count a fold run that starts."""
        with self._lock:
            self.counts["started"] += 1
            self._begun.add(assignment.candidate.id)
            self._slots[assignment.label] = Slot(assignment, self.clock())
            if assignment.fold > 0 and assignment.candidate.id not in self._promoted:
                self._promoted.add(assignment.candidate.id)
                self._n_promoted += 1

    def reported(self, assignment: Assignment, point: CurvePoint, decision: Decision) -> None:
        """Take what a fold run reported and what was decided."""
        with self._lock:
            self._time_rows(assignment, point)
            if point.progress >= FINISHED and decision.go:
                self._end(assignment, "finished")
                self._best.add(assignment.candidate, assignment.fold, point.metric)
            elif not decision.go:
                self._end(assignment, "dead" if decision.retry else "stopped")

    def failed(self, assignment: Assignment, reason: str) -> None:
        """Count a fold run that cannot be done."""
        with self._lock:
            self._end(assignment, "failed")
            self._regret(f"{assignment.label} failed: {reason}")

    def lost(self, assignment: Assignment, reason: str) -> None:
        """Forget a fold run that has no worker any more."""
        with self._lock:
            self._leave(assignment.label)
            self._regret(f"{assignment.label} {reason}")

    def recalled(self, candidate: Candidate, fold: int, metric: float) -> None:
        """Take note of a fold run that an earlier run of the search finished."""
        with self._lock:
            if fold > 0:
                self._promoted.add(candidate.id)
            if not math.isnan(metric):
                self._best.add(candidate, fold, metric)

    def restarted(self, text: str) -> None:
        """Forget everything that ran: it has ended."""
        with self._lock:
            for label in list(self._slots):
                self._leave(label)
            self._regret(text)

    def spent_before(self, seconds: float, size: Resources) -> None:
        """Count the time that earlier runs of the search took."""
        with self._lock:
            hours = seconds / 3600
            self._earlier = Spent(
                self._earlier.core_hours + hours * size.cpu, self._earlier.gpu_hours + hours * size.gpu
            )

    def _time_rows(self, assignment: Assignment, point: CurvePoint) -> None:
        slot = self._slots.get(assignment.label)
        if slot is None:
            return
        rows = point.progress * assignment.candidate.epochs * self._training_rows[assignment.fold]
        if point.seconds > slot.seconds:
            self._rows += rows - slot.rows
            self._row_seconds += point.seconds - slot.seconds
        slot.progress, slot.metric, slot.rows, slot.seconds = point.progress, point.metric, rows, point.seconds

    def _end(self, assignment: Assignment, how: str) -> None:
        self.counts[how] += 1
        self._busy += self._leave(assignment.label)

    def _leave(self, label: str) -> float:
        """Free a slot; return the seconds that it was taken."""
        slot = self._slots.pop(label, None)
        if slot is None:
            return 0.0
        seconds = self.clock() - slot.since
        size = self._resources.of(slot.assignment.candidate.backbone)
        self._core_seconds += seconds * size.cpu
        self._gpu_seconds += seconds * size.gpu
        return seconds

    def _regret(self, what: str) -> None:
        self._troubles.append(Trouble(self._today(), what))

    # ---------------------------------------------------------------- what that comes to

    @property
    def slots(self) -> dict[str, Slot]:
        """What runs now, by the label of its assignment."""
        with self._lock:
            return dict(self._slots)

    @property
    def leader(self) -> Leader | None:
        """The candidate with the best mean over the folds it has done, among those with most folds."""
        with self._lock:
            leaders = self._best.leaders
            return leaders[max(leaders)] if leaders else None

    def seconds_left(self) -> float | None:
        """Estimate the time left from the work per candidate that this run has seen; promotions to come are not in.

        None: no fold run has ended yet.
        """
        with self._lock:
            work = self._work_left()
            return None if work is None else work / max(len(self._slots), 1)

    def _work_left(self) -> float | None:
        """Return the seconds that fold runs will occupy."""
        ended = sum(self.counts.values()) - self.counts["started"]
        if not ended:
            return None
        to_come = self.to_come() * self.counts["started"] / max(len(self._begun), 1)
        return (to_come + len(self._slots) / 2) * self._busy / ended

    def totals(self) -> dict[str, int]:
        """Return what a pulse says was counted."""
        with self._lock:
            return {**self.counts, "promoted": self._n_promoted}

    def pulse(self, ended: str) -> Pulse:
        """Return how the search stands; `ended` says how it ended, empty while it goes on.

        May take the time of fitting a blend, in which nobody else is kept waiting.
        """
        self.blends.refresh()
        with self._lock:
            now, today = self.clock(), self._today()
            speed = self._rows / self._row_seconds * len(self._slots) if self._row_seconds else None
            return Pulse(
                metric=self.metric.name,
                n_folds=self.n_folds,
                at=today,
                begun=today - (now - self.since),
                ended=ended,
                running=tuple(_live(slot, now) for slot in self._slots.values()),
                to_come=self.to_come(),
                counts=self.totals(),
                rows_per_second=speed,
                seconds_left=self.seconds_left(),
                spent=self._spent(now),
                left=self._to_spend(),
                best=self.leader,
                blend=self.blends.best,
                troubles=tuple(self._troubles),
            )

    def _spent(self, now: float) -> Spent:
        cores, gpus = self._core_seconds, self._gpu_seconds
        for slot in self._slots.values():
            size = self._resources.of(slot.assignment.candidate.backbone)
            cores += (now - slot.since) * size.cpu
            gpus += (now - slot.since) * size.gpu
        return Spent(cores / 3600 + self._earlier.core_hours, gpus / 3600 + self._earlier.gpu_hours)

    def _to_spend(self) -> Spent | None:
        """Return what the work left will occupy, taken to be as that of the fold runs that have ended."""
        work = self._work_left()
        if work is None or not self._busy:
            return None
        share = work / self._busy / 3600
        return Spent(self._core_seconds * share, self._gpu_seconds * share)


def _live(slot: Slot, now: float) -> LiveRun:
    return LiveRun(
        candidate=slot.assignment.candidate.id,
        label=slot.assignment.candidate.label,
        fold=slot.assignment.fold,
        attempt=slot.assignment.attempt,
        seconds=now - slot.since,
        progress=slot.progress,
        metric=None if math.isnan(slot.metric) else slot.metric,
    )
