"""A metric that a person wrote is read from beside the task file, checked, and kept with the prepared data."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from data_prep.errors import InputError
from data_prep.prepare.prepare_folder import prepare
from data_prep.prepared import load_prepared
from data_prep.store.yaml_documents import check_document
from data_prep.task import Task
from data_prep.task_file import read_task

ONE = {"name": "own", "text_columns": ["text"], "score_range": [1, 5], "metric": "mine.py:worst"}
SEVERAL = {**ONE, "score_columns": ["a", "b"]}
CLASSES = {
    "name": "own",
    "text_columns": ["text"],
    "score_column": "mood",
    "classes": ["calm", "sad", "wild"],
    "metric": "mine.py:worst",
}
WORST = """import numpy as np

def worst(target, prediction):
    return np.abs(target - prediction).max()

worst.greater_is_better = False
"""


def task_of(folder: Path, settings: dict[str, Any], source: str = WORST) -> Task:
    (folder / "task.yaml").write_text(yaml.safe_dump(settings))
    (folder / "mine.py").write_text(source)
    return read_task(folder / "task.yaml")


def test_a_function_beside_the_task_file_is_the_metric(tmp_path: Path) -> None:
    measure = task_of(tmp_path, ONE).measure
    assert measure([1.0, 2.0], [1.5, 5.0]) == 3.0
    assert (measure.name, measure.greater_is_better, measure.utility(3.0)) == ("mine.py:worst", False, -3.0)


def test_of_several_targets_it_is_the_mean_over_the_known_rows(tmp_path: Path) -> None:
    measure = task_of(tmp_path, SEVERAL).measure
    assert measure([[1.0, np.nan], [2.0, 4.0]], [[1.5, 9.0], [2.0, 3.0]]) == (0.5 + 1.0) / 2


def test_of_classes_it_gets_shares_that_sum_to_one(tmp_path: Path) -> None:
    measure = task_of(tmp_path, CLASSES).measure
    truth, prediction = np.eye(3)[[0, 1]], np.array([[3.0, 1.0, 0.0], [0.0, 2.0, 0.0]])
    assert measure(truth, prediction) == measure(truth.ravel(), prediction.ravel()) == 0.25


@pytest.mark.parametrize(
    ("settings", "chosen", "search"),
    [(ONE, None, "pearson"), (SEVERAL, "rmse", "rmse"), (CLASSES, None, "multiclass_log_loss")],
)
def test_a_search_compares_by_a_known_metric(settings: Any, chosen: str | None, search: str, tmp_path: Path) -> None:
    task = task_of(tmp_path, settings | ({"search_metric": chosen} if chosen else {}))
    assert task.search_measure.name == search


def test_prepared_data_keeps_the_metric(tmp_path: Path) -> None:
    rows = [f"{row},some words {row},{1 + row % 5}" for row in range(30)]
    (tmp_path / "train.csv").write_text("\n".join(["id,text,score", *rows]) + "\n")
    task = task_of(tmp_path, ONE)
    prepare(train=tmp_path / "train.csv", test=None, out=tmp_path / "out", task=task)
    (tmp_path / "mine.py").unlink()
    found = load_prepared(tmp_path / "out").task
    assert found.measure([1.0, 2.0], [1.5, 5.0]) == 3.0
    assert found.metric_source == WORST


def test_a_task_that_is_loaded_runs_nothing_until_its_metric_is_asked_for() -> None:
    task = check_document(ONE | {"metric_source": "raise SystemError('ran')"}, Task, where="task")
    assert task.search_measure.name == "pearson"
    with pytest.raises(InputError, match=r"cannot be run .SystemError: ran"):
        _ = task.measure


FAULTS = {
    "no function": ("x = 1\n", "mine.py: has no function 'worst'"),
    "not Python": ("def worst(:\n", "mine.py: cannot be run .SyntaxError"),
    "fails on import": ("import nowhere_to_be_found\n", "mine.py: cannot be run .ModuleNotFoundError"),
    "no direction": ("def worst(a, b): return 1.0\n", "worst.greater_is_better = True` or `False`"),
    "wrong direction": (
        WORST.replace("= False", "= True"),
        "noise scores 3.25424, the truth only 0; is greater_is_better = True",
    ),
    "fails": (WORST.replace("np.abs(", "np.nothing("), "metric mine.py:worst: fails with AttributeError"),
    "no number": (WORST.replace(".max()", ""), "metric mine.py:worst: fails with TypeError"),
    "not finite": (WORST.replace(".max()", ".max() / 0.0"), "must be a finite number"),
    "fails on a constant": (
        WORST.replace("    return", "    assert prediction.std() > 0, 'all the same'\n    return"),
        "fails with AssertionError: all the same",
    ),
}


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
@pytest.mark.parametrize("name", FAULTS)
def test_a_metric_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    source, message = FAULTS[name]
    with pytest.raises(InputError, match=message):
        task_of(tmp_path, ONE, source)


def test_a_missing_file_and_a_stray_key_are_refused(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(ONE))
    with pytest.raises(InputError, match=r"mine\.py: the file of metric mine\.py:worst cannot be read"):
        read_task(tmp_path / "task.yaml")
    with pytest.raises(InputError, match="its file is read together with a task file"):
        _ = check_document(ONE, Task, where="task").measure
    with pytest.raises(InputError, match="search_metric goes with a metric of your own"):
        check_document(ONE | {"metric": "rmse", "search_metric": "mse"}, Task, where="task")
