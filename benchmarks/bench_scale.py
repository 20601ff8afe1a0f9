"""Measure what a search costs its driver: 1,000 simulated candidates on 5 folds and 64 slots.

    python benchmarks/bench_scale.py                  # Tune's loop simulated here: the cost of each decision
    python benchmarks/bench_scale.py --ray --slots 16 # the whole search on Ray, with this many real worker processes
    python benchmarks/bench_scale.py --every-fold     # nothing is stopped: 5,000 fold runs
    python benchmarks/bench_scale.py --data prepared/pppm  # predictions of as many rows as the competition has

A fold run takes no time and trains nothing: it replays a synthetic curve and writes small prediction tables through
`OofStore`. Everything else is the product's own: sampler, ladder, conductor, record, searcher, scheduler and, with
`--ray`, `run_study` itself. Times are CPU seconds of the driver unless labeled otherwise.
"""

import argparse
import gc
import os
import resource
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from data_prep.console import EscapingConsole
from data_prep.prepare.prepare_folder import prepare
from data_prep.prepared import Prepared, load_prepared
from data_prep.store.oof_store import OofStore, Provenance
from models.candidate import Candidate
from search.driver.conductor import Conductor
from search.ladder.fold_ladder import FoldLadder
from search.ray_tune.ray_session import ray_session
from search.ray_tune.run_study import run_study
from search.ray_tune.run_tune import run_tune
from search.study.read_study import read_study, resolve_study
from search.study.sampler import Sampler
from search.watch.console_lines import ConsoleLines
from search.watch.run_statistics import RunStatistics
from search.worker.fold_run import load_prepared_once
from search.worker.messages import (
    FoldRunOrder,
    FoldRunSettings,
    Report,
    ScoreReport,
    SendReport,
    order_from_dict,
    report_to_dict,
)

SAMPLE = Path(__file__).parents[1] / "data_prep" / "sample"
FAMILIES = ("deberta", "roberta", "electra", "bert", "funnel")
RUNGS = (1 / 3, 2 / 3, 1.0)
MEASURED = (
    (Conductor, "next_assignment"),
    (FoldLadder, "next_run"),
    (Sampler, "ask"),
    (Conductor, "observe"),
    (FoldLadder, "report"),
    (FoldLadder, "finish"),
    (Conductor, "publish"),
    (Conductor, "close"),
)
"""Calls of the driver; those after a `Conductor`'s are part of it."""
WINDOW = 100
"""Calls over which a cost is averaged."""
SLOW = 5
"""Milliseconds from which calls are counted."""


# One simulated fold run


def strength_of(candidate: Candidate) -> float:
    """Return how good a candidate is: best at a rate of 3e-5, families and heads differ a little."""
    rate = 1 - 0.3 * abs(np.log10(candidate.backbone_lr) + 4.5)
    return float(np.clip(rate - 0.03 * FAMILIES.index(candidate.backbone) - 0.05 * (candidate.dropout or 0.0), 0.2, 1))


def predictions(data: Prepared, candidate: Candidate, fold: int) -> tuple[pa.Table, pa.Table]:
    """Return the OOF and test tables of a fold run: truth in noise that a family shares in part."""
    rows = data.train.filter(pa.array(data.train["fold"].to_numpy() == fold))
    score = rows["score"].to_numpy()
    shared = np.random.default_rng([FAMILIES.index(candidate.backbone), fold]).normal(size=len(score))
    own = np.random.default_rng([int(candidate.id, 16), fold]).normal(size=len(score))
    prediction = (score + (0.15 * shared + 0.15 * own) / strength_of(candidate)).astype(np.float32)
    oof = pa.table({"id": rows["id"], "fold": rows["fold"], "score": score, "prediction": prediction})
    n_test = data.test.num_rows
    test = {"id": data.test["id"], "fold": np.full(n_test, fold, np.int8), "prediction": np.zeros(n_test, np.float32)}
    return oof, pa.table(test)


def replay(settings: FoldRunSettings, order: FoldRunOrder, send: SendReport) -> None:
    """Do a fold run: a report at each rung, tables before the last."""
    data, store = load_prepared_once(settings.data, settings.split_hash), OofStore(settings.run_dir)
    candidate, fold = order.assignment.candidate, order.assignment.fold
    oof, test = predictions(data, candidate, fold)
    metric = data.task.measure(oof["score"].to_numpy(), oof["prediction"].to_numpy())
    for progress in RUNGS:
        if progress == 1.0:
            manifest = data.manifest
            provenance = Provenance(candidate.id, fold, manifest.data_hash, manifest.split_hash, 0, 3.0)
            store.write(provenance, oof=oof, test=test)
        send(ScoreReport(progress, epoch=3 * progress, metric=metric * progress**0.1, seconds=1.0))


