"""Random tables with several numbers, classes or shares are prepared whole, or refused with a message.

The tables are mostly right: each fault is rare, so that most tables get far and all faults meet each other.
"""

import csv
import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import pytest

from data_prep.__main__ import _show
from data_prep.console import console
from data_prep.errors import InputError
from data_prep.prepare.guess_task import guess_task
from data_prep.prepare.prepare_folder import prepare
from data_prep.prepared import Prepared, load_prepared
from data_prep.scoring.metrics import METRICS
from data_prep.store.tables import column_names
from data_prep.store.yaml_documents import check_document
from data_prep.target_views import target_views
from data_prep.task import Task

N_TABLES = 250
STRANGE = ("", " ", "nan", "inf", "-1", "1e39", "1e-40", "0,5", "true", "a\nb", "α", '"', "sad ", "0x1", "١", "-0")
NAMES = ("a", "b", "c", "score", "id", "text", "score_a", "prediction_b", "weight", "fold", "two words", "x,y", "ß")


def random_case(generator: random.Random) -> tuple[dict[str, Any], list[dict[str, str]], list[dict[str, str]]]:
    """Return the settings of a task, and the rows of train and test."""
    kind = generator.choice(("numbers", "levels", "classes", "shares"))
    names = generator.sample(NAMES[: generator.choice((3, 3, 3, 13))], k=generator.randint(2, 3))
    settings: dict[str, Any] = {"name": "random", "text_columns": ["text"]}
    if kind == "classes":
        settings |= {"score_column": "y", "classes": names if generator.random() < 0.7 else list(range(len(names)))}
    elif kind == "shares":
        settings |= {"score_columns": names, "classes": [f"class {name}" for name in names]}
    else:
        settings |= {"score_columns": names}
        settings |= {"score_range": [0, 1]} if kind == "numbers" else {"score_levels": [0, 1]}
    suited = "multiclass_log_loss" if "classes" in settings else "rmse"
    settings["metric"] = suited if generator.random() < 0.8 else generator.choice([*METRICS])
    extras = {"group_column": "topic", "weight_column": "w", "empty": generator.choice(("keep", "drop"))}
    settings |= {key: value for key, value in extras.items() if generator.random() < 0.3}
    columns = ["id", "text", "topic", "w", *(["y"] if kind == "classes" else names)]
    n_rows = generator.choice((1, 4, 12, 30))
    strange = generator.choice((0, 0, 0, 0.01, 0.2))
    rows = [random_row(row, kind, settings, generator) for row in range(n_rows)]
    for row in rows:
        for column in columns:
            if generator.random() < strange:
                row[column] = generator.choice(STRANGE)
    if generator.random() < 0.05:
        columns.remove(generator.choice(columns))
    if generator.random() < 0.1:
        constant = generator.choice(columns)
        rows = [row | {constant: rows[0].get(constant, "")} for row in rows]
    train = [{column: row[column] for column in dict.fromkeys(columns)} for row in rows]
    return settings, train, [{"id": f"t{row}", "text": f"some words {row}"} for row in range(3)]


def random_row(row: int, kind: str, settings: dict[str, Any], generator: random.Random) -> dict[str, str]:
    found = {"id": f"r{row}", "text": f"{generator.choice('abc')} b {row}", "topic": f"t{row // 2}", "w": "1.5"}
    if kind == "classes":
        return found | {"y": str(generator.choice(settings["classes"]))}
    names = settings["score_columns"]
    if kind == "shares":
        winner = generator.choice(names)
        return found | {name: str(int(name == winner)) for name in names}
    numbers = {name: str(generator.choice((0, 1)) if kind == "levels" else generator.random()) for name in names}
    return found | {name: text if generator.random() < 0.9 else "" for name, text in numbers.items()}


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def outcome(action: Callable[[], Any], case: str) -> Any:
    """Return what an action returns, or None where it refuses with a message."""
    try:
        return action()
    except InputError:
        return None
    except Exception as error:
        raise AssertionError(case) from error


def check_prepared(data: Prepared, train: list[dict[str, str]]) -> None:
    """Check that a prepared folder holds each target as its row in the file has it, and that its views are whole."""
    assert load_prepared(data.path).manifest == data.manifest
    names = data.task.target.names
    by_id = {row.get("id", ""): row for row in train}
    for place, key in enumerate(data.train["id"].to_pylist()):
        texts = [by_id[key][column] for column in data.task.target_columns] if key in by_id else []
        found = data.targets[place]
        if data.task.classes is None and texts:
            np.testing.assert_array_equal(found, np.array([text.strip() or "nan" for text in texts], np.float32))
        elif len(texts) == 1:
            assert names[int(found.argmax())] == texts[0]
        if data.task.classes is not None:
            assert found.sum() == pytest.approx(1)
    for view in target_views(data.task):
        narrow = view.data(data)
        assert narrow.train["score"].null_count == 0
        assert narrow.train.num_rows <= len(data.targets) * view.cells
        assert not {*column_names("score", names)} & {*narrow.train.column_names}


def run_tables(folder: Path, seeds: range) -> Counter[str]:
    """Prepare, show and guess a random table for each seed; return how many went how far."""
    counts: Counter[str] = Counter()
    for seed in seeds:
        generator = random.Random(seed)
        settings, train_rows, test_rows = random_case(generator)
        case = f"seed {seed}: {settings}"
        train, test = write(folder / "train.csv", train_rows), write(folder / "test.csv", test_rows)
        guess = outcome(partial(guess_task, train, test), f"guess of {case}")
        counts["not guessed" if guess is None else "guessed"] += 1
        task = outcome(partial(check_document, settings, Task, where="task.yaml"), case)
        if task is None:
            counts["no task"] += 1
            continue
        holdout, scheme = generator.choice((0.0, 0.0, 0.2)), generator.choice((None, None, "kfold"))
        options: dict[str, Any] = {"n_folds": generator.choice((2, 3)), "holdout": holdout, "scheme": scheme}
        out = folder / "out"
        data = outcome(partial(prepare, train=train, test=test, out=out, task=task, **options), case)
        if data is None:
            counts["refused"] += 1
            assert not out.exists(), case
            continue
        counts["prepared"] += 1
        check_prepared(data, train_rows)
        with console.capture():
            outcome(partial(_show, data), f"show of {case}")
        del data
        rmtree(out)
    return counts


def test_random_tables_are_prepared_or_refused(tmp_path: Path) -> None:
    counts = run_tables(tmp_path, range(N_TABLES))
    assert min(counts[kind] for kind in ("no task", "refused", "prepared", "guessed", "not guessed")) > N_TABLES / 20
