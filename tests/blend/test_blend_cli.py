import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from blend.__main__ import WORSE, app
from blend.blend_folder import read_blend
from blend.evidence.blend_report import is_worse, sentences, tables
from data_prep.console import console
from data_prep.errors import InputError
from data_prep.store.tables import read_table
from loaded_libraries import loaded_libraries

ROOT = Path(__file__).parents[2]


def blend(*arguments: object) -> str:
    """Run a verb in this process and return what it printed."""
    console.width = 200
    with console.capture() as capture:
        app([str(argument) for argument in arguments], standalone_mode=False)
    return capture.get()


def test_fit_writes_record_and_submission_and_says_where(full_run: Any) -> None:
    printed = blend("fit", full_run.path, "--name", "first")

    folder = full_run.root / "blends" / "first"
    with (folder / "submission.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["id", "worth"]
    assert [row[0] for row in rows[1:]] == full_run.data.test["id"].to_pylist()
    record = json.loads((folder / "blend.json").read_text())
    assert sum(member["weight"] for member in record["members"]) == pytest.approx(1.0)
    assert set(record["scores"]) == {"blend", "best_single", "mean"}
    assert str(folder / "submission.csv") in printed.splitlines()[-1]
    assert "chosen: " in printed


def test_the_submission_is_what_the_record_says(full_run: Any) -> None:
    printed = blend("fit", full_run.path, "--method", "nelder-mead+line", "--name", "best")
    assert "chosen: nelder-mead+line, as asked, " in printed
    folder = full_run.root / "blends" / "best"
    record = json.loads((folder / "blend.json").read_text())
    combination = record["combination"]
    expected = np.full(36, combination["intercept"])
    for member in combination["parts"]:
        folds = [
            read_table(full_run.root / "test" / member["candidate"] / f"fold-{fold}.arrow")["prediction"].to_numpy()
            for fold in range(4)
        ]
        column = np.mean(np.array(folds, dtype=np.float64), axis=0)
        expected += combination["slope"] * member["weight"] * column
    written = np.loadtxt(folder / "submission.csv", delimiter=",", skiprows=1, usecols=1)
    np.testing.assert_allclose(written, np.clip(expected, 0, 1), atol=1e-7)


def test_same_blend_again_is_fine_and_another_needs_force(full_run: Any) -> None:
    blend("fit", full_run.path, "--name", "one")
    path = full_run.root / "blends" / "one" / "blend.json"
    before = path.read_bytes()
    blend("fit", full_run.path, "--name", "one")
    assert path.read_bytes() == before

    with pytest.raises(InputError, match="already holds another blend; choose another --name, or replace it with"):
        blend("fit", full_run.path, "--name", "one", "--method", "mean+line")
    assert path.read_bytes() == before
    blend("fit", full_run.path, "--name", "one", "--method", "mean+line", "--force")
    assert path.read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "magic"], "known: nelder-mead.line, single.line, mean.line"),
        (["--name", "../up"], "it names a folder"),
        (["--name", "a" * 300], "at most 100 letters"),
        (["--dead-below", "nan"], "must be a finite number"),
        (["--exclude", "nobody"], "known: aaa, bbb, ccc"),
        (["--data", "/nowhere"], "not a prepared folder"),
    ],
)
def test_a_fault_of_the_user_is_named(full_run: Any, arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        blend("fit", full_run.path, *arguments)
    assert not (full_run.root / "blends").exists()


def name_candidates(run: Any, **names: str) -> None:
    """Write the run's study as a search writes it, with a name for each candidate id."""
    (run.root / "study.yaml").write_text(yaml.safe_dump({"name": "toy", "data": run.data.path, "names": names}))


def members_of(folder: Path) -> list[str]:
    return [member["candidate"] for member in json.loads((folder / "blend.json").read_text())["members"]]


def test_members_by_name_or_id_are_blended_alone_and_name_the_blend(full_run: Any) -> None:
    name_candidates(full_run, first="aaa", third="ccc")
    printed = blend("fit", full_run.path, "--members", "third, bbb", "--verbose")
    assert members_of(full_run.root / "blends" / "third-bbb") == ["ccc", "bbb"]
    assert "third ccc-k2-pair-mean-mse" in printed
    assert "left out: other candidates: 1, which were not asked for" in printed


def test_members_by_name_are_the_same_blend_as_by_id(full_run: Any) -> None:
    name_candidates(full_run, first="aaa", third="ccc")
    blend("fit", full_run.path, "--members", "aaa,ccc", "--name", "one")
    blend("fit", full_run.path, "--members", "first,third", "--name", "two")
    one, two = (full_run.root / "blends" / name / "submission.csv" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_members_of_several_runs_and_splits(run: Any, tmp_path: Path, toolbox: Any) -> None:
    run.add("aaa", noise=0.2)
    name_candidates(run, first="aaa", second="bbb")
    other = toolbox.Run(tmp_path / "other", toolbox.make_prepared(tmp_path / "shifted", shift=1)).add("bbb").add("aaa")
    name_candidates(other, second="bbb", third="aaa")
    with pytest.raises(InputError, match="candidate bbb was trained on another split"):
        blend("fit", run.path, other.path, "--members", "first,second")
    blend("fit", run.path, other.path, "--members", "first,second", "--allow-mixed-splits")
    record = json.loads((run.root / "blends" / "first-second" / "blend.json").read_text())
    assert [(member["candidate"], member["run"]) for member in record["members"]] == [
        ("aaa", run.path),
        ("bbb", other.path),
    ]
    assert record["mixed_splits"] is True
    blend("fit", run.path, other.path, "--members", "third", "--allow-mixed-splits")
    record = json.loads((run.root / "blends" / "third" / "blend.json").read_text())
    assert [member["run"] for member in record["members"]] == [other.path], "the name says which run"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ("first,nobody", "--members nobody: no such candidate; known: dead, early, first, never"),
        ("first,never", "--members never: has no finished fold run in"),
        ("first,early", "early eee-k2-pair-mean-mse: 2 of 4 folds finished"),
        ("first,dead", "dead ddd-k2-pair-mean-mse: dead in fold"),
        (" , ", "--members is empty"),
    ],
)
def test_a_member_that_cannot_take_part_is_an_error(full_run: Any, members: str, message: str) -> None:
    full_run.add("eee", folds=2).add("ddd", noise=500.0)
    name_candidates(full_run, first="aaa", early="eee", dead="ddd", never="fff")
    with pytest.raises(InputError, match=message):
        blend("fit", full_run.path, "--members", members)
    assert not (full_run.root / "blends").exists()


