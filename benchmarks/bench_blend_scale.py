"""Measure what a blend of many candidates costs, and what other packages need for the same columns.

    python benchmarks/bench_blend_scale.py                                           # 300 candidates, 36,473 rows
    python benchmarks/bench_blend_scale.py --candidates 1000 --rows 1000000 --method nelder-mead+line   # 25 GB of disk
    python benchmarks/bench_blend_scale.py --peers peers/bin/python                  # also AutoGluon and hillclimbers

A separate process writes a prepared folder and a run directory to a temporary folder, through the product's own
writers: 5 folds, groups of 50 rows, candidates with a Pearson of about .70 to .86. Their errors have a part that all
share, a part that the family shares, a part of the candidate and a part of the fold model. Then this process does what
`blendfold blend` does: it reads and checks every table, lets all ways to blend compete,
and computes the evidence with 1,000 bootstrap resamples.

Memory is the process's own memory, sampled. Pages of mapped files do not count, because the system reclaims them when
it needs them. For `--peers`: python -m venv peers && peers/bin/pip install autogluon.core hillclimbers
"""

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import yaml

from blend.fit.blend_settings import BlendSettings
from blend.fit.objective import MetricOnMoments, Readout
from blend.fit.weight_methods import METHODS, exact, nelder_mead
from blend.make_blend import FinishedBlend, make_blend
from blend.members.load_predictions import load_predictions
from blend.members.member_predictions import MemberPredictions
from blend.members.moment_sums import measure, total
from data_prep.prepared import PreparedManifest, hash_data, hash_split, load_prepared, write_prepared
from data_prep.scoring.combination import Floats
from data_prep.scoring.metrics import pearson
from data_prep.store.oof_store import OofStore, Provenance
from data_prep.task import Task

N_FOLDS, N_FAMILIES, PER_GROUP = 5, 8, 50
TASK = Task(name="scale", text_columns=("left",), group_column="left", score_levels=(0.0, 0.25, 0.5, 0.75, 1.0))
SHARES = (0.205, 0.316, 0.337, 0.110, 0.032)
"""Of the scores, as in PPPM."""
SHARED_BY_GROUP, SHARED_BY_ROW, BY_FAMILY, BY_MODEL = 0.05, 0.09, 0.06, 0.07
"""Standard deviations of the parts of errors, on the scale of the score; the candidate's own: .07 to .22."""
CERTIFIED = (4, 12, 31, 60)
"""Numbers of members for which Nelder-Mead is held against the exact optimum."""
Result = TypeVar("Result")
PEERS = Path(__file__).with_name("peer_blends.py")


# The data


@dataclass(frozen=True)
class Sizes:
    """How much is written."""

    candidates: int
    rows: int
    test_rows: int
    seed: int

    @property
    def disk(self) -> int:
        """Bytes of the tables: offset and text of the id, fold, score, prediction."""
        id_bytes = 4 + len(f"{self.rows:x}")
        oof, test = self.rows * (id_bytes + 9), self.test_rows * N_FOLDS * (id_bytes + 1 + 5)
        return self.candidates * (oof + test)


