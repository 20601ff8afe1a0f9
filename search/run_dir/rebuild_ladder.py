"""`LadderFeed`: passes what fold runs report to a ladder, live or replayed from the record of a run directory."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from data_prep.prepared import Prepared
from data_prep.store.oof_store import OofStore
from data_prep.target_views import narrowest
from data_prep.targets.target_columns import numbers_of
from search.ladder.decisions import FINISHED, Decision, FoldRun, is_dead
from search.ladder.fold_ladder import FoldLadder
from search.run_dir.curves import CurvePoint
from search.run_dir.fold_rows import FoldRows


@dataclass(frozen=True)
class ReplayedPoint:
    """A recorded point, and what the ladder decides about it."""

    run: FoldRun
    attempt: int
    """1 if it is from the retry of a fold run that failed to learn."""
    point: CurvePoint
    decision: Decision | None
    """None: the tables of this finished fold run are gone, so for the ladder it has not ended."""


@dataclass(frozen=True)
class LadderFeed:
    """Passes reports to a ladder, together with the predictions of the fold runs that have finished."""

    ladder: FoldLadder
    store: OofStore
    data: Prepared

    def replay(self, points: Iterable[CurvePoint], family_of: Callable[[str], str]) -> Iterator[ReplayedPoint]:
        """Rebuild the ladder from recorded points, in order; yield each with the decision about it."""
        for point in points:
            run = FoldRun(point.candidate, family_of(point.candidate), point.fold)
            attempt = self.ladder.attempt(run)
            self.ladder.start(run)
            yield ReplayedPoint(run, attempt, point, None if self.has_lost_tables(point) else self.report(run, point))

    def report(self, run: FoldRun, point: CurvePoint) -> Decision:
        """Report a point to the ladder and return its decision."""
        utility = self.data.task.search_measure.utility(point.metric)
        if point.progress < FINISHED:
            return self.ladder.report(run, point.progress, utility)
        if not self.store.is_finished(run.candidate, run.fold):
            return self.ladder.finish(run, utility, None, None)
        table = narrowest(self._rows.read(run.candidate, run.fold), self.data.task)
        prediction, target = numbers_of(table, "prediction"), numbers_of(table, "score")
        return self.ladder.finish(run, utility, prediction, target, table["group"].to_numpy())

    @cached_property
    def _rows(self) -> FoldRows:
        return FoldRows(self.store, self.data)

    def has_lost_tables(self, point: CurvePoint) -> bool:
        """Return whether a fold run finished with this point and its tables are not there."""
        if point.progress < FINISHED or self.store.is_finished(point.candidate, point.fold):
            return False
        return not is_dead(self.data.task.search_measure.utility(point.metric), self.ladder.settings.dead_below)