def test_the_bound_of_the_dead_can_be_lowered(run: Any) -> None:
    run.add("good", noise=0.1).add("dead", noise=500.0)
    blend("fit", run.path, "--name", "without", "--clip")
    assert members_of(run.root / "blends" / "without") == ["good"]
    with pytest.raises(InputError, match="dead in fold"):
        blend("fit", run.path, "--members", "good,dead")
    blend("fit", run.path, "--members", "good,dead", "--dead-below", "-1", "--method", "mean+line", "--clip")
    assert members_of(run.root / "blends" / "good-dead") == ["good", "dead"]


def test_a_retried_fold_is_marked(run: Any, toolbox: Any) -> None:
    def retry_second(fold: int, tables: Any, origin: Any) -> Any:
        return tables, toolbox.replace(origin, attempt=int(fold == 1))

    run.add("aaa").add("bbb", change=retry_second)
    output = " ".join(blend("fit", run.path, "--verbose").split())
    assert output.count("died once, retried") == 1
    assert "(fold 1 died once, retried)" in output
    record = json.loads((run.root / "blends" / "best" / "blend.json").read_text())
    assert {member["candidate"]: member["retried"] for member in record["members"]} == {"aaa": [], "bbb": [1]}


def test_a_study_that_names_no_data(full_run: Any) -> None:
    (full_run.root / "study.yaml").write_text("name: toy\n")
    with pytest.raises(InputError, match=r"study.yaml: has no `data:`; name the prepared folder with --data"):
        blend("fit", full_run.path)
    blend("fit", full_run.path, "--data", full_run.data.path)


def test_what_is_printed_is_five_lines_and_everything_on_request(full_run: Any) -> None:
    short = blend("fit", full_run.path, "--clip").splitlines()
    assert [line.split()[0] for line in short] == ["chosen:", "nested", "expected", "nested", "wrote", "next:"]
    everything = blend("fit", full_run.path, "--clip", "--verbose", "--force")
    assert "Ways to blend" in everything
    assert all(line in everything for line in short)