def write_run(folder: Path, sizes: Sizes) -> None:
    """Write `folder/prepared` and the run directory `folder/run`."""
    random = np.random.default_rng(sizes.seed)
    group = np.arange(sizes.rows) // PER_GROUP
    fold = (group % N_FOLDS).astype(np.int8)
    score = random.choice(np.array(TASK.score_levels, dtype=np.float32), size=sizes.rows, p=SHARES)
    ids = pa.array([f"{row:x}" for row in range(sizes.rows)])
    train = pa.table(
        {
            "id": ids,
            "left": pa.array([f"{number:x}" for number in range(group[-1] + 1)]).take(pa.array(group)),
            "score": score,
            "group": group.astype(np.int32),
            "fold": fold,
        }
    )
    test_group = np.arange(sizes.test_rows) // PER_GROUP
    test = pa.table(
        {
            "id": [f"t{row:x}" for row in range(sizes.test_rows)],
            "left": pa.array([f"t{number:x}" for number in range(test_group[-1] + 1)]).take(pa.array(test_group)),
        }
    )
    manifest = PreparedManifest(
        task=TASK,
        scheme="group",
        n_folds=N_FOLDS,
        seed=sizes.seed,
        holdout=0.0,
        rows={"train": sizes.rows, "holdout": 0, "test": sizes.test_rows},
        inputs={},
        data_hash=hash_data(train, test),
        split_hash=hash_split(train),
    )
    write_prepared(folder / "prepared", manifest, train, test)
    common = score + _shared(group, random)
    test_score = random.choice(np.array(TASK.score_levels, dtype=np.float32), size=sizes.test_rows, p=SHARES)
    test_common = test_score + _shared(test_group, random)
    families = BY_FAMILY * random.standard_normal((N_FAMILIES, sizes.rows), dtype=np.float32)
    test_families = BY_FAMILY * random.standard_normal((N_FAMILIES, sizes.test_rows), dtype=np.float32)
    known = train.select(["id", "fold", "score"])
    frames = [known.filter(pa.array(fold == k)).combine_chunks() for k in range(N_FOLDS)]
    rows = [np.flatnonzero(fold == k) for k in range(N_FOLDS)]
    test_frames = [
        pa.table({"id": test["id"], "fold": np.full(sizes.test_rows, k, np.int8)}).combine_chunks()
        for k in range(N_FOLDS)
    ]
    names, store = {}, OofStore(folder / "run")
    (folder / "run" / "candidates").mkdir(parents=True)
    for number in range(sizes.candidates):
        candidate, family = f"{number:012x}", number % N_FAMILIES
        names[f"candidate-{number}"] = candidate
        settings = {"backbone": f"family-{family}", "recipe": "pair", "head": "mean", "loss": "mse"}
        (folder / "run" / "candidates" / f"{candidate}.json").write_text(json.dumps(settings))
        slope, own = random.uniform(0.7, 0.95), random.uniform(0.07, 0.22)
        # an out-of-fold row meets one fold model only: its own error and the model's are one draw
        error = float(np.hypot(own, BY_MODEL)) * random.standard_normal(sizes.rows, dtype=np.float32)
        column = np.float32(slope) * (common + families[family] + error)
        test_own = own * random.standard_normal(sizes.test_rows, dtype=np.float32)
        for k in range(N_FOLDS):
            test_error = BY_MODEL * random.standard_normal(sizes.test_rows, dtype=np.float32)
            test_column = np.float32(slope) * (test_common + test_families[family] + test_own + test_error)
            origin = Provenance(candidate, k, manifest.data_hash, manifest.split_hash, seed=1, epoch=1.0)
            store.write(
                origin,
                oof=frames[k].append_column("prediction", pa.array(column[rows[k]], pa.float32())),
                test=test_frames[k].append_column("prediction", pa.array(test_column, pa.float32())),
            )
    study = {"name": "scale", "data": str(folder / "prepared"), "names": names}
    (folder / "run" / "study.yaml").write_text(yaml.safe_dump(study))


