"""Tables with several numbers, classes or shares for each row are prepared whole, or refused with every fault."""

import csv
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.__main__ import app
from data_prep.audit.audit_report import audit
from data_prep.audit.audit_tables import audit_tables
from data_prep.console import console
from data_prep.errors import InputError
from data_prep.prepare.prepare_folder import prepare
from data_prep.prepared import Prepared, load_prepared
from data_prep.store.yaml_documents import check_document
from data_prep.task import Task

NUMBERS = {"score_columns": ["a", "b"], "score_range": [1, 5], "metric": "rmse"}
CLASSES = {"score_column": "mood", "classes": ["sad", "so, so", "happy"], "metric": "multiclass_log_loss"}
SHARES = {"score_columns": ["wa", "wb", "tie"], "classes": ["A", "B", "tie"], "metric": "multiclass_log_loss"}
N_ROWS = 60

Rows = list[dict[str, str]]


def rows_of() -> Rows:
    generator = random.Random(3)
    words = "valve pump rotor blade sensor lens fibre resin".split()
    rows = []
    for row in range(N_ROWS):
        winner = generator.randrange(3)
        rows.append(
            {
                "id": f"r{row}",
                "text": " ".join(generator.choices(words, k=6)),
                "a": f"{generator.uniform(1, 5):.1f}",
                "b": "" if row % 4 == 1 else str(generator.randint(1, 5)),
                "mood": ["sad", "so, so", "happy"][row % 3],
                "wa": str(int(winner == 0)),
                "wb": str(int(winner == 1)),
                "tie": str(int(winner == 2)),
                "weight": str(1 + row % 2),
            }
        )
    return rows


def task_of(settings: dict[str, Any]) -> Task:
    return check_document({"name": "wide", "text_columns": ["text"], **settings}, Task, where="task.yaml")


