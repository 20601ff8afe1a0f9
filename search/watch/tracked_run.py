"""`TrackedRun`: what experiment trackers (TensorBoard, MLflow) get from a run directory."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from data_prep.candidate_label import candidate_label
from data_prep.store.oof_store import OofStore
from search.ladder.decisions import CandidateStatus
from search.run_dir.curves import CurvePoint
from search.run_dir.run_dir import RunDir
from search.watch.climbs import best_first

STEPS = 1000
"""Steps of a whole schedule: trackers count whole steps, while a fold run reports shares of its schedule."""


@dataclass(frozen=True)
class TrackedFold:
    """One fold run."""

    fold: int
    points: tuple[CurvePoint, ...]
    """By progress; if one was reported twice (because the run was tried again), the later one."""
    arrived: int
    """Points ever reported; this number only grows."""
    table: str | None
    """Path of its out-of-fold predictions; None until it has finished."""


@dataclass(frozen=True)
class TrackedCandidate:
    """One candidate."""

    candidate: str
    settings: Mapping[str, Any]
    state: str
    """As in `status.json`."""
    reason: str
    folds: tuple[TrackedFold, ...]

    @property
    def name(self) -> str:
        """A short name that a person recognizes, with the start of the id."""
        return f"{candidate_label(self.settings)}-{self.candidate[:6]}"

    @property
    def mean(self) -> float:
        """Mean of the metric over the finished folds; NaN if there are none."""
        ends = [fold.points[-1].metric for fold in self.folds if fold.table]
        return sum(ends) / len(ends) if ends else math.nan


@dataclass(frozen=True)
class TrackedRun:
    """A run directory."""

    study: str
    metric: str
    candidates: tuple[TrackedCandidate, ...]
    """In order of first report."""
    n_left_out: int = 0
    """Candidates with reports that are not among the best."""


def read_tracked(run_dir: str, *, most: int | None = None) -> TrackedRun:
    """Read what trackers get, of the `most` best candidates (None: of all).

    Raises:
        InputError: not a run directory, a file in it is damaged, or nothing names the metric (see `RunDir`).
    """
    run = RunDir(run_dir)
    metric = run.metric.name
    candidates = []
    best = {climb.candidate for climb in best_first(run)[:most]}
    for name, curves in run.curves.items():
        if name not in best:
            continue
        status = run.statuses.get(name, CandidateStatus("running", "no decision on record yet"))
        folds = tuple(_folds(run.store, name, curves))
        candidates.append(TrackedCandidate(name, run.settings(name), status.state, status.reason, folds))
    return TrackedRun(run.study["name"], metric, tuple(candidates), n_left_out=len(run.curves) - len(candidates))


def _folds(store: OofStore, candidate: str, curves: Mapping[int, list[CurvePoint]]) -> Iterator[TrackedFold]:
    done = set(store.folds(candidate))
    for fold, points in sorted(curves.items()):
        latest = {point.progress: point for point in points}
        ordered = tuple(latest[progress] for progress in sorted(latest))
        yield TrackedFold(fold, ordered, len(points), store.path("oof", candidate, fold) if fold in done else None)


def step_of(point: CurvePoint) -> int:
    """Return the progress of a report in the schedule of its fold run, in thousandths."""
    return round(STEPS * point.progress)
