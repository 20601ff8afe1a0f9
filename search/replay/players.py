"""The schedulers that a replay compares: the ladder, ASHA, random search and Optuna's Wilcoxon pruner."""

import math
import statistics
import warnings
from bisect import insort
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import TrialState

from search.ladder.decisions import FoldRun
from search.ladder.fold_ladder import FoldLadder
from search.ladder.settings import LadderSettings
from search.replay.recording import RecordedCandidate, Recording

FoldColumns = tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.integer]]


@dataclass(frozen=True)
class ReplayJob:
    """What one worker does in one piece: a candidate on some folds, one after another."""

    candidate: RecordedCandidate
    folds: tuple[int, ...]


class ReplayScheduler(Protocol):
    """Decides what runs next, and whether a run that has just reported continues."""

    def next_job(self) -> ReplayJob | None:
        """Return what a free worker does now; None: nothing, at least until something is reported."""

    def report(self, job: ReplayJob, fold: int, step: int) -> bool:
        """Take report number `step` of a fold; False: the job ends here, and a fold at its end is not kept."""


NewScheduler = Callable[[Recording, Sequence[RecordedCandidate]], ReplayScheduler]
"""Makes a scheduler for a recording whose candidates arrive in the order given."""


class LadderPlayer:
    """The fold ladder, called as a search calls it."""

    def __init__(self, recording: Recording, order: Sequence[RecordedCandidate], *, settings: LadderSettings) -> None:
        self.ladder = FoldLadder(settings, n_folds=recording.n_folds)
        self._rungs = settings.rungs
        self._fresh = deque(order)
        self._known = {candidate.name: candidate for candidate in order}
        self._columns = _columns_by_fold(recording)

    def next_job(self) -> ReplayJob | None:
        """Start what the ladder returns, or else the next arrival."""
        run = self.ladder.next_run(new_available=bool(self._fresh))
        if run is None and self._fresh:
            arrival = self._fresh.popleft()
            run = FoldRun(arrival.name, arrival.family, 0)
        if run is None:
            return None
        self.ladder.start(run)
        return ReplayJob(self._known[run.candidate], (run.fold,))

    def report(self, job: ReplayJob, fold: int, step: int) -> bool:
        """Report to the ladder at the first logged epoch that reaches a rung, and at the end."""
        recorded = job.candidate.runs[fold]
        run = FoldRun(job.candidate.name, job.candidate.family, fold)
        if step == len(recorded.progress) - 1:
            prediction, target, group = self._columns.get((run.candidate, fold), (None, None, None))
            return self.ladder.finish(run, recorded.utility[step], prediction, target, group).go
        before = recorded.progress[step - 1] if step else 0.0
        if not any(before + 1e-9 < rung <= recorded.progress[step] + 1e-9 for rung in self._rungs):
            return True
        return self.ladder.report(run, recorded.progress[step], recorded.utility[step]).go


class AshaPlayer:
    """Asynchronous successive halving as Ray Tune does it, one trial for all folds of a candidate.

    A trial trains its folds one after another and reports after every epoch the mean over the folds so far (finished
    folds at their end, the current one as it stands). At `grace * reduction^k` epochs of the trial it is stopped when
    that mean is under the `1 - 1/reduction` quantile (linear) of what earlier trials reported there.
    """

    def __init__(self, recording: Recording, order: Sequence[RecordedCandidate], *, reduction: int, grace: int = 1):
        longest = max(candidate.epochs for candidate in recording.candidates)
        n_rungs = int(math.log(longest / grace) / math.log(reduction) + 1)
        self._seen: dict[float, list[float]] = {float(grace * reduction**k): [] for k in reversed(range(n_rungs))}
        self._passed: set[tuple[str, float]] = set()
        self._share = 1 - 1 / reduction
        self._fresh = deque(order)

    def next_job(self) -> ReplayJob | None:
        """Start the next arrival on all its folds."""
        return _all_folds(self._fresh)

    def report(self, job: ReplayJob, fold: int, step: int) -> bool:
        """Compare at the highest milestone reached and not yet passed."""
        runs = job.candidate.runs
        if fold == len(runs) - 1 and step == len(runs[fold].progress) - 1:
            return True
        spent = sum(run.epochs[-1] for run in runs[:fold]) + runs[fold].epochs[step]
        value = statistics.fmean([*(run.utility[-1] for run in runs[:fold]), runs[fold].utility[step]])
        for milestone, seen in self._seen.items():
            if spent < milestone - 1e-9 or (job.candidate.name, milestone) in self._passed:
                continue
            self._passed.add((job.candidate.name, milestone))
            go = not seen or value >= quantile(seen, self._share)
            insort(seen, value)
            return go
        return True


