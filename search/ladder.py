"""The fold ladder: every decision about which fold run stops, waits or starts next.

Pure: no Ray, files, clock or randomness. The state is plain data and a function of the sequence of calls.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

State = Literal["running", "waiting", "stopped", "failed", "finished"]


class LadderSettings(BaseModel):
    """Thresholds of the ladder; metric values are utilities (more is better)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = True
    """False: every candidate runs all folds; only dead runs are stopped."""
    eta: float = Field(default=3.0, gt=1)
    """Reduction factor: about one in eta of a family goes on."""
    rungs: tuple[float, ...] = (1 / 3, 2 / 3)
    """Shares of a run's own schedule at which runs of the same fold are compared."""
    min_peers: int = Field(default=3, ge=1)
    """Peers of the family that must have been seen at a rung before anyone is cut there."""
    noise: float = Field(default=0.005, ge=0)
    """Half-width, in metric units, of the band in which two runs count as equal."""
    min_gain: float = Field(default=0.0005, ge=0)
    """Rise of the blend's Pearson, out of sample, that keeps a candidate whatever its own score."""
    dead_below: float | None = 0.05
    """A run below this utility is dead; None: only NaN is (needed for metrics like rmse, whose utility is negative)."""
    family_quota: int = Field(default=1, ge=0)
    """Candidates of each family that go on to the later folds at least."""


@dataclass(frozen=True)
class FoldRun:
    """One candidate on one fold: the unit that is started, compared and stopped."""

    candidate: str
    family: str
    fold: int


@dataclass(frozen=True)
class Decision:
    """What becomes of a fold run that has just reported, with the reason in one sentence."""

    go: bool
    reason: str
    retry: bool = False
    """The run died for the first time: `next_run` hands it out again, `attempt` then says 1."""


@dataclass(frozen=True)
class CandidateStatus:
    """Where a candidate stands, with the reason in one sentence."""

    state: State
    reason: str


@dataclass
class _Candidate:
    name: str
    family: str
    state: State = "running"
    reason: str = "fold 0 runs first"
    metrics: dict[int, float] = field(default_factory=dict)
    live: set[int] = field(default_factory=set)
    again: set[int] = field(default_factory=set)
    deaths: dict[int, int] = field(default_factory=dict)


class FoldLadder:
    """Decides from observations alone; replaying the same calls gives the same answers."""

    def __init__(self, settings: LadderSettings, *, n_folds: int) -> None:
        self.settings = settings
        self.n_folds = n_folds
        self._candidates: dict[str, _Candidate] = {}

    def start(self, run: FoldRun) -> None:
        """Note that a run has been handed to a worker."""
        candidate = self._candidates.setdefault(run.candidate, _Candidate(run.candidate, run.family))
        candidate.again.discard(run.fold)
        candidate.live.add(run.fold)

    def attempt(self, run: FoldRun) -> int:
        """Return 0, or 1 for the retry of a dead run (the caller trains it with another seed and a lower rate)."""
        candidate = self._candidates.get(run.candidate)
        return candidate.deaths.get(run.fold, 0) if candidate else 0

    def report(self, run: FoldRun, progress: float, metric: float) -> Decision:
        """Judge a run at a rung; a run that was not announced by `start` counts as started."""
        self.start(run)
        return self._death(run, metric) or Decision(True, f"progress {progress:.2f}: {metric:.4f}")

    def finish(
        self,
        run: FoldRun,
        metric: float,
        prediction: NDArray[np.floating] | None,
        score: NDArray[np.floating] | None,
        group: NDArray[np.integer] | None = None,
    ) -> Decision:
        """Take a finished fold run; `go` is False when it turned out dead, its tables are then not to be kept.

        Args:
            run: the run that ended.
            metric: utility over the whole fold.
            prediction: [rows] out-of-fold predictions in fold order; None where unknown.
            score: [rows] the truth in the same order.
            group: [rows] group of each row, kept whole when halves are made; None: halves are alternating rows.
        """
        self.start(run)
        dead = self._death(run, metric)
        if dead:
            return dead
        candidate = self._candidates[run.candidate]
        candidate.live.discard(run.fold)
        candidate.metrics[run.fold] = metric
        if len(candidate.metrics) == self.n_folds:
            candidate.state, candidate.reason = "finished", f"all {self.n_folds} folds done"
        return Decision(True, f"fold {run.fold} finished with {metric:.4f}")

    def kill(self, run: FoldRun, reason: str) -> None:
        """Fail the run's candidate for good."""
        self.start(run)
        candidate = self._candidates[run.candidate]
        candidate.live.discard(run.fold)
        candidate.again.clear()
        candidate.state, candidate.reason = "failed", reason

    def lost(self, run: FoldRun) -> None:
        """Note that a started run has no worker any more and is to be handed out again by `next_run`."""
        candidate = self._candidates[run.candidate]
        if run.fold in candidate.live:
            candidate.live.discard(run.fold)
            candidate.again.add(run.fold)

    def next_run(self, *, new_available: bool) -> FoldRun | None:
        """Return the run to start now, best first; None: start something new (if `new_available`) or wait."""
        del new_available
        return next(self._open_runs(), None)

    def status(self) -> dict[str, CandidateStatus]:
        """Return state and reason of every candidate seen, in order of first sight."""
        return {c.name: CandidateStatus(c.state, c.reason) for c in self._candidates.values()}

    def _open_runs(self) -> Iterator[FoldRun]:
        for candidate in self._candidates.values():
            if candidate.state not in ("running", "waiting"):
                continue
            for fold in range(self.n_folds):
                if fold not in candidate.metrics and fold not in candidate.live:
                    yield FoldRun(candidate.name, candidate.family, fold)

    def _death(self, run: FoldRun, metric: float) -> Decision | None:
        floor = self.settings.dead_below
        if not math.isnan(metric) and (floor is None or metric >= floor):
            return None
        candidate = self._candidates[run.candidate]
        candidate.deaths[run.fold] = candidate.deaths.get(run.fold, 0) + 1
        candidate.live.discard(run.fold)
        reason = f"fold {run.fold} is dead: metric {metric:.4f} (NaN or below {floor})"
        if candidate.deaths[run.fold] > 1:
            self.kill(run, f"{reason}, for the second time")
            return Decision(False, candidate.reason)
        candidate.again.add(run.fold)
        return Decision(False, f"{reason}; retried once", retry=True)