def test_what_is_worse_than_a_single_model_is_said_loudly(run: Any) -> None:
    run.add("good", noise=0.1).add("poor", noise=2.0)
    with console.capture() as capture:
        status = app(["fit", run.path, "--method", "mean+line", "--clip"], standalone_mode=False)
    assert status == WORSE
    assert "WARNING: the best single model is better, nested, by" in capture.get()
    assert app(["fit", run.path, "--clip"], standalone_mode=False) != WORSE


def test_worse_within_noise_is_said_loudly_too(full_run: Any) -> None:
    blend("fit", full_run.path, "--clip")
    record = read_blend(full_run.path, "best")
    slightly = record.comparisons[0].model_copy(update={"difference": -0.0002, "is_noise": True})
    behind = record.model_copy(update={"comparisons": (slightly, *record.comparisons[1:])})
    assert is_worse(behind)
    assert any("WARNING: the best single model is better, nested, by 0.0002" in line for line in sentences(behind))
    equal = slightly.model_copy(update={"difference": -0.00004})
    assert not is_worse(record.model_copy(update={"comparisons": (equal,)}))


def test_a_candidate_that_drifts_is_named_and_left_out_on_request(full_run: Any, toolbox: Any) -> None:
    def lift(fold: int, tables: Any, origin: Any) -> Any:
        values = pa.array(tables.test["prediction"].to_numpy() + 1.36, pa.float32())
        test = tables.test.drop_columns(["prediction"]).append_column("prediction", values)
        return toolbox.replace(tables, test=test), origin

    full_run.add("ddd", noise=0.2, change=lift)
    warned = blend("fit", full_run.path, "--method", "mean+line", "--name", "all", "--clip")
    said = "ddd-k2-pair-mean-mse drifts: on test rows its level is 1.8"
    assert [line for line in warned.splitlines() if "drifts: " in line] == [
        line for line in warned.splitlines() if line.startswith(f"WARNING: {said}")
    ]
    assert said in warned
    record = json.loads((full_run.root / "blends" / "all" / "blend.json").read_text())
    figures = {(entry["candidate"], entry["quantity"]): entry for entry in record["drift"] if entry["group"] is None}
    assert len(figures) == 4 * 3
    assert [entry["candidate"] for entry in figures.values() if entry["drifts"]] == ["ddd"]
    assert figures["ddd", "level"]["found"] - figures["ddd", "level"]["expected"] == pytest.approx(1.36, abs=0.1)

    dropped = blend("fit", full_run.path, "--method", "mean+line", "--name", "some", "--clip", "--drop-drifting")
    assert f"left out: ddd {said.replace(' drifts', ': drifts')}" in dropped
    assert "WARNING" not in dropped
    assert members_of(full_run.root / "blends" / "some") == ["aaa", "bbb", "ccc"]


def test_as_a_program_it_exits_with_two_and_one_message(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "blend", "fit", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "not a run directory (no study.yaml)" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_shows_an_example() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "blend", "fit", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "blendfold blend runs/demo" in done.stdout


@pytest.mark.parametrize("verb", [[], ["fit"], ["import"], ["bundle"], ["ledger"], ["ledger", "plot"]])
def test_help_loads_no_slow_library(verb: list[str]) -> None:
    assert loaded_libraries("blend", *verb, "--help") == set()


def test_a_fit_loads_the_parts_of_scipy_that_it_uses(full_run: Any) -> None:
    found = loaded_libraries("blend", "fit", full_run.path, "--method", "greedy+line")
    assert found - {"pandas"} == {"scipy", "scipy.optimize"}, "pyarrow loads pandas when it converts arrays"
    assert (full_run.root / "blends" / "greedy-line" / "blend.json").exists()


def test_a_record_read_back_says_the_same(full_run: Any) -> None:
    printed = blend("fit", full_run.path, "--clip", "--verbose")
    record = read_blend(full_run.path, "best")
    assert all(sentence in printed for sentence in sentences(record))
    with console.capture() as capture:
        for table in tables(record):
            console.print(table)
    assert capture.get() in printed
