"""`RunStatistics`: what one run of the search has seen: fold runs, how they ended, the best, time and cost."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import fmean

from data_prep.prepared import Prepared
from data_prep.scoring.metrics import Metric
from models.candidate import Candidate
from search.ladder.decisions import FINISHED, Decision
from search.ladder.forecast import forecast
from search.ladder.settings import LadderSettings
from search.run_dir.curves import CurvePoint
from search.run_dir.pulse_file import Leader, LiveRun, Pulse, Spent, Trouble
from search.study.study_file import Resources, Study, StudyResources
from search.watch.blend_watch import BlendWatch
from search.worker.fold_run import training_rows
from search.worker.messages import Assignment

TROUBLES = 20
"""Problems kept to be shown; the latest ones."""


@dataclass
class Slot:
    """A fold run on a worker."""

    assignment: Assignment
    since: float
    """When it started, by the clock of the statistics."""
    progress: float = 0.0
    metric: float = math.nan
    rows: float = 0.0
    """Training rows done by its last report."""
    seconds: float = 0.0
    """Time it took for them."""


@dataclass
class _Speed:
    """Training rows done and the seconds they took."""

    rows: float = 0.0
    seconds: float = 0.0

    def add(self, rows: float, seconds: float) -> None:
        if seconds > 0:
            self.rows += rows
            self.seconds += seconds

    def per_second(self, n_running: int) -> float | None:
        """Return the rows a second of so many fold runs; None before the first report."""
        return self.rows / self.seconds * n_running if self.seconds else None


@dataclass
class _BestMeans:
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

    @property
    def leader(self) -> Leader | None:
        return self.leaders[max(self.leaders)] if self.leaders else None


class RunStatistics:
    """Takes events from one thread, is read from any; `training_rows` are by fold, `today` gives seconds since 1970."""

    def __init__(
        self,
        *,
        metric: Metric,
        n_folds: int,
        resources: StudyResources,
        training_rows: Sequence[int],
        ladder: LadderSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        today: Callable[[], float] = time.time,
    ) -> None:
        self.metric = metric
        self.n_folds = n_folds
        self.clock = clock
        self.since = clock()
        self.counts = {"started": 0, "finished": 0, "stopped": 0, "dead": 0, "failed": 0}
        self.to_come: Callable[[], int] = lambda: 0
        """Returns how many candidates have not started."""
        self.blends = BlendWatch(clock)
        self._resources = resources
        self._training_rows = training_rows
        self._ladder = ladder or LadderSettings()
        self._today = today
        self._lock = threading.RLock()
        self._moved = today()
        self._slots: dict[str, Slot] = {}
        self._families: dict[str, str] = {}
        """The family of each candidate that has started, in an earlier run too."""
        self._done: set[tuple[str, int]] = set()
        """Fold runs that have finished, in an earlier run too."""
        self._over: set[str] = set()
        """Candidates of which no other fold starts: stopped, or failed."""
        self._promoted: set[str] = set()
        self._n_promoted = 0
        self._best = _BestMeans(metric)
        self._speed = _Speed()
        self._seconds: dict[str, list[float]] = {"first": [], "whole": [], "any": []}
        """How long the fold runs that have ended held their slots: those of fold 0, those that finished, all."""
        self._spent_ended, self._spent_earlier = Spent(), Spent()
        self._troubles: deque[Trouble] = deque(maxlen=TROUBLES)

    @classmethod
    def of(cls, study: Study, data: Prepared) -> "RunStatistics":
        """Return the statistics of a run that starts now."""
        n_folds = data.manifest.n_folds
        return cls(
            metric=data.task.search_measure,
            n_folds=n_folds,
            resources=study.resources,
            training_rows=[training_rows(data, fold) for fold in range(n_folds)],
            ladder=study.ladder,
        )

    # ---------------------------------------------------------------- events

    @contextmanager
    def _event(self) -> Iterator[None]:
        with self._lock:
            self._moved = self._today()
            yield

    def started(self, assignment: Assignment) -> None:
        """Count a fold run that starts."""
        with self._event():
            self.counts["started"] += 1
            self._families[assignment.candidate.id] = assignment.candidate.family
            self._over.discard(assignment.candidate.id)
            self._slots[assignment.label] = Slot(assignment, self.clock())
            if assignment.fold > 0 and assignment.candidate.id not in self._promoted:
                self._promoted.add(assignment.candidate.id)
                self._n_promoted += 1

    def reported(self, assignment: Assignment, point: CurvePoint, decision: Decision) -> None:
        """Take what a fold run reported and what was decided."""
        with self._event():
            self._update(assignment, point)
            if point.progress >= FINISHED and decision.go:
                self._end(assignment, "finished")
                self._done.add((assignment.candidate.id, assignment.fold))
                self._best.add(assignment.candidate, assignment.fold, point.metric)
            elif not decision.go:
                self._end(assignment, "dead" if decision.retry else "stopped")
                if not decision.retry:
                    self._over.add(assignment.candidate.id)

    def failed(self, assignment: Assignment, reason: str) -> None:
        """Count a fold run that failed for good."""
        with self._event():
            self._end(assignment, "failed")
            self._over.add(assignment.candidate.id)
            self._keep_trouble(f"{assignment.label} failed: {reason}")

    def lost(self, assignment: Assignment, reason: str) -> None:
        """Forget a fold run that lost its worker."""
        with self._event():
            self._leave(assignment.label)
            self._keep_trouble(f"{assignment.label} {reason}")

    def recalled(self, candidate: Candidate, fold: int, metric: float) -> None:
        """Take a fold run that an earlier run of the search finished."""
        with self._lock:
            self._families[candidate.id] = candidate.family
            self._done.add((candidate.id, fold))
            if fold > 0:
                self._promoted.add(candidate.id)
            if not math.isnan(metric):
                self._best.add(candidate, fold, metric)

    def restarted(self, text: str) -> None:
        """Forget all running fold runs: Ray Tune died and took them with it."""
        with self._event():
            for label in list(self._slots):
                self._leave(label)
            self._keep_trouble(text)

    def spent_before(self, seconds: float, size: Resources) -> None:
        """Count the time that earlier runs of the search took."""
        with self._lock:
            self._spent_earlier += _spent(seconds, size)

    def _update(self, assignment: Assignment, point: CurvePoint) -> None:
        slot = self._slots.get(assignment.label)
        if slot is None:
            return
        rows = point.progress * assignment.candidate.epochs * self._training_rows[assignment.fold]
        self._speed.add(rows - slot.rows, point.seconds - slot.seconds)
        slot.progress, slot.metric, slot.rows, slot.seconds = point.progress, point.metric, rows, point.seconds

    def _end(self, assignment: Assignment, how: str) -> None:
        self.counts[how] += 1
        seconds = self._leave(assignment.label)
        for kind, counts in (("any", True), ("first", assignment.fold == 0), ("whole", how == "finished")):
            if counts:
                self._seconds[kind].append(seconds)

    def _leave(self, label: str) -> float:
        """Free a slot; return how many seconds it was held."""
        slot = self._slots.pop(label, None)
        if slot is None:
            return 0.0
        seconds = self.clock() - slot.since
        self._spent_ended += _spent(seconds, self._size(slot))
        return seconds

    def _size(self, slot: Slot) -> Resources:
        return self._resources.of(slot.assignment.candidate.backbone)

    def _keep_trouble(self, what: str) -> None:
        self._troubles.append(Trouble(self._today(), what))

    # ---------------------------------------------------------------- results

    @property
    def slots(self) -> dict[str, Slot]:
        """What runs now, by the label of its assignment."""
        with self._lock:
            return dict(self._slots)

    @property
    def leader(self) -> Leader | None:
        """The candidate with the best mean over its finished folds, among those with the most folds."""
        with self._lock:
            return self._best.leader

    def seconds_left(self) -> tuple[float, float] | None:
        """Estimate the time left, at least and with the promotions to expect; None: no fold run has ended yet."""
        with self._lock:
            work = self._work_left()
            n_slots = max(len(self._slots), 1)
            return None if work is None else (work[0] / n_slots, work[1] / n_slots)

    def _work_left(self) -> tuple[float, float] | None:
        """Return the seconds that fold runs will still hold slots, at least and with the promotions to expect."""
        if not self._seconds["any"]:
            return None
        first, whole, usual = (fmean(self._seconds[kind] or self._seconds["any"]) for kind in self._seconds)
        to_come = self.to_come()
        least = to_come * first + len(self._slots) / 2 * usual + self._open_folds() * whole
        return least, least + self._promotions_left(to_come) * (self.n_folds - 1) * whole

    def _runs_expected(self) -> tuple[int, float]:
        """Return how many fold runs will have ended, at least and with the promotions to expect."""
        to_come = self.to_come()
        ended = len(self._done) + self.counts["stopped"] + self.counts["failed"]
        least = ended + len(self._slots) + to_come + self._open_folds()
        return least, least + self._promotions_left(to_come) * (self.n_folds - 1)

    def _promotions_left(self, to_come: int) -> float:
        return max(self._expected_promotions(to_come) - len(self._promoted), 0.0)

    def _open_folds(self) -> int:
        """Count the folds of promoted candidates that have not started."""
        live = {(slot.assignment.candidate.id, slot.assignment.fold) for slot in self._slots.values()}
        ids, folds = self._promoted - self._over, range(self.n_folds)
        return sum((candidate, fold) not in self._done | live for candidate in ids for fold in folds)

    def _expected_promotions(self, to_come: int) -> float:
        """Return how many candidates will be promoted in all, those to come being of the families seen so far."""
        found = forecast(self._families.values(), self._ladder, n_folds=self.n_folds).values()
        return sum(family.promoted for family in found) * (1 + to_come / max(len(self._families), 1))

    def totals(self) -> dict[str, int]:
        """Return the counts of a pulse."""
        with self._lock:
            return {**self.counts, "promoted": self._n_promoted, "done": len(self._done)}

    def pulse(self, ended: str) -> Pulse:
        """Return the state; `ended` is empty while the search runs. It may fit a blend, but blocks no other thread."""
        self.blends.refresh()
        return self.snapshot(ended)

    def snapshot(self, ended: str = "") -> Pulse:
        """Return the state with the blend that was fitted last."""
        with self._lock:
            now, today = self.clock(), self._today()
            runs = self._runs_expected()
            seconds, work = self.seconds_left() or (None, None), self._work_left() or (None, None)
            return Pulse(
                metric=self.metric.name,
                n_folds=self.n_folds,
                at=today,
                begun=today - (now - self.since),
                ended=ended,
                running=tuple(_live(slot, now) for slot in self._slots.values()),
                to_come=self.to_come(),
                counts=self.totals(),
                rows_per_second=self._speed.per_second(len(self._slots)),
                seconds_left=seconds[0],
                seconds_left_most=seconds[1],
                spent=sum(
                    (_spent(now - slot.since, self._size(slot)) for slot in self._slots.values()),
                    start=self._spent_earlier + self._spent_ended,
                ),
                left=self._spent_in(work[0]),
                left_most=self._spent_in(work[1]),
                best=self.leader,
                blend=self.blends.best,
                troubles=tuple(self._troubles),
                moved=self._moved,
                runs_least=runs[0],
                runs_most=runs[1],
            )

    def _spent_in(self, work: float | None) -> Spent | None:
        """Estimate what the remaining work will hold, as if it were like that of the fold runs that have ended."""
        busy = sum(self._seconds["any"])
        return self._spent_ended * (work / busy) if work is not None and busy else None


def _spent(seconds: float, size: Resources) -> Spent:
    return Spent(size.cpu, size.gpu) * (seconds / 3600)


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
