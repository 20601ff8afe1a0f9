"""`slot_times`: when each fold run held a slot, worked out from its tables' times and the order of reports.

A fold run reports the seconds that it has trained, and its out-of-fold table is written when it ends. So the time of
every report of a finished fold run follows. One that was stopped is put where a slot was free, between the reports that
came before and after its last one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from data_prep.store.files import file_info
from search.ladder.decisions import FINISHED
from search.run_dir.curves import CurvePoint
from search.run_dir.run_dir import RunDir

SLACK = 30.0
"""Seconds by which times of files may contradict the order of reports."""

OVERLAP = 3.0
"""Seconds by which two fold runs on one slot may seem to overlap."""


@dataclass(frozen=True)
class SlotTime:
    """One fold run on its slot."""

    candidate: str
    fold: int
    slot: int
    start: float
    """Seconds since 1970, as `end`."""
    end: float
    kind: str
    """`finished`, `stopped` or `running`."""
    metric: float
    """At its last report; NaN before the first."""


def slot_times(run: RunDir) -> tuple[SlotTime, ...]:
    """Return all fold runs by start; none where the times of the files contradict the order of reports."""
    live = _live(run)
    running = {(time.candidate, time.fold) for time in live}
    latest = {(point.candidate, point.fold): place for place, point in enumerate(run.points)}
    last = {place: run.points[place] for key, place in latest.items() if key not in running}
    ends = {place: end for place, point in last.items() if (end := _written(run, point)) is not None}
    in_order = list(ends.values())
    if not ends or any(later < earlier - SLACK for earlier, later in pairwise(in_order)):
        return ()
    known = {place: _time(last[place], end, "finished") for place, end in ends.items()}
    others = {place: point for place, point in last.items() if place not in ends and not math.isnan(point.seconds)}
    return _on_slots([*live, *known.values(), *_between(others, known, live)])


def _live(run: RunDir) -> list[SlotTime]:
    if run.pulse is None or not run.has_driver:
        return []
    at, unknown = run.pulse.at, math.nan
    return [
        SlotTime(
            each.candidate,
            each.fold,
            0,
            at - each.seconds,
            at,
            "running",
            unknown if each.metric is None else each.metric,
        )
        for each in run.pulse.running
    ]


def _written(run: RunDir, point: CurvePoint) -> float | None:
    """Return when the table of a finished fold run was written; None for others."""
    if point.progress < FINISHED or math.isnan(point.seconds):
        return None
    written = file_info(run.store.path("oof", point.candidate, point.fold)).mtime
    return None if written is None else float(written.timestamp())


def _time(point: CurvePoint, end: float, kind: str) -> SlotTime:
    return SlotTime(point.candidate, point.fold, 0, end - max(point.seconds, 0.0), end, kind, point.metric)


def _between(others: dict[int, CurvePoint], known: dict[int, SlotTime], live: Sequence[SlotTime]) -> list[SlotTime]:
    """Return the stopped fold runs, each as early as a slot is free, if that is between the reports around its last."""
    times = {place: time.end for place, time in known.items()}
    taken = [(time.start, time.end) for time in (*known.values(), *live)]
    n_slots = int(_busy(np.array([start for start, _ in taken]), np.array(taken)).max())
    found = []
    for place, point in sorted(others.items()):
        before = max((time for other, time in times.items() if other < place), default=-math.inf)
        after = min((time for other, time in times.items() if other > place), default=math.inf)
        middle = before if math.isinf(after) else after if math.isinf(before) else (before + after) / 2
        end = _free_end(point.seconds, before, after, np.array(taken), n_slots) or middle
        times[place] = end
        taken.append((end - point.seconds, end))
        found.append(_time(point, end, "stopped"))
    return found


def _free_end(seconds: float, before: float, after: float, taken: NDArray[np.float64], n_slots: int) -> float | None:
    """Return the earliest end, from `before` to `after`, of so many seconds in which a slot is free."""
    starts = np.unique(np.append(taken[:, 1], before - seconds))
    for start in starts[(starts + seconds >= before) & (starts + seconds <= after)].tolist():
        inside = taken[:, 0][(taken[:, 0] > start) & (taken[:, 0] < start + seconds)]
        if _busy(np.append(inside, start), taken).max() < n_slots:
            return float(start + seconds)
    return None


def _busy(moments: NDArray[np.float64], taken: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return how many of the spans `taken` [spans, 2] hold each moment."""
    inside = (taken[:, 0] <= moments[:, None]) & (moments[:, None] < taken[:, 1] - OVERLAP)
    return np.asarray(inside.sum(axis=1))


def _on_slots(times: Sequence[SlotTime]) -> tuple[SlotTime, ...]:
    """Return the fold runs by start, each on the first slot that is free then."""
    free: list[float] = []
    placed = []
    for time in sorted(times, key=lambda each: each.start):
        slot = next((number for number, since in enumerate(free) if since <= time.start + OVERLAP), len(free))
        if slot == len(free):
            free.append(time.end)
        free[slot] = max(time.end, free[slot])
        placed.append(replace(time, slot=slot))
    return tuple(placed)
