"""`Climb`: how far a candidate has climbed the ladder, by what fold runs reported."""

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from search.ladder.decisions import CandidateStatus
from search.run_dir.curves import CurvePoint
from search.run_dir.run_dir import RunDir

STATES = ("running", "queued", "waiting", "stopped", "failed", "finished")
"""`queued`: will continue, but no worker has it now."""


@dataclass(frozen=True)
class Climb:
    """How far one candidate has climbed the ladder."""

    candidate: str
    state: str
    """One of `STATES`."""
    reason: str
    scores: Mapping[int, float]
    """The metric on each finished fold."""
    rung: float
    """Progress of the last report on fold 0; 0 before the first."""

    @property
    def mean(self) -> float:
        """Mean over the finished folds; NaN if there are none."""
        return sum(self.scores.values()) / len(self.scores) if self.scores else math.nan


def best_first(run: RunDir, live: Set[str] = frozenset()) -> list[Climb]:
    """Return every candidate that has started: more folds first, then the better mean, then the higher rung.

    `live` names the candidates that have a fold run on a worker.
    """
    names, utility = dict.fromkeys([*run.curves, *run.statuses, *sorted(live)]), run.metric.utility
    climbs = [_climb(name, run.curves.get(name, {}), run.statuses.get(name), name in live) for name in names]
    return sorted(climbs, key=lambda climb: (-len(climb.scores), -utility(climb.mean) if climb.scores else -climb.rung))


def _climb(
    name: str, curves: Mapping[int, Sequence[CurvePoint]], recorded: CandidateStatus | None, is_live: bool
) -> Climb:
    status = recorded or CandidateStatus("running", "no decision on record yet")
    if is_live and status.state == "waiting":  # `status.json` may be older than the pulse
        status = CandidateStatus("running", "its next fold has started")
    state = "queued" if status.state == "running" and not is_live else status.state
    ends = [point for curve in curves.values() for point in curve if point.progress >= 1]
    scores = {point.fold: point.metric for point in ends if not math.isnan(point.metric)}
    return Climb(name, state, status.reason, scores, rung=curves[0][-1].progress if 0 in curves else 0.0)
