"""`ladder_ways`: how every candidate climbed the ladder, step by step, with the reasons."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search.ladder.decisions import FINISHED
from search.run_dir.curves import CurvePoint
from search.run_dir.run_dir import RunDir
from search.watch.climbs import Climb, best_first


@dataclass(frozen=True)
class WayStep:
    """One step of a candidate: a rung of fold 0, or one more finished fold."""

    place: float
    """The progress on fold 0 at a rung; else the number of finished folds."""
    step: str
    metric: float
    """At a rung that of the rung; else the mean over the finished folds."""


@dataclass(frozen=True)
class Way:
    """The way of one candidate."""

    candidate: str
    state: str
    """One of `search.watch.climbs.STATES`."""
    reason: str
    promotion: str
    """Why it was promoted after fold 0; empty if it was not."""
    steps: tuple[WayStep, ...]


def ladder_ways(run: RunDir) -> tuple[Way, ...]:
    """Return the way of every candidate that has reported, the best first."""
    live = {each.candidate for each in run.pulse.running} if run.pulse and run.has_driver else set()
    return tuple(
        _way(run, climb, run.curves[climb.candidate])
        for climb in best_first(run, live)
        if climb.candidate in run.curves
    )


def _way(run: RunDir, climb: Climb, curves: Mapping[int, Sequence[CurvePoint]]) -> Way:
    rungs = [point for point in curves.get(0, ()) if point.progress < FINISHED and not math.isnan(point.metric)]
    steps = [WayStep(point.progress, f"fold 0 at {point.progress:.0%}", point.metric) for point in rungs]
    scores = list(climb.scores.values())
    for done in range(1, len(scores) + 1):
        steps.append(WayStep(float(done), f"{done} of {run.n_folds} folds", sum(scores[:done]) / done))
    status = run.statuses.get(climb.candidate)
    promotion = status.promotion if status else ""
    return Way(climb.candidate, climb.state, climb.reason, promotion, tuple(steps))
