"""Measure what a decision of the fold ladder costs as a search grows, without Ray.

    python benchmarks/bench_ladder.py [--candidates 1000] [--folds 5] [--slots 64] [--rows 1000] [--no-rungs]

Plays one synthetic search straight against `FoldLadder`: `slots` fold runs are under way at a time, and a random one
reports next. Families share errors, so blends gain from mixing them. As in the conductor, `status` is called after
every fold run that ends. Prints the CPU milliseconds of each kind of call over the last 100 candidates before each
mark, the total driver time, and the memory that the ladder itself holds. `--no-rungs` lets every candidate finish fold
0, which gives the largest possible number of waiting candidates.
"""

import argparse
import random
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from search.ladder.decisions import Decision, FoldRun
from search.ladder.fold_ladder import FoldLadder
from search.ladder.settings import LadderSettings

Answer = TypeVar("Answer")

MARKS = (100, 300, 1000)
N_FAMILIES = 6
RUNGS = (1 / 3, 2 / 3)


class Surface:
    """Made-up candidates; a metric is the Pearson of a prediction that is made when it is asked for."""

    def __init__(self, *, n_folds: int, n_rows: int, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        self.seed = seed
        self.score = [generator.choice([0.0, 0.25, 0.5, 0.75, 1.0], size=n_rows) for _ in range(n_folds)]
        self.group = np.arange(n_rows) // 10
        self.shared = [generator.normal(size=n_rows) * 0.13 for _ in range(n_folds)]
        self.family = [generator.normal(size=(N_FAMILIES, n_rows)) * 0.08 for _ in range(n_folds)]

    def run(self, number: int, fold: int) -> FoldRun:
        """Return the fold run of the candidate with this number."""
        return FoldRun(f"c{number}", f"family{number % N_FAMILIES}", fold)

    def predict(self, run: FoldRun) -> NDArray[np.float64]:
        """Return the predictions [rows] of a fold run."""
        number = int(run.candidate[1:])
        size = np.random.default_rng([self.seed, number]).uniform(0.05, 0.2)
        own = np.random.default_rng([self.seed, number, run.fold]).normal(size=len(self.group)) * size
        family = self.family[run.fold][number % N_FAMILIES]
        return np.asarray(self.score[run.fold] + self.shared[run.fold] + family + own)

    def metric(self, run: FoldRun, prediction: NDArray[np.float64], progress: float) -> float:
        """Return the metric at a progress; it grows with it."""
        return float(np.corrcoef(prediction, self.score[run.fold])[0, 1]) - 0.05 * (1 - progress)


@dataclass
class Clock:
    """CPU seconds of every call, with the number of candidates that had begun."""

    calls: list[tuple[int, str, float]] = field(default_factory=list)
    begun: int = 0

    def time(self, name: str, call: Callable[[], Answer]) -> Answer:
        """Return what `call` returns and note what it cost."""
        before = time.process_time()
        answer = call()
        self.calls.append((self.begun, name, time.process_time() - before))
        return answer

    def until(self, mark: int, name: str) -> NDArray[np.float64]:
        """Return the milliseconds of the calls made while the 100 candidates before `mark` began."""
        return np.array([1e3 * cost for begun, kind, cost in self.calls if kind == name and mark - 100 < begun <= mark])


def judge(
    surface: Surface,
    ladder: FoldLadder,
    clock: Clock,
    *,
    run: FoldRun,
    prediction: NDArray[np.float64],
    progress: float,
) -> Decision:
    """Tell the ladder what a fold run scored at a progress."""
    metric = surface.metric(run, prediction, progress)
    if progress < 1:
        return clock.time("report", lambda: ladder.report(run, progress, metric))
    score = surface.score[run.fold]
    return clock.time("finish", lambda: ladder.finish(run, metric, prediction, score, surface.group))


def fold_runs(surface: Surface, ladder: FoldLadder, clock: Clock, options: argparse.Namespace) -> Iterator[int]:
    """Play the whole search; yields after every fold run that ended."""
    order = random.Random(0)
    live: list[tuple[FoldRun, list[float], NDArray[np.float64]]] = []
    while True:
        while len(live) < options.slots:
            fresh = clock.begun < options.candidates
            run = clock.time("next_run", partial(ladder.next_run, new_available=fresh))
            if run is None and fresh:
                run = surface.run(clock.begun, 0)
                clock.begun += 1
            if run is None:
                break
            ladder.start(run)
            live.append((run, [*RUNGS, 1.0], surface.predict(run)))
        if not live:
            return
        position = order.randrange(len(live))
        run, points, prediction = live[position]
        progress = points.pop(0)
        decision = judge(surface, ladder, clock, run=run, prediction=prediction, progress=progress)
        if progress == 1 or not decision.go:
            live.pop(position)
            clock.time("status", ladder.status)
            yield len(live)


def main() -> None:
    """Play one search and print what its calls cost."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--candidates", type=int, default=1000)
    arguments.add_argument("--folds", type=int, default=5)
    arguments.add_argument("--slots", type=int, default=64)
    arguments.add_argument("--rows", type=int, default=1000)
    arguments.add_argument("--no-rungs", action="store_true")
    arguments.add_argument("--memory", action="store_true", help="trace memory (slows every call down)")
    options = arguments.parse_args()
    surface = Surface(n_folds=options.folds, n_rows=options.rows)
    settings = LadderSettings(rungs=()) if options.no_rungs else LadderSettings()
    ladder, clock = FoldLadder(settings, n_folds=options.folds), Clock()
    if options.memory:
        tracemalloc.start()
    n_runs = sum(1 for _ in fold_runs(surface, ladder, clock, options))
    states = [status.state for status in ladder.status().values()]
    print(f"{options.candidates} candidates, {n_runs} fold runs: {states.count('finished')} finished")
    print(f"{'CPU ms':10}{'candidates':>11}{'calls':>7}{'median':>9}{'99th':>9}{'max':>9}")
    for name in ("report", "finish", "next_run", "status"):
        for mark in [mark for mark in MARKS if mark <= options.candidates]:
            costs = clock.until(mark, name)
            figures = [np.median(costs), np.quantile(costs, 0.99), costs.max()]
            print(f"{name:10}{mark:11}{len(costs):7}" + "".join(f"{figure:9.3f}" for figure in figures))
    total = sum(cost for _, _, cost in clock.calls)
    print(f"all calls: {total:.1f} s CPU, {1e3 * total / n_runs:.2f} ms a fold run")
    if options.memory:
        print(f"memory held at the end: {tracemalloc.get_traced_memory()[0] / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