def _shared(group: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return the error that all candidates have on each row."""
    of_group = SHARED_BY_GROUP * random.standard_normal(group[-1] + 1, dtype=np.float32)
    of_row = SHARED_BY_ROW * random.standard_normal(len(group), dtype=np.float32)
    return np.asarray(of_group[group] + of_row)


# The measuring


class OwnMemory:
    """Watches how much memory the process holds for itself (resident, files not counted), in a thread, on Linux."""

    def __init__(self) -> None:
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self.start = self.peak = self._now()

    def __enter__(self) -> "OwnMemory":
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._over.wait(0.01):
            self.peak = max(self.peak, self._now())

    def _now(self) -> int:
        _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
        return (resident - shared) * self._page


@dataclass(frozen=True)
class Cost:
    """What a piece of work took."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds."""
    memory: int
    """Bytes above those held at its start, at most."""


def measured(work: Callable[[], Result]) -> tuple[Result, Cost]:
    """Return what `work` returns, and what it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    with OwnMemory() as memory:
        found = work()
    return found, Cost(time.perf_counter() - wall, time.process_time() - cpu, memory.peak - memory.start)


def bench_fit(folder: Path, method: str | None) -> tuple[MemberPredictions, FinishedBlend]:
    """Read and fit as `blendfold blend` does, and print what it took."""
    prepared, run = load_prepared(folder / "prepared"), str(folder / "run")
    predictions, reading = measured(lambda: load_predictions([run], prepared))
    fitted, fitting = measured(
        lambda: make_blend(predictions, prepared, BlendSettings(method=method, clip=True), name="scale")
    )
    print(f"{'':10} {'wall s':>8} {'CPU s':>8} {'own memory MB':>14}")
    for name, cost in (("reading", reading), ("fitting", fitting)):
        print(f"{name:10} {cost.wall:8.1f} {cost.cpu:8.1f} {cost.memory / 1e6:14.0f}")
    cells = len(predictions.members) * len(predictions.target)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"{'together':10} {reading.wall + fitting.wall:8.1f} {reading.cpu + fitting.cpu:8.1f}")
    print(
        f"the matrix would take {8 * cells / 1e6:,.0f} MB as float64, its mapped files hold {4 * cells / 1e6:,.0f} MB; "
        f"resident at most, mapped pages and libraries among it, {resident / 1e6:,.0f} MB"
    )
    record = fitted.record.by_target[""]
    assert record.certificate is not None
    single = record.scores["best_single"].in_sample.fold_mean
    print(
        f"{record.method}, {len(record.members)} members; nested "
        f"{record.scores['blend'].nested.fold_mean:.6f}, best single {single:.6f}, "
        f"certificate gap {record.certificate.gap:.1e}"
    )
    for name, making in record.makings.items():
        print(f"  {name:28} nested {making.nested:.6f}")
    return predictions, fitted


def bench_certificates(predictions: MemberPredictions) -> None:
    """Print how far Nelder-Mead stays from the exact optimum."""
    whole = total(predictions.sums())
    for n_members in (n for n in CERTIFIED if n <= len(predictions.members)):
        objective = MetricOnMoments([whole.of(range(n_members))], Readout.LINE)
        fit, cost = measured(lambda objective=objective: nelder_mead(objective))  # type: ignore[misc]
        gap = objective(exact(objective).weights) - objective(fit.weights)
        verdict = "within 1e-5" if gap <= 1e-5 else "NOT within 1e-5"
        print(f"certificate, {n_members:2} members: gap {gap:.1e}, {verdict}; {cost.cpu:.2f} CPU s")


# Beside other packages


def bench_peers(predictions: MemberPredictions, python: str, n_candidates: int, folder: Path) -> None:
    """Let other packages and our own methods weigh the same columns, without each fold and on all rows."""
    score, fold = predictions.target, predictions.fold
    columns = predictions.oof(range(min(n_candidates, len(predictions.members))))
    for name, table in (("columns", columns), ("score", score), ("fold", fold)):
        np.save(folder / f"{name}.npy", table)
    subprocess.run([python, str(PEERS), str(folder)], check=True)
    found = {
        name: (seconds, np.load(folder / f"{name}.npy"))
        for name, seconds in json.loads((folder / "seconds.json").read_text()).items()
    }
    for method in ("greedy", "nelder-mead", "nnls", "ridge"):
        found[f"ours: {method}"] = weigh_columns(method, columns, score, fold)
    print(f"weights of {columns.shape[1]} candidates, {len(score)} rows, without each fold and on all rows:")
    print(f"{'':32} {'wall s':>8} {'nested':>9}")
    for name, (seconds, prediction) in found.items():
        nested = np.mean([pearson(score[fold == k], prediction[fold == k]) for k in np.unique(fold)])
        print(f"{name:32} {seconds:8.2f} {nested:9.6f}")


def weigh_columns(method: str, columns: Floats, score: Floats, fold: np.ndarray) -> tuple[float, Floats]:
    """Return seconds and nested predictions [rows] of one of our methods, its moments measured from the columns."""
    start, prediction = time.perf_counter(), np.empty_like(score)
    for held_out in np.unique(fold).tolist():
        seen = fold != held_out
        prediction[~seen] = (
            columns[~seen] @ METHODS[method].fit(objective_for(columns[seen], score[seen], fold[seen])).weights
        )
    METHODS[method].fit(objective_for(columns, score, fold))
    return time.perf_counter() - start, prediction


def objective_for(columns: Floats, score: Floats, fold: np.ndarray) -> MetricOnMoments:
    """Return Pearson of weighted sums, by fold."""
    return MetricOnMoments([measure(columns[fold == k], score[fold == k]) for k in np.unique(fold)], Readout.LINE)


def main() -> None:
    """Write, fit, print, remove."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--candidates", type=int, default=300)
    arguments.add_argument("--rows", type=int, default=36_473)
    arguments.add_argument("--test-rows", type=int, default=12_000)
    arguments.add_argument("--method", help="as of `blendfold blend`; by default all compete")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--peers", metavar="PYTHON", help="a python with autogluon.core and hillclimbers")
    arguments.add_argument("--peer-candidates", type=int, default=40, help="how many of the candidates peers weigh")
    arguments.add_argument("--folder", type=Path, help="where the temporary folder is made")
    options = arguments.parse_args()
    sizes = Sizes(options.candidates, options.rows, options.test_rows, options.seed)
    with tempfile.TemporaryDirectory(prefix="bench-blend-", dir=options.folder) as name:
        folder, free = Path(name), shutil.disk_usage(name).free
        print(f"{sizes}: {sizes.disk / 1e9:.1f} GB of tables in {folder}, where {free / 1e9:.0f} GB are free")
        if free < 1.1 * sizes.disk:
            sys.exit("not enough room; name another place with --folder, or take fewer --candidates or --rows")
        start = time.perf_counter()
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as writer:
            writer.submit(write_run, folder, sizes).result()
        print(f"written in {time.perf_counter() - start:.0f} s; load average {os.getloadavg()[0]:.1f}", flush=True)
        predictions, _ = bench_fit(folder, options.method)
        bench_certificates(predictions)
        if options.peers:
            bench_peers(predictions, options.peers, options.peer_candidates, folder)


if __name__ == "__main__":
    main()