def prepare_rows(folder: Path, rows: Rows, settings: dict[str, Any], **options: Any) -> Prepared:
    with (folder / "train.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return prepare(train=folder / "train.csv", test=None, out=folder / "out", task=task_of(settings), **options)


def test_several_numbers_are_kept_with_their_gaps_and_weights(tmp_path: Path) -> None:
    rows = rows_of()
    data = prepare_rows(tmp_path, rows, {**NUMBERS, "weight_column": "weight"})
    assert data.train.column_names[:6] == ["id", "text", "score_a", "score_b", "weight", "group"]
    assert data.train["score_b"].null_count == N_ROWS / 4
    expected = [[float(row["a"]), float(row["b"] or "nan")] for row in rows]
    np.testing.assert_array_equal(data.targets, np.array(expected, np.float32))
    assert data.train["weight"].to_pylist() == [float(row["weight"]) for row in rows]
    assert data.one_target.shape == (N_ROWS,)
    assert load_prepared(data.path).manifest == data.manifest


@pytest.mark.parametrize(
    ("settings", "wanted"), [(CLASSES, lambda row: row["mood"]), (SHARES, lambda row: "AB"[int(row["wb"])])]
)
def test_classes_become_shares_and_folds_are_stratified_by_them(settings: Any, wanted: Any, tmp_path: Path) -> None:
    rows = rows_of()
    data = prepare_rows(tmp_path, rows, settings)
    assert data.task.target.names == tuple(settings["classes"])
    np.testing.assert_array_equal(data.targets.sum(axis=1), np.ones(N_ROWS))
    for row, target in zip(rows, data.targets.argmax(axis=1), strict=True):
        assert data.task.target.names[target] == ("tie" if row["tie"] == "1" and settings is SHARES else wanted(row))
    folds = data.train["fold"].to_numpy()
    counts = [np.bincount(data.one_target[folds == fold].astype(int), minlength=3) for fold in range(5)]
    assert np.ptp(counts, axis=0).max() <= 1


def test_whole_numbers_may_name_classes(tmp_path: Path) -> None:
    rows = [row | {"mood": str(place % 3)} for place, row in enumerate(rows_of())]
    data = prepare_rows(tmp_path, rows, CLASSES | {"classes": [0, 1, 2]})
    assert data.train.column_names[2:5] == ["score_0", "score_1", "score_2"]
    assert data.one_target.tolist() == [place % 3 for place in range(N_ROWS)]


def test_soft_shares_are_scaled_to_sum_to_one(tmp_path: Path) -> None:
    rows = [row | {"wa": "0.3333", "wb": "0.3333", "tie": "0.3333"} for row in rows_of()]
    rows[:3] = [row | {"wa": "0.1", "wb": "0.9", "tie": "0"} for row in rows[:3]]
    data = prepare_rows(tmp_path, rows, SHARES, n_folds=2)
    np.testing.assert_allclose(data.targets.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(data.targets[0], [0.1, 0.9, 0], rtol=1e-6)


FAULTS: dict[str, tuple[dict[str, Any], dict[str, str], str]] = {
    "not a number": (NUMBERS, {"a": "high"}, r"column a: must be a number, .*found 1: line 2 'high'"),
    "out of range": (NUMBERS, {"b": "6"}, r"column b: must be from 1 to 5; found 1: line 2 '6'"),
    "no target at all": (NUMBERS, {"a": "", "b": " "}, r"column 'a', 'b': a row needs at least one target; .*line 2"),
    "unknown class": (
        CLASSES,
        {"mood": "angry"},
        r"one of the classes 'sad', 'so, so', 'happy'; found 1: line 2 'angry'",
    ),
    "class with a space": (CLASSES, {"mood": "sad "}, r"one of the classes .*line 2 'sad '"),
    "no class": (CLASSES, {"mood": ""}, r"column mood: may not be missing; found 1: line 2"),
    "shares": (SHARES, {"wa": "1", "wb": "1", "tie": "0"}, r"must sum to 1 \(± 0.02\); found 1: line 2 '1, 1, 0'"),
    "no shares": (SHARES, {"wa": "0", "wb": "0", "tie": "0"}, r"must sum to 1 \(± 0.02\); found 1: line 2 '0, 0, 0'"),
    "negative share": (SHARES, {"wa": "-0.5"}, r"column wa: must be from 0 to 1; found 1: line 2 '-0.5'$"),
    "missing share": (SHARES, {"wb": ""}, r"column wb: may not be missing; found 1: line 2$"),
    **{
        f"weight {text or 'blank'}": (
            NUMBERS | {"weight_column": "weight"},
            {"weight": text},
            "weight must be .*line 2",
        )
        for text in ("0", "-1", "", "heavy", "nan", "1e39")
    },
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_bad_target_is_named_with_line_and_column(name: str, tmp_path: Path) -> None:
    settings, change, message = FAULTS[name]
    rows = rows_of()
    rows[0] |= change
    with pytest.raises(InputError, match=message) as error:
        prepare_rows(tmp_path, rows, settings)
    assert len(error.value.faults) == 1
    assert not (tmp_path / "out").exists()


def test_every_fault_of_every_column_comes_at_once(tmp_path: Path) -> None:
    rows = rows_of()
    rows[0]["a"], rows[1]["b"], rows[2]["weight"], rows[3]["text"] = "x", "9", "0", ""
    rows[4] |= {"a": "", "b": ""}
    with pytest.raises(InputError) as error:
        prepare_rows(tmp_path, rows, NUMBERS | {"weight_column": "weight"}, n_folds=61)
    assert len(error.value.faults) == 6


@pytest.mark.parametrize("text", ["", "3"])
def test_a_target_that_is_missing_or_the_same_in_all_rows_is_refused(text: str, tmp_path: Path) -> None:
    rows = [row | {"b": text} for row in rows_of()]
    with pytest.raises(InputError, match=r"column b: needs two different scores, .*leave the column out$"):
        prepare_rows(tmp_path, rows, NUMBERS)


def test_a_fold_without_a_target_is_refused(tmp_path: Path) -> None:
    rows = [row | {"b": row["b"] if place < 4 else ""} for place, row in enumerate(rows_of())]
    with pytest.raises(InputError, match=r"fold \d holds [01] rows? of b"):
        prepare_rows(tmp_path, rows, NUMBERS)


def test_classes_with_fewer_rows_than_folds_are_said(tmp_path: Path) -> None:
    rows, said = rows_of(), []
    for place, row in enumerate(rows):
        row["mood"] = "sad" if place < 2 else ("so, so", "happy")[place % 2]
    settings = CLASSES | {"classes": ["sad", "so, so", "happy", "proud"]}
    data = prepare_rows(tmp_path, rows, settings, say=said.append)
    assert "2 classes with fewer rows than folds: 'sad' (2 rows), 'proud' (0 rows)." in said
    assert data.targets.shape == (N_ROWS, 4)


@pytest.mark.parametrize("settings", [NUMBERS, CLASSES, SHARES])
def test_prepare_and_audit_show_each_target(settings: dict[str, Any], tmp_path: Path) -> None:
    data = prepare_rows(tmp_path, rows_of(), settings)
    (tmp_path / "task.yaml").write_text(task_of(settings).model_dump_json())
    given = ["--train", str(tmp_path / "train.csv"), "--task", str(tmp_path / "task.yaml"), "--out", data.path]
    with console.capture() as shown:
        app(["prepare", *given], standalone_mode=False)
    report = audit(data)
    with console.capture() as audited:
        for table in audit_tables(report):
            console.print(table)
    assert len(report.targets) == len(data.task.target.names)
    for name, column, counts in zip(data.task.target.names, data.targets.T, report.targets, strict=True):
        line = re.escape(name) + rf".*{np.nanmean(column):.4f}.* {int(np.isnan(column).sum())} "
        assert re.search(line, shown.get())
        assert re.search(line, audited.get())
        assert counts.least <= counts.mean <= counts.greatest
    assert all(np.isfinite(one.metric) and np.isfinite(one.standard_error) for one in report.leakage.schemes)
    assert [one.score_mean for one in report.folds] == [None] * 5


def test_an_audit_leaves_out_schemes_that_the_rows_are_too_few_for(tmp_path: Path) -> None:
    data = prepare_rows(tmp_path, [row | {"b": row["a"]} for row in rows_of()[:12]], NUMBERS, n_folds=4, scheme="kfold")
    leakage = audit(data).leakage
    assert [one.scheme for one in leakage.schemes] == [leakage.reference] == ["kfold"]


BAD_TASKS: dict[str, tuple[dict[str, Any], str]] = {
    "a column twice": (NUMBERS | {"score_columns": ["a", "a"]}, "must differ"),
    "one column": (NUMBERS | {"score_columns": ["a"]}, "score_columns must be 2 to 30, got 1; one is a score_column"),
    "a text called as a score": (NUMBERS | {"text_columns": ["score_a"]}, r"may not be called \['score_a'\]"),
    "a text called as a prediction": (CLASSES | {"text_columns": ["prediction_sad"]}, "may not be called"),
    "a text called weight": (NUMBERS | {"text_columns": ["weight"], "weight_column": "w"}, "may not be called"),
    "both": (NUMBERS | {"score_column": "a"}, "not both"),
    "a class twice": (CLASSES | {"classes": ["sad", "sad"]}, "2 to 100 different names"),
    "a class of two lines": (CLASSES | {"classes": ["sad", "hap\npy"]}, "a class is a text on one line"),
    "a class called id": (CLASSES | {"classes": ["id", "other"]}, "a class may not be called like the id column"),
    "a truth as class": (CLASSES | {"classes": [True, False]}, "true or false does not fit"),
    "too few names": (SHARES | {"classes": ["A", "B"]}, "a name for each of the 3 score_columns"),
    "levels of classes": (CLASSES | {"score_levels": [0, 1]}, "classes have no score_levels"),
    "a metric of numbers": (CLASSES | {"metric": "rmse"}, "rmse does not suit classes; use multiclass_log_loss"),
    "a metric of classes": (NUMBERS | {"metric": "map@3"}, "metric map@3 needs classes"),
    "spaces in a ranking": (CLASSES | {"metric": "map@3"}, "map@3 needs classes without spaces"),
}


@pytest.mark.parametrize("name", BAD_TASKS)
def test_a_bad_task_of_several_targets_says_what_is_wrong(name: str) -> None:
    settings, message = BAD_TASKS[name]
    with pytest.raises(InputError, match=message):
        task_of(settings)
