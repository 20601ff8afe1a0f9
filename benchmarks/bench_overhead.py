"""Measure where the time of a search's slots goes: how much is spent inside `train_fold`, and on what.

    python benchmarks/bench_overhead.py                     # studies/demo.yaml on prepared/sample
    python benchmarks/bench_overhead.py --only pair-cls     # some of its candidates
    python benchmarks/bench_overhead.py --run runs/pppm-cpu # less detail, read from a finished run directory

With `--run`, the time inside `train_fold` is what the fold runs recorded in `curves.arrow`, which leaves out loading
texts and model, and whatever follows a fold run's last report. It counts from the first candidate's file to the last
entry of the record, so use it for a search that was not interrupted. Without `--run`, the study runs in a temporary run
directory. Functions are wrapped in the workers, and each span counts the time that no span inside it took. A slot's
time goes from the start of the search to its end, so Ray's start, workers that load, and slots that are idle at the end
because nothing is left to run are all included.
"""

import argparse
import functools
import itertools
import json
import math
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from data_prep.store.oof_store import OofStore
from search.ray_tune.run_study import run_study
from search.ray_tune.run_tune import run_tune
from search.run_dir.curves import CurvePoint, Curves
from search.study.read_study import read_study
from search.worker.messages import FoldRunSettings, Report, order_from_dict, report_to_dict

LOADING = ("backbone files", "tokens", "model")
TRAINING = ("steps", "prediction", "checkpoints", "the driver's answer at a rung", "batches and the rest")


class Trace:
    """Exclusive seconds of nested spans."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.inside: dict[str, float] = defaultdict(float)
        self._children: list[float] = []

    def wrap(self, name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, its calls counted under `name`."""

        @functools.wraps(inner)
        def traced(*arguments: Any, **keywords: Any) -> Any:
            begun = time.monotonic()
            self._children.append(0.0)
            try:
                return inner(*arguments, **keywords)
            finally:
                took = time.monotonic() - begun
                self.inside[name] += took
                self.seconds[name] += took - self._children.pop()
                if self._children:
                    self._children[-1] += took

        return traced


