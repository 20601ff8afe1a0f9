"""`Conductor`: decides with the ladder what runs next, and keeps the record from which it can be rebuilt.

It does not know Ray. Everything that decides is in the run directory: `Curves` (every report, in order of arrival), the
prediction tables, and `DrawnCandidates` (every candidate drawn, in order). A new conductor over the same directory
replays them through a new ladder and a new sampler, so it continues where the last one stopped.
"""

import math
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from data_prep.prepared import Prepared
from data_prep.store.oof_store import OofStore, Provenance
from data_prep.targets.target_columns import numbers_of
from data_prep.wording import count
from models.candidate import Candidate
from search.driver.candidate_supply import CandidateSupply
from search.driver.lost_tables import LostTables
from search.ladder.decisions import FINISHED, CandidateStatus, Decision, FoldRun
from search.ladder.fold_ladder import FoldLadder
from search.run_dir.curves import CurvePoint, Curves
from search.run_dir.rebuild_ladder import LadderFeed
from search.run_dir.status_file import StatusFile, read_statuses, write_statuses
from search.study.study_file import Study
from search.worker.messages import Assignment

SHOWN = 3
"""Fold runs that are named where a search resumes."""


class Watcher(Protocol):
    """Hears what happens, for people to follow."""

    def started(self, assignment: Assignment) -> None: ...  # noqa: D102
    def reported(self, assignment: Assignment, point: CurvePoint, decision: Decision) -> None: ...  # noqa: D102
    def failed(self, assignment: Assignment, reason: str) -> None: ...  # noqa: D102
    def lost(self, assignment: Assignment, reason: str) -> None: ...  # noqa: D102
    def recalled(self, candidate: Candidate, fold: int, metric: float) -> None: ...  # noqa: D102
    def note(self, text: str) -> None: ...  # noqa: D102


@dataclass
class _Reports:
    """The reports of one fold run on record."""

    seen: set[tuple[int, float]] = field(default_factory=set)
    """Attempt and progress of each."""
    open: bool = True
    """Whether another one may follow."""


