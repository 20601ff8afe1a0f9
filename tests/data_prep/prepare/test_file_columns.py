"""Columns that the task does not name, files without ids or groups, empty texts, and splits that a column decides."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data_prep.errors import InputError
from data_prep.prepare.file_columns import typed
from data_prep.prepare.prepare_folder import prepare
from data_prep.prepared import Prepared, load_prepared
from data_prep.task import Task

PAIRS = Task(name="pairs", text_columns=("one", "two"), score_range=(0, 5))
N_ROWS = 40


def write(path: Path, header: str, *columns: list[object], n_rows: int = N_ROWS) -> Path:
    """Write a CSV file of texts, scores and other columns."""
    own = [[f"one {row}", f"two {row}", row % 6] for row in range(n_rows)]
    rows = [[*each, *(column[row] for column in columns)] for row, each in enumerate(own)]
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def prepared(folder: Path, train: Path, **settings: object) -> tuple[Prepared, list[str]]:
    said: list[str] = []
    given = {"test": None, "task": PAIRS, "n_folds": 4, "out": folder / "out", "say": said.append, **settings}
    return prepare(train=train, **given), said


def test_other_columns_are_kept_with_their_types_and_do_not_change_the_data(tmp_path: Path) -> None:
    plain, _ = prepared(tmp_path, write(tmp_path / "plain.csv", "one,two,score"), out=tmp_path / "plain")
    years, parts = list(range(N_ROWS)), [0.5 * row if row else "" for row in range(N_ROWS)]
    genres, truth, folds = ["news"] * N_ROWS, ["True", "False"] * 20, [0] * N_ROWS
    header = "one,two,score,year,part,genre,truth,fold"
    train = write(tmp_path / "train.csv", header, years, parts, genres, truth, folds)
    found, said = prepared(tmp_path, train)
    assert found.manifest.data_hash == plain.manifest.data_hash
    for data in (found, load_prepared(tmp_path / "out")):
        assert data.train["year"].to_pylist() == years
        assert data.train["part"].to_pylist() == [None, *parts[1:]]
        assert data.train["genre"].to_pylist() == genres
        assert data.train["truth"].to_pylist() == [1, 0] * 20
        assert data.train["fold (given)"].to_pylist() == folds
        assert data.test.column_names[-5:] == data.train.column_names[-5:]
    assert said[1] == (
        "Columns kept aside in extra/: 'year', 'part', 'genre', 'truth', 'fold (given)' (--drop leaves a column out)."
    )


def test_dropped_columns_are_gone_and_wrong_names_are_faults(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", "one,two,score,year", [1] * N_ROWS)
    found, said = prepared(tmp_path, train, drop=["year"])
    assert found.train.column_names == ["id", "one", "two", "score", "group", "fold"]
    assert not (tmp_path / "out/extra").exists()
    assert not any("extra" in sentence for sentence in said)
    with pytest.raises(InputError, match="have no column 'yeer', which --drop names"):
        prepared(tmp_path, train, drop=["yeer"], out=tmp_path / "other")
    with pytest.raises(InputError, match="--drop two: the task needs this column"):
        prepared(tmp_path, train, drop=["two"], out=tmp_path / "other")


def test_an_extra_table_of_another_preparation_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        years = [ord(name)] * N_ROWS
        prepared(tmp_path, write(tmp_path / f"{name}.csv", "one,two,score,year", years), out=tmp_path / name)
    (tmp_path / "a/extra/train.arrow").write_bytes((tmp_path / "b/extra/train.arrow").read_bytes())
    with pytest.raises(InputError, match=r"extra/train\.arrow: belongs to another preparation"):
        load_prepared(tmp_path / "a")


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "__index_level_0__"])
def test_the_index_that_pandas_writes_is_left_out(name: str, tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", f"one,two,score,{name}", list(range(N_ROWS)))
    found, said = prepared(tmp_path, train)
    assert found.train.column_names == ["id", "one", "two", "score", "group", "fold"]
    assert said[0] == f"{train}: column {name!r} is the index that pandas writes; it is left out"


def test_rows_without_an_id_have_their_number(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", "one,two,score")
    found, said = prepared(tmp_path, train, test=train)
    assert found.train["id"].to_pylist() == found.test["id"].to_pylist() == [str(row) for row in range(N_ROWS)]
    assert said[:2] == [
        f"{train}: has no id column; rows are numbered from 0",
        f"{train}: column 'score' is not used there; it is left out",
    ]
    assert found.task.id_column is None
    named = PAIRS.model_copy(update={"id_column": "key"})
    with pytest.raises(InputError, match="missing columns: 'key'"):
        prepared(tmp_path, train, task=Task(**named.model_dump()), out=tmp_path / "other")


def test_the_split_fits_the_task(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", "one,two,score,writer", [row // 4 for row in range(N_ROWS)])
    found, said = prepared(tmp_path, train)
    assert found.manifest.scheme == "stratified"
    assert said[-1].startswith("Split: stratified, because the task has no group_column")
    grouped = PAIRS.model_copy(update={"group_column": "writer"})
    assert prepared(tmp_path, train, task=grouped, out=tmp_path / "b")[0].manifest.scheme == "stratified_group"


@pytest.mark.parametrize(("empty", "n_train"), [("keep", N_ROWS), ("drop", N_ROWS - 1), ("error", 0)])
def test_empty_texts_are_what_the_task_says(empty: str, n_train: int, tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", "one,two,score")
    train.write_text(train.read_text().replace("two 7,", " ,"))
    task = PAIRS.model_copy(update={"empty": empty})
    if empty == "error":
        with pytest.raises(InputError, match="column two: may not be empty or blank; found 1: line 9"):
            prepared(tmp_path, train, task=task)
        return
    found, said = prepared(tmp_path, train, test=train, task=task)
    assert (found.train.num_rows, found.test.num_rows) == (n_train, N_ROWS)
    assert (f"{train}: 1 row with an empty text dropped" in said) == (empty == "drop")
    train.write_text(train.read_text().replace("two 9,3", "two 9,99"))
    with pytest.raises(InputError, match="found 1: line 11 '99'"):
        prepared(tmp_path, train, task=task, out=tmp_path / "other")


def test_a_file_of_empty_texts_alone_is_refused(tmp_path: Path) -> None:
    train = tmp_path / "train.csv"
    train.write_text("one,two,score\n" + "".join(f" ,two {row},{row % 6}\n" for row in range(N_ROWS)))
    with pytest.raises(InputError, match="every row has an empty text, and `empty: drop` leaves none"):
        prepared(tmp_path, train, task=PAIRS.model_copy(update={"empty": "drop"}))


def test_folds_are_those_of_a_column(tmp_path: Path) -> None:
    own = [["b", "a", "c", "-1"][row % 4] for row in range(N_ROWS)]
    train = write(tmp_path / "train.csv", "one,two,score,part", own)
    found, _ = prepared(tmp_path, train, fold_column="part")
    assert (found.manifest.scheme, found.manifest.n_folds) == ("given", 4)
    numbers = [[3, 1, 7, -1][row % 4] for row in range(N_ROWS)]
    train = write(tmp_path / "train.csv", "one,two,score,part", numbers)
    found, _ = prepared(tmp_path, train, fold_column="part", out=tmp_path / "numbers")
    assert found.train["fold"].to_pylist() == [[1, 0, 2, -1][row % 4] for row in range(N_ROWS)]
    assert found.manifest.rows["holdout"] == N_ROWS / 4
    assert "part" not in found.train.column_names
    for column, message in (("one", "must hold 2 to 100 different folds|says nothing there"), ("x", "missing columns")):
        with pytest.raises(InputError, match=message):
            prepared(tmp_path, train, fold_column=column, out=tmp_path / "other")


@pytest.mark.parametrize("dates", [False, True])
def test_folds_follow_each_other_in_time(dates: bool, tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(N_ROWS)
    times = [f"2024-01-{1 + time // 2:02d}" if dates else 0.5 * (time // 2) for time in order.tolist()]
    train = write(tmp_path / "train.csv", "one,two,score,when", times)
    found, _ = prepared(tmp_path, train, time_column="when", n_folds=3, holdout=0.25)
    fold = found.train["fold"].to_numpy()
    late = np.where(fold < 0, 3, fold)
    assert (np.diff(late[np.argsort(order)]) >= 0).all()
    assert np.bincount(late).tolist() == [10, 10, 10, 10]
    assert found.manifest.scheme == "time"
    broken = write(tmp_path / "broken.csv", "one,two,score,when", ["soon", *times[1:]])
    with pytest.raises(InputError, match=r"--time-column when: must be a number or a date .* 1 are not \('soon'\)"):
        prepared(tmp_path, broken, time_column="when", out=tmp_path / "other")


def test_every_group_can_be_a_fold(tmp_path: Path) -> None:
    writers = [f"w{row % 5}" for row in range(N_ROWS)]
    train = write(tmp_path / "train.csv", "one,two,score,writer", writers)
    task = PAIRS.model_copy(update={"group_column": "writer"})
    found, _ = prepared(tmp_path, train, task=task, scheme="leave_group_out")
    assert found.train["fold"].to_pylist() == found.train["group"].to_pylist() == [row % 5 for row in range(N_ROWS)]
    assert found.manifest.n_folds == 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fold_column": "a", "scheme": "kfold"}, "--fold-column with no --scheme at all"),
        ({"scheme": "time"}, "--scheme time goes with --time-column"),
        ({"scheme": "given"}, "--fold-column with no --scheme at all"),
        ({"fold_column": "a", "holdout": 0.1}, "mark the rows of the holdout with the fold -1"),
        ({"scheme": "leave_group_out"}, "needs groups"),
    ],
)
def test_settings_of_the_split_that_contradict_are_refused(settings, message, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        prepared(tmp_path, tmp_path / "nowhere.csv", **settings)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["1", "-2"], pa.array([1, -2])),
        (["1", ""], pa.array([1.0, None])),
        ([" 1.5 ", "2e3"], pa.array([1.5, 2000.0])),
        (["007", "8"], pa.array(["007", "8"])),
        (["", ""], pa.array(["", ""])),
        (["9" * 30, "1"], pa.array([1e30, 1.0])),
        (["nan", "1"], pa.array(["nan", "1"])),
    ],
)
def test_columns_have_the_type_of_their_texts(texts, expected) -> None:
    assert typed(pa.chunked_array([texts])).combine_chunks().equals(expected)
