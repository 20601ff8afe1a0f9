"""`init` guesses what a person would say of the files, and the commands that it prints work."""

import random
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from blendfold.init_command import app as init_app
from data_prep.__main__ import app as data_app
from data_prep.console import console
from data_prep.errors import InputError
from data_prep.prepared import load_prepared
from data_prep.store.yaml_documents import read_document
from data_prep.task import PPPM, Task
from own_source import ROOT
from search.study.read_study import read_study, resolve_study

SAMPLE = ROOT / "data_prep/sample"
WORDS = "valve pump rotor blade sensor lens fibre resin film coating electrode cell".split()


def sentence(generator: random.Random, n_words: int = 5) -> str:
    return " ".join(generator.choices(WORDS, k=n_words))


def write(path: Path, sign: str, header: list[str], rows: list[list[Any]]) -> str:
    path.write_text("".join(sign.join(map(str, row)) + "\n" for row in [header, *rows]))
    return str(path)


def init(folder: Path, *given: str) -> tuple[Task, dict[str, Any], str]:
    with console.capture() as shown:
        init_app([*given, "--out", str(folder)], standalone_mode=False)
    study = yaml.safe_load((folder / "study.yaml").read_text())
    return read_document(folder / "task.yaml", Task), study, shown.get()


def test_the_first_task_is_guessed_whole(tmp_path: Path) -> None:
    task, study, shown = init(tmp_path, str(SAMPLE / "train.csv"), str(SAMPLE / "test.csv"))
    assert {one["max_length"] for one in study["candidates"].values()} == {64}, "CPC titles have room, too"
    assert task == PPPM.model_copy(update={"name": "sample"})
    assert {one["recipe"] for one in study["candidates"].values()} == {"pair_context"}
    assert re.search(r'group_column: "anchor"  # \d+ different ones in 1,500 rows', shown)


def test_the_commands_that_it_prints_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    generator = random.Random(1)
    rows = [
        [row, "news", sentence(generator), sentence(generator), f"{generator.uniform(0, 5):.2f}"] for row in range(80)
    ]
    train = write(tmp_path / "sts.tsv", "\t", ["index", "genre", "sentence1", "sentence2", "score"], rows)
    task, study, shown = init(Path(), train)
    assert (task.name, task.id_column, task.group_column, task.metric) == ("sts", "index", None, "pearson")
    assert task.text_columns == ("sentence1", "sentence2")
    prepare, run, blend = (shlex.split(line) for line in shown.splitlines()[-3:])
    with console.capture():
        data_app(prepare[1:], standalone_mode=False)
    data = load_prepared(study["data"])
    assert resolve_study(read_study(run[-1]), data).names.keys() == study["candidates"].keys()
    assert blend[:3] == ["blendfold", "blend", "runs/sts"]
    with pytest.raises(InputError, match=r"task\.yaml, study\.yaml: is never overwritten"):
        init(Path(), train)


def test_essays_with_levels_and_a_sample_submission(tmp_path: Path) -> None:
    generator = random.Random(2)
    rows = [[f"e{row}", sentence(generator, 150), generator.randint(1, 6), row % 7] for row in range(60)]
    header = ["essay_id", "full_text", "score", "length"]
    train = write(tmp_path / "train.csv", ",", header, rows)
    test = write(tmp_path / "test.csv", ",", ["essay_id", "full_text", "length"], [["t1", "one two", 3]])
    sample = write(tmp_path / "sample.csv", ",", ["essay_id", "score"], [["t1", 3]])
    task, study, _ = init(tmp_path / "out", train, test, "--sample-submission", sample)
    assert task.model_dump(exclude_defaults=True) == {
        "name": tmp_path.name.strip("-._"),
        "id_column": "essay_id",
        "text_columns": ("full_text",),
        "score_levels": (1.0, 2.0, 3.0, 4.0, 5.0, 6.0),
        "metric": "qwk",
    }
    assert all((one["recipe"], one["max_length"]) == ("texts", 256) for one in study["candidates"].values())


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (["id", "text"], ["a", "one two"], "no column of numbers that could be the score"),
        (["id", "y"], [1, 2], "of texts"),
    ],
)
def test_files_without_score_or_texts_are_refused(
    header: list[str], row: list[Any], message: str, tmp_path: Path
) -> None:
    train = write(tmp_path / "train.csv", ",", header, [row])
    with pytest.raises(InputError, match=message):
        init(tmp_path / "out", train)
    assert not (tmp_path / "out").exists()
