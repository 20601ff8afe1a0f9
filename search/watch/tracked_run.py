"""`Tracked`: what tools for following experiments take of a run directory."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from data_prep.candidate_label import candidate_label
from data_prep.errors import InputError
from data_prep.prepared import load_prepared
from data_prep.store.files import join, read_bytes
from data_prep.store.oof_store import OofStore
from search.run_dir.curves import CurvePoint, Curves
from search.run_dir.kept_study import kept_study
from search.run_dir.pulse_file import Pulse, read_pulse
from search.run_dir.status_file import read_outcomes

STEPS = 1000
"""Steps of a whole schedule: tools count in whole steps, and a fold run knows shares of its schedule."""


@dataclass(frozen=True)
class TrackedFold:
    """One fold run."""

    fold: int
    points: tuple[CurvePoint, ...]
    """By progress; of one that was reported twice (a run that was tried again) the later."""
    arrived: int
    """Points ever reported, which only grows."""
    table: str | None
    """Path of its out-of-fold predictions; None until it is finished."""


@dataclass(frozen=True)
class Tracked:
    """One candidate."""

    candidate: str
    settings: Mapping[str, Any]
    state: str
    """As in `status.json`."""
    reason: str
    folds: tuple[TrackedFold, ...]

    @property
    def name(self) -> str:
        """A short name a person recognises, with the start of the id."""
        return f"{candidate_label(self.settings)}-{self.candidate[:6]}"

    @property
    def mean(self) -> float:
        """Mean of the metric over the finished folds; NaN where there are none."""
        ends = [fold.points[-1].metric for fold in self.folds if fold.table]
        return sum(ends) / len(ends) if ends else math.nan


@dataclass(frozen=True)
class TrackedRun:
    """A run directory."""

    study: str
    metric: str
    candidates: tuple[Tracked, ...]
    """In order of first report."""


def measured(run_dir: str, study: Mapping[str, Any], pulse: Pulse | None) -> tuple[str, int]:
    """Return the metric's name and the number of folds of a run, from its pulse or else from its prepared folder.

    Raises:
        InputError: it has no pulse, and the prepared folder is not seen from here.
    """
    if pulse is not None:
        return pulse.metric, pulse.n_folds
    try:
        data = load_prepared(study["data"])
    except InputError as error:
        raise InputError(
            *error.faults,
            f"{run_dir}: no pulse.json, which tells metric and folds; its driver has only just begun, or was of a "
            "version that wrote none. Without it the prepared folder must be seen from here",
        ) from error
    return data.task.metric, data.manifest.n_folds


def read_tracked(run_dir: str) -> TrackedRun:
    """Read what there is to follow.

    Raises:
        InputError: no run directory, a file in it is damaged, or as for `measured`.
    """
    study = kept_study(run_dir)
    metric, _ = measured(run_dir, study, read_pulse(run_dir))
    outcomes, store = read_outcomes(run_dir), OofStore(run_dir)
    curves: dict[str, dict[int, list[CurvePoint]]] = {}
    for point in Curves(run_dir).points:
        curves.setdefault(point.candidate, {}).setdefault(point.fold, []).append(point)
    candidates = []
    for name, by_fold in curves.items():
        outcome = outcomes.get(name)
        candidates.append(
            Tracked(
                candidate=name,
                settings=json.loads(read_bytes(join(run_dir, "candidates", f"{name}.json"))),
                state=outcome.state if outcome else "running",
                reason=outcome.reason if outcome else "no decision on record yet",
                folds=tuple(_folds(store, name, by_fold)),
            )
        )
    return TrackedRun(study["name"], metric, tuple(candidates))


def _folds(store: OofStore, candidate: str, by_fold: Mapping[int, list[CurvePoint]]) -> Iterator[TrackedFold]:
    done = set(store.folds(candidate))
    for fold, points in sorted(by_fold.items()):
        latest = {point.progress: point for point in points}
        ordered = tuple(latest[progress] for progress in sorted(latest))
        yield TrackedFold(fold, ordered, len(points), store.path("oof", candidate, fold) if fold in done else None)


def step_of(point: CurvePoint) -> int:
    """Return how far a report is in the schedule of its fold run, in thousandths."""
    return round(STEPS * point.progress)