# What is measured


class Meter:
    """CPU seconds of every call of some functions of the driver."""

    def __init__(self) -> None:
        self.calls: dict[str, list[float]] = {}

    def on(self, owner: type, name: str) -> None:
        """Time every call of a method from now on."""
        inner, seconds = getattr(owner, name), self.calls.setdefault(name, [])

        def timed(*arguments: Any, **keywords: Any) -> Any:
            begun = time.thread_time()
            try:
                return inner(*arguments, **keywords)
            finally:
                seconds.append(time.thread_time() - begun)

        setattr(owner, name, timed)

    def show(self) -> None:
        """Print how the cost of a call grew."""
        heads = ("first 100", "last 100", "median", "worst")
        print(f"{'driver call':16}{'calls':>8}" + "".join(f"{head:>11}" for head in heads) + "   ms of CPU; over 5 ms")
        for name, seconds in self.calls.items():
            if seconds:
                costs = 1e3 * np.array(seconds)
                shown = (costs[:WINDOW].mean(), costs[-WINDOW:].mean(), np.median(costs), costs.max())
                numbers = "".join(f"{cost:11.2f}" for cost in shown)
                print(f"{name:16}{len(costs):8}{numbers}{(costs > SLOW).sum():24}")


def resident_mib() -> float:
    """Return the resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


def watch_memory(seen: list[tuple[int, float]], store: OofStore, stop: threading.Event) -> None:
    """Note (candidates known, MiB) again and again."""
    folder = Path(store.root, "candidates")
    while not stop.wait(2.0):
        seen.append((sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0, resident_mib()))


# Tune's loop, played


def play(conductor: Conductor, slots: int, settings: FoldRunSettings) -> None:
    """Take the place of Tune: keep `slots` fold runs going, their reports in random order."""
    from search.ray_tune.family_resources import FamilyResources  # noqa: PLC0415
    from search.ray_tune.scheduler import FoldScheduler  # noqa: PLC0415 - imports Ray
    from search.ray_tune.searcher import FoldSearcher  # noqa: PLC0415 - imports Ray

    resources, size = conductor.study.resources, {"CPU": float(slots)}
    families = FamilyResources(settings.run_dir, resources, lambda: [(float(slots), 0.0)])
    searcher = FoldSearcher(conductor, resources, lambda _: None, families, cluster_size=lambda: size)
    scheduler, draw = FoldScheduler(searcher), np.random.default_rng(0)
    running: dict[str, list[dict[str, Any]]] = {}
    number = 0
    while True:
        suggested = searcher.suggest(str(number))
        if isinstance(suggested, dict):
            trial, number = SimpleNamespace(trial_id=str(number), status="RUNNING"), number + 1
            scheduler.on_trial_add(None, trial)
            reports: list[Report] = []
            replay(settings, order_from_dict(suggested), reports.append)
            running[trial.trial_id] = [report_to_dict(report) for report in reports]
            continue
        if not running:
            return
        name = list(running)[draw.integers(len(running))]
        answer = scheduler.on_trial_result(None, SimpleNamespace(trial_id=name), running[name].pop(0))
        if answer == "STOP":
            del running[name]
            searcher.on_trial_complete(name, {})
        conductor.publish()


# The bench


def write_study(folder: Path, arguments: argparse.Namespace) -> Path:
    """Write the study, and prepare the sample in folds where no data are given."""
    data = arguments.data or str(folder / "prepared")
    if not arguments.data:
        prepare(train=SAMPLE / "train.csv", test=SAMPLE / "test.csv", out=data, n_folds=arguments.folds)
    study = {
        "name": "scale",
        "data": data,
        "budget": {"candidates": arguments.candidates},
        "sampler": arguments.sampler,
        "ladder": {"enabled": not arguments.every_fold},
        "space": {
            "backbone": list(FAMILIES),
            "backbone_lr": {"loguniform": [3e-6, 3e-4]},
            "dropout": {"uniform": [0.0, 0.3]},
            "head": ["cls", "mean", "attention"],
            "loss": ["mse", "bce", "pearson"],
        },
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def search_here(path: Path, run_dir: Path, slots: int) -> None:
    """Run the study with Tune's loop played in this process."""
    study = read_study(path)
    data = load_prepared(study.data)
    with Path(run_dir.parent / "log.txt").open("w", encoding="utf-8") as log:
        resolved = resolve_study(study, data)
        tally = RunStatistics.of(resolved, data)
        watcher = ConsoleLines(EscapingConsole(file=log), tally)
        conductor = Conductor(resolved, data, str(run_dir), watcher, hours_spent=lambda: 0.0)
        tally.to_come = lambda: conductor.candidates_to_come
        settings = FoldRunSettings(
            run_dir=str(run_dir),
            data=study.data,
            split_hash=data.manifest.split_hash,
            rungs=study.ladder.rungs,
            rung_rows=None,
            dead_below=None,
            checkpoint_seconds=60,
            backbones=None,
            home=".",
        )
        gc.collect()
        gc.freeze()  # as `run_tune` does
        play(conductor, slots, settings)
        conductor.close()


