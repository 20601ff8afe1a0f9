"""Candidates whose utilities are known in advance, and a search that plays them against a ladder in any order."""

import itertools
import math
import pickle
import random
from dataclasses import dataclass, field

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from search.ladder.decisions import Decision, FoldRun
from search.ladder.fold_ladder import FoldLadder
from search.ladder.settings import LadderSettings

N_FOLDS = 4
RUNGS = (1 / 3, 2 / 3)
FIXED_BAND = {"prior_folds": 1e12}
"""The prior outweighs all that the folds can show, so the band that runs share stays what it is."""
QUIET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def run_of(candidate: str, fold: int = 0, family: str = "bert") -> FoldRun:
    return FoldRun(candidate, family, fold)


def ladder_with(n_folds: int = N_FOLDS, **changes: object) -> FoldLadder:
    sharp = {"rungs": RUNGS, "rung_eta": changes.get("eta", 3), "growth": 0.0}
    return FoldLadder(LadderSettings(**{**sharp, **changes}), n_folds=n_folds)


@dataclass
class Surface:
    """Candidates of several families whose utility at (fold, progress) is known in advance."""

    seed: int
    n_candidates: int = 12
    n_families: int = 3
    shift: dict[tuple[int, float], float] = field(default_factory=dict)
    """Added to every candidate's utility at (fold, progress): how hard that fold is at that point."""
    deaths: dict[tuple[str, int], int] = field(default_factory=dict)
    """How many times a fold run dies."""
    n_rows: int = 0
    """Rows of a fold; 0: no predictions are told."""

    def __post_init__(self) -> None:
        generator = np.random.default_rng(self.seed)
        self.names = [f"c{number}" for number in range(self.n_candidates)]
        self.family = {name: f"family{number % self.n_families}" for number, name in enumerate(self.names)}
        self.quality = dict(zip(self.names, generator.uniform(0.5, 0.8, self.n_candidates), strict=True))
        points = itertools.product(self.names, range(N_FOLDS), (*RUNGS, 1.0))
        self.noise = {point: generator.normal(0, 0.004) for point in points}
        self.truth = [generator.normal(size=self.n_rows) for _ in range(N_FOLDS)]
        self.errors = {
            (name, fold): generator.normal(size=self.n_rows) for name in self.names for fold in range(N_FOLDS)
        }

    def runs(self, name: str, fold: int) -> FoldRun:
        return FoldRun(name, self.family[name], fold)

    def utility(self, name: str, fold: int, progress: float) -> float:
        # Multiples of 2^-20, so that sums with a shift of few bits are exact and comparisons cannot turn by rounding.
        value = self.quality[name] - 0.1 * (1 - progress) + self.noise[name, fold, progress]
        return round(value * 2**20) / 2**20 + self.shift.get((fold, progress), 0.0)

    def prediction(self, name: str, fold: int) -> np.ndarray | None:
        if not self.n_rows:
            return None
        return self.quality[name] * self.truth[fold] + (1 - self.quality[name]) * self.errors[name, fold]


@dataclass
class Story:
    """What was asked of a ladder and what it answered."""

    ladder: FoldLadder
    events: list[tuple[object, ...]] = field(default_factory=list)
    answers: list[object] = field(default_factory=list)
    started: list[FoldRun] = field(default_factory=list)


def play(
    surface: Surface, ladder: FoldLadder, *, order: random.Random, workers: int = 3, pickled: bool = False
) -> Story:
    """Run a whole search with `workers` slots; which worker reports next is up to `order`."""
    story = Story(ladder)
    fresh = list(surface.names)
    live: list[tuple[FoldRun, list[float]]] = []
    died: dict[tuple[str, int], int] = {}

    def ask(call: str, *values: object, **named: object) -> object:
        answer = getattr(story.ladder, call)(*values, **named)
        story.events.append((call, values, named))
        story.answers.append(answer)
        if pickled:
            story.ladder = pickle.loads(pickle.dumps(story.ladder))
        return answer

    for _ in range(10_000):
        while len(live) < workers:
            run = ask("next_run", new_available=bool(fresh))
            if run is None and fresh:
                run = surface.runs(fresh.pop(0), 0)
            if run is None:
                break
            assert run not in [other for other, _ in live], "a live run was handed out again"
            ask("start", run)
            story.started.append(run)
            live.append((run, [*RUNGS, 1.0]))
        if not live:
            return story
        position = order.randrange(len(live))
        run, points = live[position]
        progress = points.pop(0)
        key = (run.candidate, run.fold)
        utility = surface.utility(run.candidate, run.fold, progress)
        if died.get(key, 0) < surface.deaths.get(key, 0):
            died[key] = died.get(key, 0) + 1
            utility = math.nan
        if progress < 1:
            decision = ask("report", run, progress, utility)
        else:
            decision = ask("finish", run, utility, surface.prediction(*key), surface.truth[run.fold])
        assert isinstance(decision, Decision)
        assert decision.reason
        if progress == 1 or not decision.go:
            live.pop(position)
    raise AssertionError("the search did not end")


def states(ladder: FoldLadder) -> dict[str, str]:
    return {name: status.state for name, status in ladder.status().items()}


surfaces = st.builds(
    Surface,
    seed=st.integers(0, 10_000),
    n_candidates=st.integers(1, 14),
    n_families=st.integers(1, 4),
    n_rows=st.sampled_from([0, 80]),
    deaths=st.dictionaries(
        st.tuples(st.sampled_from([f"c{number}" for number in range(14)]), st.integers(0, N_FOLDS - 1)),
        st.integers(1, 2),
        max_size=8,
    ),
)
orders = st.integers(0, 10_000)
