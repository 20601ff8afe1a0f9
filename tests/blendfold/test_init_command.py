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


KINDS: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    "six scores": (
        "text_id,full_text,cohesion,syntax,grammar,n_words",
        {
            "score_columns": ("cohesion", "syntax", "grammar"),
            "score_levels": (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0),
            "metric": "rmse",
        },
        {"mse", "bce"},
    ),
    "two scores in a range": (
        "id,text,content,wording",
        {"score_columns": ("content", "wording"), "score_range": (-2.0, 4.0), "metric": "rmse"},
        {"mse", "bce"},
    ),
    "a score and its error": (
        "id,excerpt,target,standard_error",
        {"score_column": "target", "score_range": (-3.0, 1.0), "metric": "rmse"},
        {"mse", "bce"},
    ),
    "labels": (
        "id,comment_text,toxic,obscene,insult",
        {"score_columns": ("toxic", "obscene", "insult"), "score_levels": (0.0, 1.0), "metric": "auc"},
        {"bce"},
    ),
    "shares": (
        "id,prompt,response,model_a,winner_model_a,winner_model_b,winner_tie",
        {
            "score_columns": ("winner_model_a", "winner_model_b", "winner_tie"),
            "classes": ("model_a", "model_b", "tie"),
            "metric": "multiclass_log_loss",
        },
        {"cross_entropy", "bce"},
    ),
    "classes": (
        "id,text,author",
        {"score_column": "author", "classes": ("EAP", "HPL", "MWS"), "metric": "multiclass_log_loss"},
        {"cross_entropy", "bce"},
    ),
    "true or false": (
        "id,text,label",
        {"score_column": "label", "classes": ("False", "True"), "metric": "multiclass_log_loss"},
        {"cross_entropy", "bce"},
    ),
}
"""Columns of train (those after the texts are not in test), what is guessed of them, and the losses of the study."""


def cell_of(name: str, row: int, generator: random.Random) -> str:
    """Return what stands in a column of such a name."""
    if name in ("text_id", "id"):
        return f"r{row}"
    if name in ("content", "wording"):
        return (
            f"{[-2, 4][row] if row < 2 else generator.uniform(-2, 4):.3f}" if row % 9 != 5 or name == "content" else ""
        )
    if name.startswith("winner_"):
        return str(int(name == ["winner_model_a", "winner_model_b", "winner_tie"][row % 3]))
    choices: dict[str, list[str]] = {
        "author": ["EAP", "HPL", "MWS"],
        "label": ["True", "False"],
        "model_a": ["gpt", "llama", "qwen"],
        **{key: [f"{level / 2:g}" for level in range(2, 11)] for key in ("cohesion", "syntax", "grammar")},
        **{key: ["0", "1"] for key in ("toxic", "obscene", "insult")},
        "target": [f"{place / 10 - 3:.1f}" for place in range(41)],
        "standard_error": [f"{0.4 + place / 100:.2f}" for place in range(20)],
        "n_words": ["90", "120", "400"],
    }
    return choices[name][row % len(choices[name])] if name in choices else sentence(generator)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_target_is_guessed_and_its_study_fits(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    header, guessed, losses = KINDS[name]
    columns, generator = header.split(","), random.Random(7)
    rows = [[cell_of(column, row, generator) for column in columns] for row in range(90)]
    in_test = [column for column in columns if cell_of(column, 0, generator).count(" ") or column in ("id", "text_id")]
    train = write(tmp_path / "train.csv", ",", columns, rows)
    test = write(tmp_path / "test.csv", ",", in_test, [["t"] + ["one two"] * (len(in_test) - 1)])
    task, study, shown = init(Path(), train, test)
    assert task.model_dump(include={*guessed}) == guessed
    assert task.text_columns == tuple(in_test[1:])
    assert {one["loss"] for one in study["candidates"].values()} == losses
    with console.capture():
        data_app(shlex.split(shown.splitlines()[-3])[1:], standalone_mode=False)
    data = load_prepared(study["data"])
    assert data.targets.shape[1:] == ((len(task.target.names),) if task.target.names else ())
    resolve_study(read_study("study.yaml"), data)


def test_a_sample_submission_tells_classes_and_targets(tmp_path: Path) -> None:
    generator = random.Random(8)
    rows = [[row, sentence(generator), "CAB"[row % 3], row % 5, row % 4, row % 2] for row in range(60)]
    train = write(tmp_path / "train.csv", ",", ["id", "text", "kind", "one", "two", "flag"], rows)
    wide = write(tmp_path / "wide.csv", ",", ["id", "B", "C", "A"], [[1, 0.3, 0.3, 0.4]])
    task, *_ = init(tmp_path / "wide", train, "--sample-submission", wide)
    assert (task.score_column, task.classes) == ("kind", ("B", "C", "A"))
    several = write(tmp_path / "several.csv", ",", ["id", "two", "flag"], [[1, 0, 0]])
    task, *_ = init(tmp_path / "several", train, "--sample-submission", several)
    assert task.score_columns == ("two", "flag")


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (["id", "text"], ["a", "one two"], "no column of numbers that could be the score, and none with few"),
        (["id", "y"], [1, 2], "of texts"),
    ],
)
def test_files_without_score_or_texts_are_refused(
    header: list[str], row: list[Any], message: str, tmp_path: Path
) -> None:
    train = write(tmp_path / "train.csv", ",", header, [row, [2, 3]])
    with pytest.raises(InputError, match=message):
        init(tmp_path / "out", train)
    assert not (tmp_path / "out").exists()