def traced_fold_run(settings: FoldRunSettings, folder: str, config: dict[str, Any]) -> None:
    """Do a fold run on a worker, and keep a line of where its time went."""
    begun = time.monotonic()
    from ray import tune  # noqa: PLC0415 - workers only

    from models.backbones import checkpoint_files  # noqa: PLC0415 - imports torch, as the fold run would
    from models.training import checkpoint, learner  # noqa: PLC0415 - imports torch, as the fold run would
    from models.training import train_fold as training  # noqa: PLC0415 - imports torch, as the fold run would
    from search.worker import fold_run  # noqa: PLC0415 - workers only

    fold_run.enter_home(settings)
    trace = Trace()
    trace.seconds["imports"] = time.monotonic() - begun
    spans = [
        (training, "train_fold", TRAINING[-1]),
        (checkpoint_files.BackboneFiles, "_load", LOADING[0]),
        (training, "load_fold_pools", LOADING[1]),
        (training, "new_learner", LOADING[2]),
        (learner.Learner, "predict_pool", "prediction"),
        (learner.Learner, "step", "steps"),
        (checkpoint.CheckpointFolder, "save", "checkpoints"),
        (checkpoint.CheckpointFolder, "load", "checkpoints"),
        (OofStore, "write", "prediction tables"),
        (fold_run, "release_memory", "letting go of the model"),
    ]
    plain = [(owner, name, getattr(owner, name)) for owner, name, _ in spans]
    for owner, name, label in spans:
        setattr(owner, name, trace.wrap(label, getattr(owner, name)))
    try:
        report = trace.wrap("the driver's answer at a rung", tune.report)

        def send(message: Report) -> None:
            report(report_to_dict(message))

        trace.wrap("the rest of the fold run", fold_run.run_fold)(settings, order_from_dict(config), send)
    finally:
        for owner, name, function in plain:
            setattr(owner, name, function)
        line = {"begun": begun, "ended": time.monotonic(), "seconds": trace.seconds}
        line["train_fold"] = trace.inside[TRAINING[-1]]
        with Path(folder, f"{os.getpid()}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def main() -> None:
    """Run the study and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=Path("studies/demo.yaml"))
    parser.add_argument("--only", nargs="*", help="names under `candidates:`")
    parser.add_argument("--run", help="a finished run directory, uninterrupted")
    parser.add_argument("--slots", type=int, help="with --run: fold runs that could run at once, if not here")
    arguments = parser.parse_args()
    if arguments.run:
        read_off(Path(arguments.run), arguments.slots)
        return
    with tempfile.TemporaryDirectory() as folder:
        tune = partial(run_tune, make_trainable=lambda settings: partial(traced_fold_run, settings, folder))
        begun = time.monotonic()
        run_study(arguments.study, runs=str(Path(folder, "runs")), only=arguments.only, tune=tune)
        ended = time.monotonic()
        workers = [
            [json.loads(line) for line in path.read_text().splitlines()] for path in Path(folder).glob("*.jsonl")
        ]
    show(workers, begun, ended, n_slots=slots_of(arguments.study))


def slots_of(study: Path) -> int:
    """Return how many fold runs of a study may run at once on this machine."""
    return int(len(os.sched_getaffinity(0)) / read_study(study).resources.cpu)


def read_off(run_dir: Path, n_slots: int | None) -> None:
    """Print how much of the slots' time a finished search spent inside `train_fold`, from what it wrote."""
    n_slots = n_slots or slots_of(run_dir / "study.yaml")
    points = Curves(str(run_dir)).entries
    inside, n_runs = seconds_inside(points)
    begun = min(path.stat().st_mtime for path in (run_dir / "candidates").glob("*.json"))
    ends = sorted(path.stat().st_mtime for path in (run_dir / "oof").rglob("*.arrow"))
    ended = max(ends[-1], (run_dir / "curves.arrow").stat().st_mtime)
    total = n_slots * (ended - begun)
    print(f"{n_runs} fold runs on {n_slots} slots, {ended - begun:.0f} s from the first candidate to the end")
    print(f"inside train_fold: {inside:.1f} of {total:.1f} s of the slots = {inside / total:.1%}")
    waiting = sum(ended - end for end in ends[-n_slots:])
    busy = total - waiting
    print(f"without what slots waited after their last finished fold run ({waiting:.1f} s): {inside / busy:.1%}")


def seconds_inside(points: Sequence[CurvePoint]) -> tuple[float, int]:
    """Return the seconds of all fold runs, and their number; what is tried again after a death counts anew."""
    last: dict[tuple[str, int], float] = {}
    total, n_runs = 0.0, 0
    for point in points:
        before = last.get((point.candidate, point.fold), math.inf)
        n_runs += before > point.seconds
        total += point.seconds - (before if before <= point.seconds else 0.0)
        last[point.candidate, point.fold] = point.seconds
    return total, n_runs


def show(workers: list[list[dict[str, Any]]], begun: float, ended: float, *, n_slots: int) -> None:
    """Print where the time of all slots went, by the lines of each worker process, in order."""
    runs = [line for lines in workers for line in lines]
    parts: dict[str, float] = defaultdict(float)
    for line in runs:
        for name, seconds in line["seconds"].items():
            parts[name] += seconds
    first, last = min(line["begun"] for line in runs), max(line["ended"] for line in runs)
    total, done = n_slots * (ended - begun), sum(line["ended"] - line["begun"] for line in runs)
    parts["before the first fold run: Ray, and a worker, start"] = n_slots * (first - begun)
    parts["after the last fold run: Ray stops"] = n_slots * (ended - last)
    gaps = sum(b["begun"] - a["ended"] for lines in workers for a, b in itertools.pairwise(lines))
    parts["between two fold runs of a worker"] = gaps
    parts["idle, or its worker not started yet"] = n_slots * (last - first) - gaps - done
    inside = sum(line["train_fold"] for line in runs)
    print(f"{len(runs)} fold runs on {n_slots} slots, {len(workers)} worker processes, {ended - begun:.0f} s")
    names = [*LOADING, *TRAINING]
    for name in [*names, *sorted(parts.keys() - set(names), key=lambda key: -parts[key])]:
        where = "train_fold: " if name in names else ""
        print(f"  {where + name:56}{parts[name]:9.1f} s{parts[name] / total:8.1%}")
    print(f"inside train_fold: {inside:.1f} of {total:.1f} s of the slots = {inside / total:.1%}")
    busy = n_slots * (last - first)
    print(f"from the first fold run to the end of the last: {inside / busy:.1%}; of the fold runs: {inside / done:.1%}")


if __name__ == "__main__":
    main()