def quantile(ascending: Sequence[float], share: float) -> float:
    """Return the quantile of sorted values by linear interpolation, as `numpy.percentile` does."""
    position = share * (len(ascending) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ascending) - 1)
    return ascending[below] + (position - below) * (ascending[above] - ascending[below])


class RandomPlayer:
    """Random search with full cross-validation: the first `n_candidates` arrivals on all folds, nothing is stopped."""

    def __init__(self, recording: Recording, order: Sequence[RecordedCandidate], *, n_candidates: int) -> None:
        self._jobs = deque(ReplayJob(c, (fold,)) for c in order[:n_candidates] for fold in range(recording.n_folds))

    def next_job(self) -> ReplayJob | None:
        """Return the next fold of the earliest arrival that has one."""
        return self._jobs.popleft() if self._jobs else None

    def report(self, job: ReplayJob, fold: int, step: int) -> bool:  # noqa: ARG002
        """Stop nothing."""
        return True


class WilcoxonPlayer:
    """Optuna's `WilcoxonPruner` with its defaults: folds run in turn, and each reports its utility under its number.

    With its default threshold of .1 it can prune after the fourth fold at the earliest: the least p of a signed-rank
    test on three differences is 1/8.
    """

    def __init__(self, recording: Recording, order: Sequence[RecordedCandidate]) -> None:
        del recording
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            pruner = optuna.pruners.WilcoxonPruner()
        self._study = optuna.create_study(
            direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0), pruner=pruner
        )
        self._trials: dict[str, optuna.Trial] = {}
        self._fresh = deque(order)

    def next_job(self) -> ReplayJob | None:
        """Start the next arrival on all its folds."""
        job = _all_folds(self._fresh)
        if job is not None:
            self._trials[job.candidate.name] = self._study.ask()
        return job

    def report(self, job: ReplayJob, fold: int, step: int) -> bool:
        """Report a fold at its end, and ask whether to prune unless it is the last."""
        runs, trial = job.candidate.runs, self._trials[job.candidate.name]
        if step < len(runs[fold].progress) - 1:
            return True
        trial.report(runs[fold].utility[-1], step=fold)
        if fold == len(runs) - 1:
            self._study.tell(trial, job.candidate.mean_utility)
            return True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            prune = trial.should_prune()
        if prune:
            self._study.tell(trial, state=TrialState.PRUNED)
        return not prune


def _all_folds(fresh: deque[RecordedCandidate]) -> ReplayJob | None:
    if not fresh:
        return None
    candidate = fresh.popleft()
    return ReplayJob(candidate, tuple(range(len(candidate.runs))))


def _columns_by_fold(recording: Recording) -> dict[tuple[str, int], FoldColumns]:
    """Return prediction, target and group of each candidate on each fold; empty if no predictions are known."""
    if (rows := recording.rows) is None:
        return {}
    found: dict[tuple[str, int], FoldColumns] = {}
    for fold in range(recording.n_folds):
        inside = rows.fold == fold
        target, group = rows.target[inside], rows.group[inside]
        for index, candidate in enumerate(recording.candidates):
            found[candidate.name, fold] = (rows.predictions[inside, index], target, group)
    return found