class Conductor:
    """Chooses what starts, takes reports, and keeps the record of both.

    `hours_spent` counts from the start of this run of the search. With `only` (ids) no other candidate starts and none
    is drawn; what the others did before still counts in comparisons.
    """

    def __init__(
        self,
        study: Study,
        data: Prepared,
        run_dir: str,
        watcher: Watcher,
        *,
        hours_spent: Callable[[], float],
        only: Collection[str] | None = None,
        status_file: StatusFile | None = None,
    ) -> None:
        self.study = study
        self._data = data
        self._run_dir = run_dir
        self._watcher = watcher
        self._hours_spent = hours_spent
        self._only = only
        self._store = OofStore(run_dir)
        self._status_file = status_file or StatusFile(run_dir)
        self._has_news = False
        self._said_time_is_up = False
        self._failed: set[str] = set()
        self._reports: dict[FoldRun, _Reports] = {}
        self._lost_tables = LostTables()
        self._supply = CandidateSupply(study, run_dir, only=only, message=watcher.note)
        for report in self._store.set_aside_damaged(has_test=data.has_test):
            watcher.note(report)
        self.curves = Curves(run_dir)
        self._rebuild()

    @property
    def candidates(self) -> dict[str, Candidate]:
        """Every known candidate by its id."""
        return self._supply.known

    # What starts

    def next_assignment(self) -> Assignment | None:
        """Return the fold run to start now and count it as started; None: nothing now, perhaps later.

        Fold runs whose tables are damaged or gone are trained again first: without part of the evidence the ladder
        would decide differently. When the time is up the ladder only completes what has started.
        """
        if self._lost_tables:
            run = self._lost_tables.start_next()
            return None if run is None else self._announce(run)
        new_available = not self._time_is_up() and self._supply.has_more
        run = self.ladder.next_run(new_available=new_available)
        if run is None and new_available:
            candidate = self._supply.take()
            if candidate is None:
                return self.next_assignment()
            run = FoldRun(candidate.id, candidate.family, 0)
        if run is None:
            return None
        assignment = self._announce(run)
        self.ladder.start(run)
        self._reports.setdefault(run, _Reports())
        self._has_news = True
        return assignment

    def _announce(self, run: FoldRun) -> Assignment:
        assignment = Assignment(self._supply.candidate(run.candidate), run.fold, self.ladder.attempt(run))
        self._watcher.started(assignment)
        return assignment

    @property
    def n_startable(self) -> int:
        """How many fold runs could start now if there were room, without decisions that are still open."""
        return self._lost_tables.n_waiting if self._lost_tables else self.ladder.n_open() + self.candidates_to_come

    @property
    def candidates_to_come(self) -> int:
        """How many candidates have not started, as far as the budget tells."""
        return 0 if self._time_is_up() else self._supply.n_to_come

    def describe_record(self) -> str:
        """Return what a search that starts now finds done and begun; empty where nothing has started."""
        if not self._reports:
            return ""
        n_candidates = len(self.ladder.status()) + self.candidates_to_come
        done = sum(1 for _ in self._store.fold_runs())
        begun = [
            f"fold {run.fold} of {self._supply.candidate(run.candidate).label} continues at {progress:.0%}"
            for run, reports in self._reports.items()
            if reports.open and (self._only is None or run.candidate in self._only)
            for _, progress in [max(reports.seen, default=(0, 0.0))]
        ]
        more = [f"and {count(len(begun) - SHOWN, 'other fold run')}"] if len(begun) > SHOWN else []
        total = count(n_candidates * self._data.manifest.n_folds, "fold run")
        return f"resuming: {', '.join([f'{done:,} of {total} done', *begun[:SHOWN], *more])}"

    def _time_is_up(self) -> bool:
        hours = self.study.budget.hours
        if hours is None or self._hours_spent() < hours:
            return False
        if not self._said_time_is_up:
            self._said_time_is_up = True
            self._watcher.note(
                f"budget.hours={hours:g} is spent: no new candidate starts; the best of those that have started finish"
            )
        return True

    # What is reported

    def observe(self, assignment: Assignment, point: CurvePoint) -> Decision:
        """Take what a fold run reports; a point on record already (it resumed from an older state) changes nothing."""
        run, final = assignment.run, point.progress >= FINISHED
        if self._lost_tables.is_live(run):
            decision = Decision(True, "trained again, as its tables were lost")
            self._watcher.reported(assignment, point, decision)
            if final:
                self._end_of_lost_tables(run)
            return decision
        key, seen = (assignment.attempt, point.progress), self._reports[run].seen
        if key in seen and not final:
            return Decision(True, "reported before")
        if key not in seen:
            seen.add(key)
            self.curves.append(point)
        decision = self._feed.report(run, point)
        self._take_decision(run, point, decision)
        self._watcher.reported(assignment, point, decision)
        self._has_news = self._has_news or final or not decision.go
        return decision

    def note(self, assignment: Assignment, text: str) -> None:
        """Pass on a message of a fold run."""
        self._watcher.note(f"{assignment.label}: {text}")

    def fail(self, assignment: Assignment, reason: str) -> None:
        """Record that a fold run cannot be done."""
        run = assignment.run
        if self._lost_tables.is_live(run):
            self._end_of_lost_tables(run)
        self.ladder.fail(run, reason)
        self._failed.add(run.candidate)
        self._reports[run].open = False
        self._tell_sampler(run, math.nan, FINISHED)
        self._watcher.failed(assignment, reason)
        self._has_news = True

    def lose(self, assignment: Assignment, reason: str) -> None:
        """Record that a fold run has lost its worker; it starts again and continues from its checkpoint."""
        if self._lost_tables.is_live(assignment.run):
            self._lost_tables.wait_again(assignment.run)
        else:
            self.ladder.lost(assignment.run)
        self._watcher.lost(assignment, reason)

    def _end_of_lost_tables(self, run: FoldRun) -> None:
        """Count lost tables as made again; after the last ones the ladder is rebuilt with all evidence."""
        self._lost_tables.end(run)
        if not self._lost_tables:
            self._rebuild()

    def _take_decision(self, run: FoldRun, point: CurvePoint, decision: Decision) -> None:
        """Keep what a decision means for the fold run, and let the sampler learn the result of its candidate."""
        final = point.progress >= FINISHED
        self._reports[run].open = (decision.go and not final) or decision.retry
        if self.ladder.attempt(run) > 1:
            self._failed.add(run.candidate)
        if not decision.retry and (final or not decision.go):
            self._tell_sampler(run, self._data.task.search_measure.utility(point.metric), point.progress)

    def _tell_sampler(self, run: FoldRun, utility: float, progress: float) -> None:
        if run.fold == 0:
            failed = run.candidate in self._failed or math.isnan(utility)
            self._supply.tell_result(run.candidate, None if failed else utility, progress)

    # What others read

    def status(self) -> dict[str, CandidateStatus]:
        """Return the state of every candidate that ever started."""
        return self.ladder.status()

    def publish(self) -> None:
        """Update `status.json` if a fold run started or ended and time allows; call it between decisions."""
        if self._has_news and self._status_file.offer(self.status):
            self._has_news = False

    def close(self) -> None:
        """Bring the record into the files that others read, together with the state of every candidate."""
        self.curves.compact()
        self._supply.close()
        write_statuses(self._run_dir, self.status())

    # What happened before

    def _rebuild(self) -> None:
        """Rebuild the ladder, the reports and the sampler from the record; find the tables that are lost."""
        self.ladder = FoldLadder(self.study.ladder, n_folds=self._data.manifest.n_folds)
        statuses = read_statuses(self._run_dir)
        self.ladder.recall_promotions({name: each.promotion for name, each in statuses.items() if each.promotion})
        self._feed = LadderFeed(self.ladder, self._store, self._data)
        self._reports.clear()
        for replayed in self._feed.replay(self.curves.entries, lambda name: self._supply.candidate(name).family):
            self._reports.setdefault(replayed.run, _Reports()).seen.add((replayed.attempt, replayed.point.progress))
            if replayed.decision is not None:
                self._take_decision(replayed.run, replayed.point, replayed.decision)
        for candidate, fold in self._store.fold_runs():
            self._add_unreported(candidate, fold)
        for point in self.curves.entries:
            if point.progress >= FINISHED and self._store.is_finished(point.candidate, point.fold):
                self._watcher.recalled(self._supply.candidate(point.candidate), point.fold, point.metric)
        for run, reports in self._reports.items():
            if reports.open:
                self.ladder.lost(run)
        self._supply.skip({run.candidate for run in self._reports})
        if self._only is not None:
            self.ladder.hold_back(self.candidates.keys() - set(self._only))
        self._lost_tables.add(self._without_tables())

    def _add_unreported(self, candidate: str, fold: int) -> None:
        """Count a fold run whose tables were written just before the driver died, so that no point reports its end."""
        run = FoldRun(candidate, self._supply.candidate(candidate).family, fold)
        reports = self._reports.setdefault(run, _Reports())
        if any(progress >= FINISHED for _, progress in reports.seen) and not reports.open:
            return
        table = self._store.read("oof", candidate, fold)
        metric = self._data.task.search_measure(numbers_of(table, "score"), numbers_of(table, "prediction"))
        provenance = Provenance.of(table)
        point = CurvePoint(candidate, fold, FINISHED, provenance.epoch, metric, float("nan"))
        self.ladder.start(run)
        reports.seen.add((provenance.attempt, FINISHED))
        self.curves.append(point)
        self._take_decision(run, point, self._feed.report(run, point))

    def _without_tables(self) -> list[FoldRun]:
        """Return the fold runs that finished and whose tables are lost, in the order in which they ended."""
        lost = [point for point in self.curves.entries if self._feed.has_lost_tables(point)]
        mine = [point for point in lost if self._only is None or point.candidate in self._only]
        return list(
            dict.fromkeys(FoldRun(p.candidate, self._supply.candidate(p.candidate).family, p.fold) for p in mine)
        )


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
