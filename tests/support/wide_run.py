"""Made-up tables of texts with several targets or classes, and a run directory with predictions for them."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from data_prep.prepare.prepare_folder import prepare
from data_prep.prepared import Prepared
from data_prep.store.files import write_json
from data_prep.store.oof_store import OofStore, Provenance
from data_prep.targets.target_columns import numbers_of, with_numbers
from data_prep.task import Task
from models.candidate import Candidate

WORDS = "amber brisk cedar delta ember frost grove haste inlet joker".split()
SEVERAL = Task.model_validate(
    {
        "name": "several",
        "text_columns": ["text"],
        "score_columns": ["a", "b"],
        "score_range": [-20, 20],
        "metric": "rmse",
    }
)
ONE = Task.model_validate(
    {"name": "one", "text_columns": ["text"], "score_column": "a", "score_range": [-20, 20], "metric": "rmse"}
)
CLASSES = Task.model_validate(
    {
        "name": "moods",
        "text_columns": ["text"],
        "score_column": "mood",
        "classes": ["calm", "sad", "wild"],
        "metric": "multiclass_log_loss",
    }
)


def wide_data(
    folder: Path, task: Task, *, n_rows: int = 120, n_folds: int = 3, missing: float = 0.0, **options: Any
) -> Prepared:
    """Prepare rows with a column for each target of `task`, a share `missing` of them empty, and test rows."""
    random = np.random.default_rng(7)
    folder.mkdir(exist_ok=True, parents=True)
    for role, size in (("train", n_rows), ("test", n_rows // 4)):
        with (folder / f"{role}.csv").open("w", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(["id", "text", *(task.target_columns if role == "train" else ())])
            for row in range(size):
                text = f"{role} {row} {' '.join(random.choice(WORDS, 5))}"
                lines.writerow(
                    [f"{role[:2]}{row}", text, *(_targets(task, random, missing) if role == "train" else ())]
                )
    out = folder / "prepared"
    files = {role: folder / f"{role}.csv" for role in ("train", "test")}
    return prepare(**files, out=out, task=task, n_folds=n_folds, **options)


def _targets(task: Task, random: np.random.Generator, missing: float) -> list[str]:
    if task.classes is not None:
        return [str(random.choice(task.classes))]
    values = [f"{value:.3f}" for value in random.normal(size=len(task.target_columns))]
    gone = random.random(len(values)) < missing
    gone[0] &= not gone.all()
    return ["" if lost else value for value, lost in zip(values, gone, strict=True)]


def wide_run(folder: Path, data: Prepared, errors: list[float], *, seed: int = 3, unlearned: str = "") -> list[str]:
    """Write a run directory with a finished candidate for each of `errors`, the size of its error; return their ids.

    They predict the opposite of the target `unlearned`.
    """
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "study.yaml").write_text(yaml.safe_dump({"name": "made-up", "data": data.path}))
    random, found, names = np.random.default_rng(seed), [], data.task.target.names
    guess = np.random.default_rng(11).normal(size=(data.test.num_rows, *data.targets.shape[1:]))
    for number, error in enumerate(errors):
        candidate = Candidate(seed=100 + number)
        write_json(candidate.model_dump(mode="json"), str(folder / "candidates" / f"{candidate.id}.json"))
        found.append(candidate.id)
        shared = guess + error * random.normal(size=guess.shape)
        for fold in range(data.manifest.n_folds):
            rows = data.train.filter(pa.array(data.in_fold(fold)))
            targets = numbers_of(rows, "score", names)
            truth = np.where(np.isnan(targets), 0, targets)
            truth *= np.array([-1 if name == unlearned else 1 for name in names] or 1)
            told = pa.table({"id": rows["id"], "fold": pa.array(np.full(len(rows), fold), pa.int8())})
            oof = with_numbers(
                with_numbers(told, "score", targets, names), "prediction", _predict(truth, error, random, data), names
            )
            n_test = data.test.num_rows
            test = pa.table({"id": data.test["id"], "fold": pa.array(np.full(n_test, fold), pa.int8())})
            test = with_numbers(test, "prediction", _predict(shared, error / 3, random, data), names)
            manifest = data.manifest
            stamp = Provenance(candidate.id, fold, manifest.data_hash, manifest.split_hash, candidate.seed, 1.0)
            OofStore(folder).write(stamp, oof=oof, test=test)
    return found


def _predict(truth: np.ndarray, error: float, random: np.random.Generator, data: Prepared) -> np.ndarray:
    """Return predictions [rows, numbers] that follow the truth; of classes, probabilities."""
    noisy = truth + error * random.normal(size=truth.shape)
    if data.task.classes is None:
        return np.asarray(noisy, np.float32)
    odds = np.exp(2 * noisy)
    return np.asarray(odds / odds.sum(axis=1, keepdims=True), np.float32)
