"""Synthetic prepared folders and run directories: candidates of known quality, written through the store."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data_prep.prepared import Prepared, PreparedManifest, hash_data, hash_split, load_prepared, write_prepared
from data_prep.store.oof_store import OofStore, Provenance
from data_prep.task import Task

TASK = Task(name="toy", text_columns=("left",), score_range=(0.0, 1.0), group_column="left", score_column="worth")
N_FOLDS, PER_FOLD, N_HOLDOUT, N_TEST = 4, 60, 24, 36
TEST_SCORE = np.arange(N_TEST) % 5 / 4
"""What the test rows' scores would be; known to the candidates here alone."""


def make_prepared(
    folder: Path, *, task: Task = TASK, shift: int = 0, score_seed: int = 0, two: bool = False
) -> Prepared:
    """Write a prepared folder: 4 folds of 60 rows in groups of 6, and 24 holdout rows; `shift` turns the folds.

    The targets have five values, or `two`.
    """
    n_rows = N_FOLDS * PER_FOLD + N_HOLDOUT
    group = np.arange(n_rows) // 6
    fold = np.where(np.arange(n_rows) < N_HOLDOUT, -1, (group + shift) % N_FOLDS)
    score = np.random.default_rng(score_seed).integers(0, 2 if two else 5, n_rows) / (1 if two else 4)
    train = pa.table(
        {
            "id": [f"r{row:03d}" for row in range(n_rows)],
            "left": [f"text {row}" for row in range(n_rows)],
            "score": pa.array(score, pa.float32()),
            "group": pa.array(group, pa.int32()),
            "fold": pa.array(fold, pa.int8()),
        }
    )
    test = pa.table({"id": [f"t{row:03d}" for row in range(N_TEST)], "left": [f"text {row}" for row in range(N_TEST)]})
    manifest = PreparedManifest(
        task=task,
        scheme="group",
        n_folds=N_FOLDS,
        seed=0,
        holdout=0.1,
        rows={"train": N_FOLDS * PER_FOLD, "holdout": N_HOLDOUT, "test": N_TEST},
        inputs={},
        data_hash=hash_data(train, test),
        split_hash=hash_split(train),
    )
    write_prepared(folder, manifest, train, test)
    return load_prepared(folder)


@dataclass(frozen=True)
class Tables:
    """The three tables of one fold run, before they are written."""

    oof: pa.Table
    test: pa.Table
    holdout: pa.Table


Change = Callable[[int, Tables, Provenance], tuple[Tables, Provenance]]


@dataclass
class Run:
    """A run directory under construction."""

    root: Path
    data: Prepared

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True)
        (self.root / "study.yaml").write_text(f"name: toy\ndata: {self.data.path}\n")

    @property
    def path(self) -> str:
        return str(self.root)

    def add(
        self, candidate: str, *, noise: float = 0.3, seed: int = 0, folds: int = N_FOLDS, change: Change | None = None
    ) -> "Run":
        """Write a candidate that sees the score through `noise`; `change` edits a fold run before it is written."""
        random = np.random.default_rng([seed, *candidate.encode()])
        train = self.data.train
        fold_of = train["fold"].to_numpy()
        for fold in range(folds):
            rows = train.filter(pa.array(fold_of == fold))
            tables = Tables(
                oof=self._oof(rows, fold, noise, random),
                test=self._predict(pa.table({"id": self.data.test["id"]}), fold, self._see(TEST_SCORE, noise, random)),
                holdout=self._oof(train.filter(pa.array(fold_of == -1)), fold, noise, random),
            )
            manifest = self.data.manifest
            origin = Provenance(candidate, fold, manifest.data_hash, manifest.split_hash, seed=1, epoch=1.0)
            if change:
                tables, origin = change(fold, tables, origin)
            OofStore(self.path).write(origin, oof=tables.oof, test=tables.test, holdout=tables.holdout)
        label = {"backbone": f"org/{candidate}", "layers": 2, "recipe": "pair", "head": "mean", "loss": "mse"}
        (self.root / "candidates").mkdir(exist_ok=True)
        (self.root / "candidates" / f"{candidate}.json").write_text(json.dumps(label))
        return self

    def add_like(self, candidate: str, model: str, *, wobble: float) -> "Run":
        """Write a candidate that predicts what another does, with a little noise."""
        random = np.random.default_rng(0)
        store, manifest = OofStore(self.path), self.data.manifest
        for fold in range(N_FOLDS):
            tables = {}
            for kind in ("oof", "test", "holdout"):
                table = store.read(kind, model, fold)
                values = table["prediction"].to_numpy() + wobble * random.normal(size=len(table)).astype(np.float32)
                place = table.schema.get_field_index("prediction")
                tables[kind] = table.set_column(place, "prediction", pa.array(values)).replace_schema_metadata(None)
            origin = Provenance(candidate, fold, manifest.data_hash, manifest.split_hash, seed=1, epoch=1.0)
            store.write(origin, **tables)
        return self

    def _oof(self, rows: pa.Table, fold: int, noise: float, random: np.random.Generator) -> pa.Table:
        return self._predict(rows.select(["id", "score"]), fold, self._see(rows["score"].to_numpy(), noise, random))

    def _see(self, score: np.ndarray, noise: float, random: np.random.Generator) -> np.ndarray:
        return 0.2 + 0.5 * score + noise * random.normal(size=len(score))

    def _predict(self, rows: pa.Table, fold: int, prediction: np.ndarray) -> pa.Table:
        table = rows.append_column("fold", pa.array(np.full(len(rows), fold), pa.int8()))
        return table.append_column("prediction", pa.array(prediction, pa.float32()))


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    return make_prepared(tmp_path / "prepared")


@pytest.fixture
def run(tmp_path: Path, prepared: Prepared) -> Run:
    """Return a run directory without candidates."""
    return Run(tmp_path / "run", prepared)


@pytest.fixture
def full_run(run: Run) -> Run:
    """Return a run directory with three candidates, best first."""
    return run.add("aaa", noise=0.2).add("bbb", noise=0.3).add("ccc", noise=0.5)


@pytest.fixture
def toolbox() -> "type[Toolbox]":
    """Return what tests build variants with (a conftest cannot be imported by name)."""
    return Toolbox


class Toolbox:
    """The helpers of this file."""

    Run = Run
    task = TASK
    make_prepared = staticmethod(make_prepared)
    replace = staticmethod(replace)
