"""What a scheduler would have spent and kept: replays recorded candidates with simulated workers."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from data_prep.errors import InputError
from search.ladder.settings import LadderSettings
from search.replay.nested_blend_score import BlendScores
from search.replay.players import (
    AshaPlayer,
    LadderPlayer,
    NewScheduler,
    RandomPlayer,
    ReplayJob,
    WilcoxonPlayer,
)
from search.replay.recording import Recording

ASHA_REDUCTIONS = (2, 3, 4)
RANDOM_SHARES = (0.1, 0.2, 0.3, 0.5)
BUDGETS = tuple(step / 50 for step in range(1, 51))


@dataclass(frozen=True)
class Play:
    """One scheduler over one order of arrival."""

    cost: float
    """Fold-epochs run, as a share of the full grid."""
    completions: tuple[tuple[float, int], ...]
    """The candidates (numbers in the recording) that finished all folds, each with the cost until then, ascending."""

    def completed(self, budget: float = float("inf")) -> frozenset[int]:
        """Return the candidates that had finished all folds within a share of the full grid."""
        return frozenset(candidate for cost, candidate in self.completions if cost <= budget + 1e-9)


@dataclass(frozen=True)
class Spread:
    """A number over the orders of arrival in which it is defined; all NaN if it never is."""

    mean: float
    sd: float
    low: float
    high: float


@dataclass(frozen=True)
class BlendSummary:
    """The nested blended score that a scheduler reaches, over orders of arrival."""

    score: Spread
    behind: Spread
    """Full grid minus this."""
    standard_error: float
    """Of `behind`: bootstrap over groups, mean over orders."""
    within: float
    """Share of orders that end at most one standard error behind the full grid."""
    curve: tuple[tuple[float, float, float, float], ...]
    """(share of the grid, mean, 10 % quantile, 90 % quantile), from the share at which every order has completed a
    candidate."""


@dataclass(frozen=True)
class SchedulerSummary:
    """What one scheduler spends and keeps, over orders of arrival."""

    name: str
    cost: Spread
    regret: Spread
    """Best score of all candidates minus the best of the completed."""
    families: Spread
    completed: Spread
    empty: float
    """Share of orders in which no candidate was completed; regret and blend are those of the others."""
    members: tuple[float, ...]
    """For each known good member: the share of orders in which it was completed."""
    blend: BlendSummary | None


@dataclass(frozen=True)
class Replay:
    """Every scheduler over the same orders of arrival."""

    recording: Recording
    members: tuple[str, ...]
    n_orders: int
    n_workers: int
    summaries: tuple[SchedulerSummary, ...]
    grid_blend: float
    """Nested blended score of all candidates; NaN without predictions."""


def play(recording: Recording, new_scheduler: NewScheduler, order: Sequence[int], *, n_workers: int) -> Play:
    """Play one scheduler with simulated workers; `order` holds the numbers of the candidates as they arrive.

    A report takes as long as when it was recorded, in seconds, or in epochs if the seconds are not known for all.
    """
    numbers = {candidate.name: number for number, candidate in enumerate(recording.candidates)}
    scheduler = new_scheduler(recording, [recording.candidates[number] for number in order])
    clock: Literal["epochs", "seconds"] = "seconds" if recording.is_timed else "epochs"
    busy: list[tuple[float, int, ReplayJob, int, int]] = []
    kept = dict.fromkeys(numbers, 0)
    spent, now, started = 0.0, 0.0, 0
    completions: list[tuple[float, int]] = []
    while True:
        while len(busy) < n_workers and (job := scheduler.next_job()) is not None:
            heapq.heappush(busy, (now + _step(job, 0, 0, clock=clock), started, job, 0, 0))
            started += 1
        if not busy:
            return Play(spent / recording.epochs, tuple(completions))
        now, number, job, position, step = heapq.heappop(busy)
        spent += _step(job, position, step)
        goes_on = scheduler.report(job, job.folds[position], step)
        if step == len(job.candidate.runs[job.folds[position]].progress) - 1:
            kept[job.candidate.name] += goes_on
            if goes_on and kept[job.candidate.name] == recording.n_folds:
                completions.append((spent / recording.epochs, numbers[job.candidate.name]))
            position, step = position + 1, -1
        if goes_on and position < len(job.folds):
            due = now + _step(job, position, step + 1, clock=clock)
            heapq.heappush(busy, (due, number, job, position, step + 1))


def _step(job: ReplayJob, position: int, step: int, *, clock: Literal["epochs", "seconds"] = "epochs") -> float:
    """Return how long a report takes after the one before it."""
    ticks: tuple[float, ...] = getattr(job.candidate.runs[job.folds[position]], clock)
    return ticks[step] - (ticks[step - 1] if step else 0.0)


def replay(
    recording: Recording,
    settings: LadderSettings,
    *,
    members: Sequence[str] = (),
    n_orders: int = 200,
    n_workers: int = 4,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Replay:
    """Play the ladder, plain ASHA, Optuna's Wilcoxon pruner and random search over the same random orders of arrival.

    `members` are names, labels or families (any of a family counts) to complete; `progress` takes scheduler names.

    Raises:
        InputError: a member is not in the recording.
    """
    targets = [_matching(recording, member) for member in members]
    random = [np.random.default_rng([seed, number]) for number in range(n_orders)]
    orders = [generator.permutation(len(recording.candidates)).tolist() for generator in random]
    blends = BlendScores(recording.rows) if recording.rows is not None else None
    everything = frozenset(range(len(recording.candidates)))
    summaries = []
    for name, new_scheduler in _players(recording, settings):
        progress(name)
        plays = [play(recording, new_scheduler, order, n_workers=n_workers) for order in orders]
        summaries.append(_summarise(name, plays, recording, targets, blends))
    grid = blends.score(everything) if blends else float("nan")
    return Replay(recording, tuple(members), n_orders, n_workers, tuple(summaries), grid)


def _players(recording: Recording, settings: LadderSettings) -> list[tuple[str, NewScheduler]]:
    n = len(recording.candidates)
    sizes = sorted({max(1, round(share * n)) for share in RANDOM_SHARES})
    return [
        ("fold ladder", partial(LadderPlayer, settings=settings)),
        *((f"ASHA, reduction {by}", partial(AshaPlayer, reduction=by)) for by in ASHA_REDUCTIONS),
        ("Wilcoxon pruner", WilcoxonPlayer),
        *((f"random, {size} of {n}", partial(RandomPlayer, n_candidates=size)) for size in sizes),
        ("full grid", partial(RandomPlayer, n_candidates=n)),
    ]


def _matching(recording: Recording, member: str) -> frozenset[int]:
    """Return the candidates with this name or label, or of this family (its last path part is enough)."""
    found = [
        number
        for number, c in enumerate(recording.candidates)
        if member in (c.name, c.label, c.family, c.family.rsplit("/", 1)[-1])
    ]
    if found:
        return frozenset(found)
    known = ", ".join(sorted({c.family for c in recording.candidates}))
    raise InputError(f"--members {member}: no candidate of the recording has this name or family; families: {known}")


# ---------------------------------------------------------------- results


def spread(values: Sequence[float]) -> Spread:
    """Return mean, standard deviation, least and greatest of the values that are not NaN."""
    known = np.array([value for value in values if not np.isnan(value)])
    if not known.size:
        return Spread(*[float("nan")] * 4)
    sd = float(known.std(ddof=1)) if known.size > 1 else 0.0
    return Spread(float(known.mean()), sd, float(known.min()), float(known.max()))


def _summarise(
    name: str,
    plays: Sequence[Play],
    recording: Recording,
    targets: Sequence[frozenset[int]],
    blends: BlendScores | None,
) -> SchedulerSummary:
    candidates = recording.candidates
    best = max(candidate.mean_utility for candidate in candidates)
    ends = [found.completed() for found in plays]
    reached = [max((candidates[number].mean_utility for number in end), default=float("nan")) for end in ends]
    return SchedulerSummary(
        name=name,
        cost=spread([found.cost for found in plays]),
        regret=spread([best - score for score in reached]),
        families=spread([float(len({candidates[number].family for number in end})) for end in ends]),
        completed=spread([float(len(end)) for end in ends]),
        empty=float(np.mean([not end for end in ends])),
        members=tuple(float(np.mean([bool(target & end) for end in ends])) for target in targets),
        blend=_summarise_blend(plays, blends, len(candidates)) if blends else None,
    )


def _summarise_blend(plays: Sequence[Play], blends: BlendScores, n_candidates: int) -> BlendSummary:
    everything = frozenset(range(n_candidates))
    full = blends.score(everything)
    ends = [found.completed() for found in plays]
    behind = [full - blends.score(end) for end in ends]
    errors = [blends.standard_error(everything, end) if end else float("nan") for end in ends]
    close = [bool(gap <= error) for gap, error in zip(behind, errors, strict=True)]
    curve: list[tuple[float, float, float, float]] = []
    for budget in BUDGETS:
        values = np.array([blends.score(found.completed(budget)) for found in plays])
        if not np.isnan(values).any() and budget <= max(found.cost for found in plays) + 1 / len(BUDGETS):
            low, high = np.quantile(values, (0.1, 0.9))
            curve.append((budget, float(values.mean()), float(low), float(high)))
    return BlendSummary(
        score=spread([blends.score(end) for end in ends]),
        behind=spread(behind),
        standard_error=spread(errors).mean,
        within=float(np.mean(close)),
        curve=tuple(curve),
    )
