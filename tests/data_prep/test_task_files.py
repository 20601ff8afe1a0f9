"""The task files of known competitions take twenty rows with the columns of those competitions."""

import csv
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from data_prep.prepare.prepare_folder import prepare
from data_prep.store.yaml_documents import read_document
from data_prep.task import PPPM, Task
from models.candidate import Candidate
from models.task_fit import check_task
from own_source import ROOT

FOLDER = ROOT / "studies/tasks"
COLUMNS = {
    "pppm": ("id anchor target context score", "id anchor target context"),
    "sts-b": (
        "index genre filename year old_index source1 source2 sentence1 sentence2 score",
        "index genre filename year old_index source1 source2 sentence1 sentence2",
    ),
    "commonlit": ("id url_legal license excerpt target standard_error", "id url_legal license excerpt"),
    "commonlit-summaries": (
        "student_id prompt_id text content wording prompt_question prompt_title prompt_text",
        "student_id prompt_id text prompt_question prompt_title prompt_text",
    ),
    "aes2": ("essay_id full_text score", "essay_id full_text"),
    "feedback-ell": (
        "text_id full_text cohesion syntax vocabulary phraseology grammar conventions",
        "text_id full_text",
    ),
    "jigsaw": (
        "id comment_text toxic severe_toxic obscene threat insult identity_hate",
        "id comment_text",
    ),
    "quest": (
        "qa_id question_title question_body question_user_name answer url category host "
        + " ".join(read_document(FOLDER / "quest.yaml", Task).target_columns),
        "qa_id question_title question_body question_user_name answer url category host",
    ),
    "lmsys": (
        "id model_a model_b prompt response_a response_b winner_model_a winner_model_b winner_tie",
        "id prompt response_a response_b",
    ),
}
"""Columns of train and test of each competition."""
N_ROWS = 20


def target_text(task: Task, place: int, generator: random.Random, row: int) -> str:
    """Return a legal target for a row in the column at `place`."""
    if task.classes:
        return str(int(row % len(task.classes) == place))
    if task.score_levels:
        return str(task.score_levels[(row + place) % len(task.score_levels)])
    return f"{task.least + (task.greatest - task.least) * generator.random():.3f}"


def write(path: Path, columns: list[str], task: Task, sign: str) -> Path:
    generator = random.Random(len(columns))
    special: dict[str, Callable[[int], object]] = {
        task.id_column or "": lambda row: f"r{row}",
        **{name: partial(target_text, task, place, generator) for place, name in enumerate(task.target_columns)},
        task.group_column or "-": lambda row: f"group {row // 2}",
        task.cpc_column or "-": lambda row: ["A47", "B29"][row % 2],
    }
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=sign)
        writer.writerow(columns)
        for row in range(N_ROWS):
            writer.writerow([special.get(name, lambda row, name=name: f"{name} of {row}")(row) for name in columns])
    return path


def test_every_task_file_has_its_columns_here() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(COLUMNS)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_task_file_takes_the_rows_of_its_competition(name: str, tmp_path: Path) -> None:
    task = read_document(FOLDER / f"{name}.yaml", Task)
    sign = "\t" if name == "sts-b" else ","
    files = [
        write(tmp_path / f"{role}.csv", columns.split(), task, sign)
        for role, columns in zip(("train", "test"), COLUMNS[name], strict=True)
    ]
    data = prepare(train=files[0], test=files[1], out=tmp_path / "out", task=task, n_folds=2, seed=1)
    assert (data.train.num_rows, data.test.num_rows) == (N_ROWS, N_ROWS)
    n_numbers = {"quest": (30,), "feedback-ell": (6,), "jigsaw": (6,), "commonlit-summaries": (2,), "lmsys": (3,)}
    assert data.targets.shape == (N_ROWS, *n_numbers.get(name, ()))
    named = {task.id_column, *task.text_columns, *task.target_columns, task.group_column}
    kept = [column for column in COLUMNS[name][0].split() if column not in named]
    assert [column for column in kept if column in data.train.column_names] == kept
    recipe = "pair_context" if task.cpc_column else "texts"
    check_task(Candidate(recipe=recipe, loss="cross_entropy" if task.classes else "mse"), task)


def test_the_first_tasks_file_says_what_the_task_without_a_file_is() -> None:
    assert read_document(FOLDER / "pppm.yaml", Task) == PPPM