def search_on_ray(path: Path, run_dir: Path, slots: int) -> None:
    """Run the study as a user does, but for what a fold run does and how many slots the machine pretends to have."""
    tune = partial(run_tune, make_trainable=lambda settings: partial(simulated, settings))
    open_session = partial(ray_session, n_cores=slots)
    run_study(path, runs=str(run_dir.parent), dashboard=False, open_session=open_session, tune=tune)


def simulated(settings: FoldRunSettings, config: dict[str, Any]) -> None:
    """Run on a worker."""
    from ray import tune  # noqa: PLC0415 - workers only

    replay(settings, order_from_dict(config), lambda report: tune.report(report_to_dict(report)))


def reopen(path: Path, run_dir: Path) -> tuple[float, float]:
    """Return the seconds from opening a run directory to its first decision: elapsed, and of CPU."""
    study = read_study(path)
    data = load_prepared(study.data)
    more = study.model_copy(update={"budget": study.budget.model_copy(update={"candidates": 10**6})})
    begun, cpu = time.perf_counter(), time.process_time()
    with Path(os.devnull).open("w", encoding="utf-8") as log:
        resolved = resolve_study(more, data)
        progress = ConsoleLines(EscapingConsole(file=log), RunStatistics.of(resolved, data))
        Conductor(resolved, data, str(run_dir), progress, hours_spent=lambda: 0.0).next_assignment()
    return time.perf_counter() - begun, time.process_time() - cpu


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=1000)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--sampler", choices=("tpe", "random"), default="tpe")
    parser.add_argument("--every-fold", action="store_true", help="switch the ladder off: every candidate, every fold")
    parser.add_argument("--ray", action="store_true", help="run on Ray, with real worker processes")
    parser.add_argument("--data", help="a prepared folder, whose rows count; by default the sample, in --folds folds")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        bench(arguments, arguments.folder or Path(temporary))


def bench(arguments: argparse.Namespace, folder: Path) -> None:
    """Run the study, then open its run directory again, and print what both cost."""
    folder.mkdir(parents=True, exist_ok=True)
    path, run_dir = write_study(folder, arguments), folder / "runs" / "scale"
    run_dir.mkdir(parents=True)
    meter, memory, stop = Meter(), [(0, resident_mib())], threading.Event()
    for owner, name in MEASURED:
        meter.on(owner, name)
    store = OofStore(run_dir)
    watcher = threading.Thread(target=watch_memory, args=(memory, store, stop), daemon=True)
    watcher.start()
    begun, cpu = time.perf_counter(), time.process_time()
    (search_on_ray if arguments.ray else search_here)(path, run_dir, arguments.slots)
    elapsed, cpu = time.perf_counter() - begun, time.process_time() - cpu
    stop.set()
    meter.show()
    report(run_dir, elapsed, cpu, memory, simulated_too=not arguments.ray)
    seconds, of_cpu = reopen(path, run_dir)
    print(f"opened again: first decision after {seconds:.1f} s ({of_cpu:.1f} s of CPU)")


def report(run_dir: Path, elapsed: float, cpu: float, memory: list[tuple[int, float]], *, simulated_too: bool) -> None:
    """Print what the whole search took."""
    started = sum(1 for _ in (run_dir / "candidates").iterdir())
    finished = sum(1 for _ in OofStore(run_dir).fold_runs())
    print(f"candidates {started}, fold runs finished {finished}, {elapsed:.0f} s elapsed, {cpu:.0f} s of driver CPU")
    what = "decisions and the simulated fold run" if simulated_too else "orchestration"
    print(f"driver CPU per finished fold run, {what}: {1e3 * cpu / finished:.1f} ms")
    marks = [memory[int(share * (len(memory) - 1))] for share in (0, 0.25, 0.5, 0.75, 1)]
    print("driver memory, MiB (at candidates): " + ", ".join(f"{mib:.0f} ({number})" for number, mib in marks))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak {peak:.0f} MiB")


if __name__ == "__main__":
    main()
