import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pytest
import yaml

from blend.__main__ import app
from blend.evidence.member_records import notes_about
from blend.imports.file_formats import _arrow_reader
from blend.imports.foreign_columns import ForeignColumns, read_foreign
from blend.imports.foreign_models import ImportRequest, read_request
from blend.imports.imported_models import write_imported
from blend.members.candidate_folds import with_candidates_folds
from blend.members.load_predictions import load_predictions
from data_prep.console import console
from data_prep.errors import InputError
from data_prep.prepare.prepare_folder import prepare
from data_prep.prepared import Prepared
from data_prep.scoring.metrics import pearson
from data_prep.store.oof_store import OofStore, Provenance
from data_prep.task import Task

ROOT = Path(__file__).parents[3]
N_TRAIN, N_HOLDOUT, N_TEST = 240, 24, 36


def blend(*arguments: object) -> str:
    """Run a verb in this process and return what it printed."""
    console.width = 200
    with console.capture() as capture:
        app([str(argument) for argument in arguments], standalone_mode=False)
    return capture.get()


@dataclass
class Team:
    """Another team's predictions, on logits' scale, as data frames in shuffled order."""

    folder: Path
    data: Prepared

    def oof(self, *names: str, holdout: bool = False, noise: float = 0.3) -> pd.DataFrame:
        train = self.data.train.to_pandas()
        train = train if holdout else train[train["fold"] >= 0]
        frame = pd.DataFrame({"id": train["id"], "worth": train["score"], "fold": train["fold"]})
        for name in names:
            random = np.random.default_rng(list(name.encode()))
            frame[name] = 8 * train["score"] - 3 + 8 * noise * random.normal(size=len(train))
        return frame.sample(frac=1, random_state=1).reset_index(drop=True)

    def test(self, *names: str) -> pd.DataFrame:
        frame = pd.DataFrame({"id": self.data.test["id"].to_pylist()})
        for name in names:
            frame[name] = np.random.default_rng(list(name.encode())).normal(size=N_TEST)
        return frame.sample(frac=1, random_state=2).reset_index(drop=True)

    def write(self, frame: pd.DataFrame, name: str) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        WRITERS[path.suffix](frame, path)
        return str(path)

    def request(self, oof: pd.DataFrame, test: pd.DataFrame | None, **settings: Any) -> ImportRequest:
        """Write both as CSV and return what asks for them."""
        files = {"oof": self.write(oof, "oof.csv"), "test": None if test is None else self.write(test, "test.csv")}
        return ImportRequest(**{"name": "theirs", **files, **settings})


WRITERS: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    ".csv": lambda frame, path: frame.to_csv(path, index=False),
    ".parquet": lambda frame, path: frame.to_parquet(path, index=False),
    ".arrow": lambda frame, path: pyarrow.feather.write_feather(pa.Table.from_pandas(frame), str(path)),
    ".feather": lambda frame, path: frame.to_feather(path),
}


@pytest.fixture
def team(tmp_path: Path, prepared: Prepared) -> Team:
    return Team(tmp_path / "team", prepared)


def by_id(frame: pd.DataFrame, column: str, ids: list[str]) -> np.ndarray:
    """Return a column in the order of `ids`, by pandas."""
    return frame.set_index("id")[column].loc[ids].to_numpy()


@pytest.mark.parametrize("suffix", list(WRITERS))
def test_predictions_arrive_by_id_in_every_fold(team: Team, tmp_path: Path, suffix: str) -> None:
    oof, test = team.oof("pred"), team.test("target_value")
    request = ImportRequest(oof=team.write(oof, f"a{suffix}"), test=team.write(test, f"b{suffix}"), name="theirs")
    ids = write_imported(read_request(request, team.data), str(tmp_path / "out"))
    assert "study.yaml" in (tmp_path / "out" / "README.txt").read_text()
    store = OofStore(tmp_path / "out")
    assert store.candidates() == [ids["theirs"]]
    assert store.folds(ids["theirs"]) == [0, 1, 2, 3]
    n_rows = 0
    for fold in range(4):
        table = store.read("oof", ids["theirs"], fold)
        rows = table["id"].to_pylist()
        train = team.data.train.to_pandas()
        assert rows == train["id"][train["fold"] == fold].tolist()
        np.testing.assert_array_equal(table["prediction"].to_numpy(), by_id(oof, "pred", rows).astype(np.float32))
        np.testing.assert_array_equal(table["score"].to_numpy(), by_id(oof, "worth", rows))
        tested = store.read("test", ids["theirs"], fold)
        expected = by_id(test, "target_value", team.data.test["id"].to_pylist())
        np.testing.assert_array_equal(tested["prediction"].to_numpy(), expected.astype(np.float32))
        assert Provenance.of(table).split_hash == "unknown"
        assert Provenance.of(table).data_hash == team.data.manifest.data_hash
        n_rows += len(rows)
    assert n_rows == N_TRAIN
    assert not (tmp_path / "out" / "holdout").exists()


def test_holdout_rows_are_kept_where_there_are_all(team: Team, tmp_path: Path) -> None:
    oof = team.oof("pred", holdout=True)
    request = team.request(oof, team.test("pred"), split=team.data.path)
    ids = write_imported(read_request(request, team.data), str(tmp_path / "out"))
    table = OofStore(tmp_path / "out").read("holdout", ids["theirs"], 2)
    assert len(table) == N_HOLDOUT
    expected = by_id(oof, "pred", table["id"].to_pylist()).astype(np.float32)
    np.testing.assert_array_equal(table["prediction"].to_numpy(), expected)
    assert all(column.holdout for column in load_predictions([str(tmp_path / "out")], team.data).columns)


def test_without_holdout_rows_there_is_no_holdout_score_and_it_is_said(
    team: Team, full_run: Any, tmp_path: Path
) -> None:
    request = team.request(team.oof("pred"), team.test("pred"), split=team.data.path)
    write_imported(read_request(request, team.data), str(tmp_path / "out"))
    found = load_predictions([full_run.path, str(tmp_path / "out")], team.data)
    assert len(found.members) == 4
    assert [len(column.holdout) for column in found.columns] == [4, 4, 4, 0]
    assert notes_about(found) == ("no holdout score with theirs (imported): no predictions for the holdout",)


def test_an_unknown_split_is_blended_and_told(team: Team, full_run: Any, tmp_path: Path) -> None:
    request = team.request(team.oof("pred"), team.test("pred"), family="deberta")
    write_imported(read_request(request, team.data), str(tmp_path / "out"))
    found = load_predictions([full_run.path, str(tmp_path / "out")], team.data)
    member = found.members[-1]
    assert (member.label, member.family, member.split_hash) == ("theirs (imported)", "deberta", "unknown")
    assert (
        "rows may have been trained on by the model that predicts them; nested scores can flatter"
        in notes_about(found)[0]
    )
    expected = by_id(team.oof("pred"), "pred", found.ids.to_pylist()).astype(np.float32)
    np.testing.assert_array_equal(found.oof([3])[:, 0], expected)


def test_a_wide_file_is_one_model_for_each_numeric_column(team: Team, tmp_path: Path) -> None:
    oof = team.oof("a", "b c", "0.5").assign(left="text", comment="of theirs", index=range(N_TRAIN))
    oof.insert(0, "Unnamed: 0", range(N_TRAIN))
    imported = read_request(team.request(oof, team.test("0.5", "a", "b c")), team.data)
    assert [model.name for model in imported.models] == ["theirs-a", "theirs-b c", "theirs-0.5"]
    assert any("'comment' (not numbers)" in note for note in imported.notes)
    assert not any("'left'" in note for note in imported.notes)
    expected = by_id(team.test("b c"), "b c", team.data.test["id"].to_pylist())
    np.testing.assert_allclose(imported.models[1].test, expected, atol=1e-12)


def test_a_copy_of_the_score_is_no_model(team: Team) -> None:
    oof = team.oof("a", "b").assign(label=lambda frame: frame["worth"])
    imported = read_request(team.request(oof, team.test("a", "b")), team.data)
    assert [model.name for model in imported.models] == ["theirs-a", "theirs-b"]
    assert any("no model: column 'label' (the target, by its name)" in note for note in imported.notes)
    alone = team.oof().rename(columns={"worth": "label"})
    with pytest.raises(InputError, match="column label: is the true score in every row, not a prediction"):
        read_request(team.request(alone, team.test("a")), team.data)


def test_a_submission_in_place_of_out_of_fold_has_predictions_in_the_score_column(team: Team) -> None:
    oof = team.oof("pred").drop(columns="worth").rename(columns={"pred": "worth"})
    imported = read_request(team.request(oof, team.test("worth")), team.data)
    assert imported.models[0].column == "worth"
    assert imported.models[0].pooled() == pytest.approx(0.76, abs=0.1)


def test_reported_scores_are_those_of_the_rows(team: Team) -> None:
    oof = team.oof("pred")
    imported = read_request(team.request(oof, team.test("pred")), team.data)
    expected = [pearson(rows["worth"], rows["pred"]) for _, rows in oof.groupby("fold")]
    np.testing.assert_allclose(imported.models[0].fold_metrics(), expected, atol=1e-12)
    assert imported.models[0].pooled() == pytest.approx(pearson(oof["worth"], oof["pred"]), abs=1e-12)


def test_ids_of_digits_stay_text(tmp_path: Path, prepared: Prepared) -> None:
    path = tmp_path / "oof.csv"
    path.write_text("id,pred\n007,0.5\n1e3,0.25\n")
    table = read_foreign(str(path), ForeignColumns(prepared.task), is_test=False)
    assert table.ids.to_pylist() == ["007", "1e3"]


def test_ids_that_do_not_match_or_have_another_name(toolbox: Any, tmp_path: Path) -> None:
    data = toolbox.make_prepared(tmp_path / "prepared")
    team = Team(tmp_path / "team", data)
    oof, test = team.oof("pred"), team.test("pred")
    with pytest.raises(InputError, match=r"oof.csv: 240 of 240 ids that are in no row .*\n.*240 of 240 rows without"):
        read_request(team.request(oof.assign(id=oof["id"].str.slice(1)), test), data)
    renamed = oof.rename(columns={"id": "key"}), test.rename(columns={"id": "key"})
    with pytest.raises(InputError, match="has no id column; name it with --id-column"):
        read_request(team.request(*renamed), data)
    assert read_request(team.request(*renamed, id_column="key"), data).models


def spoil(frame: pd.DataFrame, row: int, column: str, value: object) -> pd.DataFrame:
    changed = frame.astype({column: object})
    changed.loc[frame.index[frame["id"] == f"r{row:03d}"], column] = value
    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda oof: oof[oof["id"] != "r100"], r"oof.csv: 1 of 240 rows without out-of-fold prediction \(ids r100\)"),
        (lambda oof: pd.concat([oof, oof[oof["id"] == "r050"]]), r"1 of 264 ids with two or more .* \(ids r050\)"),
        (lambda oof: spoil(oof, 30, "id", "new"), r"1 of 240 ids that are in no row of the prepared data \(ids new\)"),
        (lambda oof: spoil(oof, 40, "a", None), r"column a: 1 of 240 predictions are missing, .* \(ids r040\)"),
        (lambda oof: spoil(oof, 41, "b", "inf"), r"column b: 1 of 240 predictions are missing, .* \(ids r041\)"),
        (lambda oof: spoil(oof, 41, "b", 1e300), r"column b: 1 of 240 predictions are beyond float32, .* \(ids r041\)"),
        (lambda oof: spoil(oof, 42, "a", "0,5"), r"column a: 1 of 240 values are not numbers, the first is '0,5'"),
        (lambda oof: oof.assign(b=0.5), r"column b: predicts 0.5 for all 240 rows"),
        (lambda oof: spoil(oof, 43, "worth", 0.33), r"1 of 240 rows have another score .* \(ids r043\)"),
        (lambda oof: oof.assign(worth=oof["worth"].to_numpy()[::-1]), r"rows have another score"),
        (
            lambda oof: oof.rename(columns={"b": "d"}),
            r"column d: there is no column of that name in .*test.csv; leave .*\n.*column b: ",
        ),
        (lambda oof: oof[["id", "worth"]].assign(word="x"), r"column worth: is the true score"),
        (lambda oof: oof[["id"]].assign(word="x"), r"no numeric prediction column; it has 'id', 'word'"),
        (lambda oof: oof.iloc[:0], r"has no rows"),
        (lambda oof: oof.assign(**{"a,b": oof["a"]}), r"a,b: there is no column"),
    ],
)
def test_what_does_not_fit_is_refused(team: Team, change: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_request(team.request(change(team.oof("a", "b")), team.test("a", "b")), team.data)


def test_a_part_of_the_holdout_is_a_gap(team: Team) -> None:
    oof = team.oof("a", holdout=True)
    with pytest.raises(
        InputError, match=r"1 of 24 holdout rows without prediction, where others have one \(ids r003\)"
    ):
        read_request(team.request(oof[oof["id"] != "r003"], team.test("a")), team.data)


def test_test_rows_are_checked_too_and_all_faults_come_at_once(team: Team) -> None:
    oof, test = team.oof("a"), team.test("a")
    with pytest.raises(InputError) as caught:
        read_request(team.request(oof.assign(a=1.0), test.assign(a=[*test["a"][1:], np.nan])), team.data)
    assert len(caught.value.faults) == 2
    assert caught.match(r"test.csv, column a: 1 of 36 predictions are missing")


def test_folds_are_checked_whatever_they_are_called(team: Team, toolbox: Any, tmp_path: Path) -> None:
    oof, test = team.oof("a"), team.test("a")
    renamed = oof.assign(fold=oof["fold"].map({0: "w", 1: "x", 2: "y", 3: "z"}))
    known = read_request(team.request(renamed, test, split=team.data.path), team.data)
    assert known.models[0].split_hash == team.data.manifest.split_hash
    assert not known.notes
    unknown = read_request(team.request(renamed, test), team.data)
    assert any(f"has the folds of {team.data.path}; if the models" in note for note in unknown.notes)
    with pytest.raises(InputError, match="its folds are not those of --split"):
        read_request(team.request(spoil(oof, 30, "fold", 0), test, split=team.data.path), team.data)
    finer = oof.assign(fold=2 * oof["fold"] + (oof["id"] > "r120"))
    with pytest.raises(InputError, match="its folds are not those of --split"):
        read_request(team.request(finer, test, split=team.data.path), team.data)
    other = toolbox.make_prepared(tmp_path / "shifted", shift=1)
    named = read_request(team.request(oof.drop(columns="fold"), test, split=other.path), team.data)
    assert named.models[0].split_hash == other.manifest.split_hash
    foreign = toolbox.make_prepared(tmp_path / "other", score_seed=5)
    with pytest.raises(InputError, match="was made from other data"):
        read_request(team.request(oof, test, split=foreign.path), team.data)


def test_a_blend_is_scored_by_the_folds_of_its_models(team: Team, full_run: Any, tmp_path: Path) -> None:
    rows = team.oof("a", "b")
    rows["cv"] = pd.factorize(rows["id"])[0] % 3 + 1.0
    request = team.request(rows, team.test("a", "b"), fold_column="cv")
    imported = read_request(request, team.data)
    out = str(tmp_path / "out")
    write_imported(imported, out)
    assert any(note.startswith("trained on 3 folds, not those of") for note in imported.notes)
    assert any("WARNING: 40 of 44 groups have rows in several of these folds" in note for note in imported.notes)
    data = with_candidates_folds(team.data, [out], None, ())
    assert data.manifest.split_hash == imported.models[0].split_hash != team.data.manifest.split_hash
    assert (data.manifest.n_folds, data.manifest.scheme) == (3, "kfold")
    found = load_predictions([out], data)
    by_row = dict(zip(rows["id"], rows["cv"], strict=True))
    assert len({(by_row[row], fold) for row, fold in zip(found.ids.to_pylist(), found.fold, strict=True)}) == 3
    assert notes_about(found)[0].startswith("no holdout score")
    blend("fit", out, "--name", "own", "--clip", "--method", "mean+line")
    record = json.loads((tmp_path / "out/blends/own/blend.json").read_text())
    assert (record["split_hash"], record["mixed_splits"]) == (data.manifest.split_hash, False)
    assert len(record["scores"]["blend"]["nested"]["folds"]) == 3

    assert with_candidates_folds(team.data, [full_run.path, out], None, ()) is team.data
    with pytest.raises(InputError, match=r"was trained on another split .* --allow-mixed-splits"):
        load_predictions([full_run.path, out], team.data)
    write_imported(read_request(team.request(rows, team.test("a", "b"), name="more"), team.data), out)
    assert with_candidates_folds(team.data, [out], None, ()).manifest.n_folds == 3
    coarse = rows.assign(cv=rows["cv"].clip(upper=2))
    other = team.request(coarse, team.test("a", "b"), fold_column="cv", name="coarse")
    write_imported(read_request(other, team.data), out)
    assert with_candidates_folds(team.data, [out], None, ()) is team.data
    assert with_candidates_folds(team.data, [out], ["coarse-a"], ()).manifest.n_folds == 2


def test_folds_of_a_column_that_are_those_of_the_data_are_the_same_split(team: Team, tmp_path: Path) -> None:
    renamed = team.oof("a").assign(fold=lambda frame: 4 - frame["fold"])
    imported = read_request(team.request(renamed, team.test("a"), fold_column="fold"), team.data)
    assert imported.models[0].split_hash == team.data.manifest.split_hash
    write_imported(imported, str(tmp_path / "out"))
    assert with_candidates_folds(team.data, [str(tmp_path / "out")], None, ()) is team.data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda oof: oof.assign(cv=1), r"its fold column holds 1 fold, which must be from 2 to 100"),
        (lambda oof: oof.assign(cv=range(N_TRAIN)), r"its fold column holds 240 folds, which must be"),
        (lambda oof: spoil(oof.assign(cv=oof["fold"]), 33, "cv", None), r"1 of 240 rows have no fold \(ids r033\)"),
        (lambda oof: oof.assign(cv=(oof["id"] == "r033").astype(int)), r"pearson says nothing .* fold 1 holds 1 row"),
    ],
)
def test_folds_that_cannot_be_used_are_refused(team: Team, change: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_request(team.request(change(team.oof("a")), team.test("a"), fold_column="cv"), team.data)


def test_columns_that_are_no_models_are_named(team: Team) -> None:
    oof, test = team.oof("a", "b", "c"), team.test("a", "b", "c")
    oof = oof.assign(
        truth2=oof["worth"],
        kfold=9 - oof["fold"],
        part=lambda frame: 3.0 - frame["fold"],
        rest=(oof["worth"] - oof["a"]).astype(np.float32),
        gap=oof["b"] - oof["worth"],
        loss=(oof["worth"] - oof["c"]) ** 2,
        place=range(7, N_TRAIN + 7),
        number=oof["id"].str.slice(1).astype(int),
        topic=np.arange(N_TRAIN) % 11,
        target=oof["worth"] > 0.5,
        Residual=0.25,
        sample_weight=1.0,
    ).astype({"target": int})
    imported = read_request(team.request(oof, test.assign(topic=0, part=1, Residual=np.nan)), team.data)
    assert [model.column for model in imported.models] == ["a", "b", "c"]
    found = {
        note.split("'")[1]: note.partition(" (")[2].rpartition("):")[0] for note in imported.notes if "no model" in note
    }
    assert found == {
        "truth2": "the true score in every row",
        "kfold": "folds, by its name",
        "part": "the number of each row's fold",
        "rest": "target - 'a'",
        "gap": "'b' - target",
        "loss": "(target - 'c')^2",
        "place": "row numbers",
        "number": "whole numbers, where others have fractions",
        "topic": "whole numbers, where others have fractions",
        "target": "the target, by its name",
        "Residual": "an error, by its name",
        "sample_weight": "weights of rows, by its name",
    }
    named = team.request(oof, test.assign(topic=range(N_TEST)), prediction_columns=("topic", "a"))
    assert [model.column for model in read_request(named, team.data).models] == ["topic", "a"]


def test_a_prediction_is_told_from_its_residual_whichever_comes_first(team: Team) -> None:
    oof = team.oof("a")
    oof = oof.assign(a=oof["worth"].mean() + 0.2 * (oof["worth"] - oof["worth"].mean()) + 0.01 * oof["a"])
    oof.insert(1, "b", oof["worth"] - oof["a"])
    (model,) = read_request(team.request(oof, None), team.data).models
    assert model.column == "a"


def test_what_is_excluded_is_not_read(team: Team) -> None:
    oof, test = team.oof("a", "b").assign(c="some text", d=np.nan), team.test("a", "b", "e")
    request = team.request(oof, test, exclude=("d", "theirs-b", "e"))
    imported = read_request(request, team.data)
    assert [model.name for model in imported.models] == ["theirs"]
    assert imported.models[0].column == "a"
    write_folder(team, ["one", "two"])
    (team.folder / "test" / "two.csv").unlink()
    folders = {"oof": str(team.folder / "oof"), "test": str(team.folder / "test"), "name": "x"}
    for name in ("two", "x-two"):
        imported = read_request(ImportRequest(**folders, exclude=(name,)), team.data)
        assert [model.name for model in imported.models] == ["x-one"]
    with pytest.raises(InputError, match="--exclude: leaves no model"):
        read_request(ImportRequest(**folders, exclude=("one", "two")), team.data)


def numbered(folder: Path, *, ids: Callable[[int], str], with_test: bool = True) -> Prepared:
    """Return a prepared folder whose train and test ids are the same numbers; or one without test rows."""
    rows = [f"{ids(row)},text {row},{row % 5 / 4}" for row in range(60)]
    folder.mkdir()
    (folder / "train.csv").write_text("\n".join(["id,left,worth", *rows]))
    (folder / "test.csv").write_text("\n".join(["id,left", *(row.rpartition(",")[0] for row in rows[:20])]))
    task = Task(name="toy", text_columns=("left",), score_range=(0.0, 1.0), score_column="worth")
    test = folder / "test.csv" if with_test else None
    return prepare(train=folder / "train.csv", test=test, out=folder / "out", task=task, scheme="kfold", n_folds=3)


@pytest.mark.parametrize("ids", ["{}", "{:04d}", "{}.0"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("kind", [int, float, str])
def test_ids_are_told_apart_by_file_and_numbers_are_numbers(tmp_path: Path, ids: str, suffix: str, kind: type) -> None:
    data = numbered(tmp_path / "data", ids=ids.format)
    team = Team(tmp_path / "team", data)
    number = np.random.default_rng(0).permutation(60)
    oof = pd.DataFrame({"id": number.astype(kind), "p": number + 0.5})
    test = pd.DataFrame({"id": np.arange(20)[::-1].astype(kind), "p": -1.5 - np.arange(20)[::-1]})
    request = ImportRequest(oof=team.write(oof, f"a{suffix}"), test=team.write(test, f"b{suffix}"), name="a")
    (model,) = read_request(request, data).models
    assert model.oof.tolist() == [row + 0.5 for row in range(60)]
    assert model.test is not None
    assert model.test.tolist() == [-1.5 - row for row in range(20)]


def test_numbers_that_two_ids_spell_are_not_matched(tmp_path: Path) -> None:
    data = numbered(tmp_path / "data", ids=lambda row: "007" if row == 0 else str(row))
    team = Team(tmp_path / "team", data)
    oof = pd.DataFrame({"id": [f"{row}.0" for row in range(60)], "p": np.arange(60) + 0.5})
    with pytest.raises(InputError, match="60 of 60 ids that are in no row"):
        read_request(ImportRequest(oof=team.write(oof, "a.csv"), test=None, name="a"), data)


def in_order(team: Team, *, holdout: bool = False) -> tuple[np.ndarray, np.ndarray]:
    ids = [row for row in team.data.train["id"].to_pylist() if holdout or int(row[1:]) >= N_HOLDOUT]
    frame = team.oof("a", "b", holdout=holdout)
    return np.column_stack([by_id(frame, name, ids) for name in ("a", "b")]), team.test("a", "b")[["a", "b"]].to_numpy()


def array_request(team: Team, oof: np.ndarray, test: np.ndarray, *, trust: bool = True) -> ImportRequest:
    team.folder.mkdir(exist_ok=True)
    np.save(team.folder / "oof.npy", oof)
    np.save(team.folder / "test.npy", test)
    paths = str(team.folder / "oof.npy"), str(team.folder / "test.npy")
    return ImportRequest(oof=paths[0], test=paths[1], name="theirs", trust_row_order=trust)


@pytest.mark.parametrize("holdout", [False, True])
def test_row_order_is_taken_on_trust_and_checked_by_score(team: Team, holdout: bool) -> None:
    oof, test = in_order(team, holdout=holdout)
    imported = read_request(array_request(team, oof, test), team.data)
    assert [model.name for model in imported.models] == ["theirs-0", "theirs-1"]
    trained = imported.models[1].trained
    np.testing.assert_array_equal(imported.models[1].oof[trained], oof[-N_TRAIN:, 1])
    assert np.isfinite(imported.models[1].oof).sum() == len(oof)
    assert any("by order, which cannot be checked without targets" in note for note in imported.notes)

    with pytest.raises(InputError, match="add --trust-row-order"):
        read_request(array_request(team, oof, test, trust=False), team.data)
    with pytest.raises(InputError, match=r"oof.npy: 239 rows without ids, expected 240 \(or 264 with the holdout\)"):
        read_request(array_request(team, oof[:239], test), team.data)
    with pytest.raises(InputError, match=r"test.npy: 35 rows without ids, expected 36 test rows"):
        read_request(array_request(team, oof, test[1:]), team.data)


def test_another_order_is_refused_by_its_score(team: Team) -> None:
    oof, test = in_order(team)
    n_refused = 0
    for seed in range(20):
        shuffled = np.random.default_rng(seed).permutation(oof)
        with pytest.raises(InputError, match=r"in the order of the prepared rows its pearson is .* add ids") as caught:
            read_request(array_request(team, shuffled[:, 0], test[:, 0]), team.data)
        n_refused += len(caught.value.faults)
    assert n_refused == 20


def test_the_bound_of_chance_is_the_quantile_of_shuffles() -> None:
    from blend.imports.foreign_rows import CHANCE

    random = np.random.default_rng(0)
    score, prediction = random.integers(0, 5, 240) / 4, random.normal(size=240)
    found = [pearson(random.permutation(score), prediction) for _ in range(20_000)]
    assert np.quantile(found, 0.999) == pytest.approx(CHANCE / np.sqrt(239), rel=0.07)


def test_a_pickle_is_not_opened(team: Team) -> None:
    request = array_request(team, np.array([object()] * 240), np.arange(N_TEST))
    with pytest.raises(InputError, match=r"oof.npy: cannot be read as .npy \(.*allow_pickle=False"):
        read_request(request, team.data)


WRONG_FILES: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "npz": (
        "a.npy",
        lambda path: np.savez(path.open("wb"), np.arange(9.0)),
        "expected a .npy file, found a zip archive",
    ),
    "pointer": (
        "a.parquet",
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n"),
        "expected a .parquet file, found a git-LFS pointer",
    ),
    "parquet": ("a.csv", lambda path: pd.DataFrame({"id": ["a"]}).to_parquet(path), "found a Parquet file"),
    "long array": ("a.npy", lambda path: save_longer(path, (10**12,)), "its header asks for 8,000,000,000,000 bytes"),
    "cut array": ("a.npy", lambda path: save_longer(path, (4,)), r"asks for 32 bytes of numbers, the file has 24"),
    "decimal commas": (
        "a.csv",
        lambda path: path.write_text("id;pred\nr001;0,5\nr002;0,7\n"),
        r"cannot be read as .csv \(.*is it separated by ';' instead of commas\?",
    ),
    "whole numbers beyond floats": (
        "a.parquet",
        lambda path: pd.DataFrame({"id": ["a", "b"], "p": [2**53 + 1, 1]}).to_parquet(path),
        r"column p: has whole numbers above 2\^53",
    ),
}


def save_longer(path: Path, shape: tuple[int, ...]) -> None:
    """Write three numbers under a header that promises more."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
        file.write(bytes(24))


@pytest.mark.parametrize("kind", WRONG_FILES)
def test_a_file_that_is_not_what_its_name_says_is_described(tmp_path: Path, prepared: Prepared, kind: str) -> None:
    name, write, message = WRONG_FILES[kind]
    write(tmp_path / name)
    with pytest.raises(InputError, match=message):
        read_foreign(str(tmp_path / name), ForeignColumns(prepared.task), is_test=False)


def test_a_column_has_the_type_of_all_its_rows_and_a_row_may_be_long(tmp_path: Path, prepared: Prepared) -> None:
    (tmp_path / "a.csv").write_text("id,note,pred\n" + "a,,1\n" * 300_000 + f"b,{'x' * 2_000_000},0.5\n")
    table = read_foreign(str(tmp_path / "a.csv"), ForeignColumns(prepared.task), is_test=True)
    assert table.predictions["pred"].tolist()[-2:] == [1.0, 0.5]


def test_arrow_reads_memory_of_its_own() -> None:
    content = bytearray(b"id,pred\na,1\n")
    reader = _arrow_reader(content)
    content.clear()  # refused as long as anyone reads these bytes
    assert reader.read() == b"id,pred\na,1\n"


def write_folder(team: Team, models: list[str], oof: str = "oof/{}.csv", test: str = "test/{}.csv") -> None:
    for model in models:
        team.write(team.oof("pred").assign(pred=team.oof(model)[model]), oof.format(model))
        team.write(team.test("pred").assign(pred=team.test(model)[model]), test.format(model))


def test_a_folder_is_one_model_for_each_file(team: Team) -> None:
    write_folder(team, ["one", "two.v2", "three"])
    (team.folder / "oof" / "notes.txt").write_text("ours are best")
    request = ImportRequest(oof=str(team.folder / "oof"), test=str(team.folder / "test"), name=None)
    imported = read_request(request, team.data)
    assert sorted(model.name for model in imported.models) == ["one", "three", "two.v2"]
    assert any("notes.txt" in note for note in imported.notes)
    model = next(model for model in imported.models if model.name == "two.v2")
    expected = by_id(team.test("two.v2"), "two.v2", team.data.test["id"].to_pylist())
    np.testing.assert_allclose(model.test, expected, atol=1e-12)


def test_the_star_of_a_pattern_names_the_model(team: Team) -> None:
    write_folder(team, ["one", "two"], oof="all/oof_{}.csv", test="all/sub_{}.csv")
    request = ImportRequest(oof=str(team.folder / "all/oof_*.csv"), test=str(team.folder / "all/sub_*"), name="team")
    assert [model.name for model in read_request(request, team.data).models] == ["team-one", "team-two"]


def test_the_star_may_be_a_folder(team: Team) -> None:
    write_folder(team, ["one", "two"], oof="{}/predictions.csv", test="{}/test/sub.csv")
    (team.folder / "notes").mkdir()
    request = ImportRequest(
        oof=str(team.folder / "*/predictions.csv"), test=str(team.folder / "*/test/sub.csv"), name=None
    )
    assert [model.name for model in read_request(request, team.data).models] == ["one", "two"]


@pytest.mark.parametrize("name_from", ["folder", "star", None])
def test_a_model_may_have_the_name_of_its_folder(team: Team, name_from: str | None) -> None:
    write_folder(team, ["one", "two"], oof="exp{}/oof.csv", test="exp{}/sub.csv")
    patterns = {"oof": str(team.folder / "exp*/oof.csv"), "test": str(team.folder / "exp*/sub.csv")}
    found = read_request(ImportRequest(**patterns, name=None, name_from=name_from), team.data).models
    assert [model.name for model in found] == (["expone", "exptwo"] if name_from == "folder" else ["one", "two"])
    files = {"oof": str(team.folder / "expone/oof.csv"), "test": str(team.folder / "expone/sub.csv")}
    if name_from == "folder":
        assert read_request(ImportRequest(**files, name=None, name_from="folder"), team.data).models[0].name == "expone"
        named = ImportRequest(**files, name=None, name_from="file")
        assert read_request(named, team.data).models[0].name == "oof"


@pytest.mark.parametrize(
    ("oof_name", "pattern", "name_from"),
    [
        ("{}/oof_fold{}.csv", "*/oof_fold*.csv", None),
        ("{}/oof_fold{}.csv", "*/oof_fold*.csv", "folder"),
        ("{}/fold{}/oof.csv", "*/fold*/oof.csv", None),
    ],
)
def test_several_stars_name_model_and_fold(team: Team, oof_name: str, pattern: str, name_from: str | None) -> None:
    for name in ("one", "two"):
        whole = team.oof(name)
        for fold in range(4):
            team.write(whole[whole["fold"] == fold].drop(columns="fold"), oof_name.format(name, fold))
        team.write(team.test(name), f"{name}/sub.csv")
    files = {"oof": str(team.folder / pattern), "test": str(team.folder / "*/sub.csv"), "name": None}
    found = read_request(ImportRequest(**files, name_from=name_from, fold_column="fold"), team.data).models
    assert [model.name for model in found] == ["one", "two"]
    assert {model.split_hash for model in found} == {team.data.manifest.split_hash}


FOLD_FILES = {
    "star before the fold": ("oof_{}_fold{}.csv", "oof_*.csv", "test_{}.csv", "test_*.csv"),
    "star for the fold": ("oof_{}_fold{}.csv", "oof_a_fold*.csv", "test_{}.csv", "test_a.csv"),
    "a folder for each fold": ("{}-fold-{}/oof.csv", "*/oof.csv", "{}/sub.csv", "*/sub.csv"),
    "a folder of folds": ("oof/{}.kfold{}.csv", "oof", "test/{}.csv", "test"),
}


@pytest.mark.parametrize("form", FOLD_FILES)
def test_files_of_single_folds_are_joined(team: Team, form: str) -> None:
    oof_name, oof, test_name, test = FOLD_FILES[form]
    whole = team.oof("a")
    for fold in range(4):
        team.write(whole[whole["fold"] == fold].drop(columns="fold"), oof_name.format("a", fold + 1))
    team.write(team.test("a"), test_name.format("a"))
    split = team.data.path
    request = ImportRequest(oof=str(team.folder / oof), test=str(team.folder / test), name="a", split=split)
    (model,) = read_request(request, team.data).models
    assert model.name in ("a", "a-a")
    expected = read_request(team.request(whole, team.test("a")), team.data).models[0]
    np.testing.assert_array_equal(model.oof, expected.oof)
    np.testing.assert_array_equal(model.test, expected.test)


def test_test_files_of_single_folds_are_averaged(team: Team) -> None:
    whole, tests = team.oof("a"), [team.test("a").assign(a=lambda frame, k=k: frame["a"] * k) for k in (1, 2, 3, 6)]
    for fold in range(4):
        team.write(whole[whole["fold"] == fold], f"oof_fold{fold}.csv")
        team.write(tests[fold], f"test_fold{fold}.csv")
    request = ImportRequest(oof=str(team.folder / "oof_fold*"), test=str(team.folder / "test_fold*"), name="a")
    imported = read_request(request, team.data)
    expected = by_id(team.test("a"), "a", team.data.test["id"].to_pylist()) * 3
    np.testing.assert_allclose(imported.models[0].test, expected, rtol=1e-12)
    assert any(note.startswith("mean of 4 files of test predictions") for note in imported.notes)
    (team.folder / "oof_fold2.csv").unlink()
    with pytest.raises(InputError, match=r"has 4 files of test predictions, but 3 of out-of-fold") as caught:
        read_request(request, team.data)
    assert caught.match(r"oof_fold0.csv \(and 2 more\): \d+ of 240 rows without out-of-fold prediction")


def test_fold_files_need_ids_and_the_same_columns(team: Team) -> None:
    whole = team.oof("a", "b")
    for fold in range(4):
        rows = whole[whole["fold"] == fold].drop(columns=["b"] if fold == 1 else ["id", "fold"] if fold == 2 else [])
        team.write(rows, f"oof_fold{fold}.csv")
    team.write(team.test("a", "b"), "test.csv")
    with pytest.raises(InputError, match=r"oof_fold1\.csv: has the predictions 'a', but .* has 'a', 'b'") as caught:
        read_request(
            ImportRequest(oof=str(team.folder / "oof_fold*"), test=str(team.folder / "test.csv"), name="a"), team.data
        )
    assert caught.match("oof_fold2.csv: has no id column, which files of single folds need")


def test_files_without_a_partner_and_every_other_fault_come_at_once(team: Team) -> None:
    write_folder(team, ["one", "two", "three"])
    (team.folder / "test" / "one.csv").unlink()
    (team.folder / "oof" / "two.csv").unlink()
    team.write(team.oof("pred").assign(pred=1.0), "oof/three.csv")
    with pytest.raises(InputError) as caught:
        read_request(ImportRequest(oof=str(team.folder / "oof"), test=str(team.folder / "test"), name=None), team.data)
    assert len(caught.value.faults) == 3
    assert caught.match(r"oof/one.csv: there is no file with test predictions named 'one'")
    assert caught.match(r"test/two.csv: there is no file with out-of-fold predictions named 'two'")
    assert caught.match(r"oof/three.csv, column pred: predicts 1 for all 240 rows")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"oof": "{}/nowhere.csv"}, r"--oof .*nowhere.csv: no such file or folder"),
        ({"oof": "{}/oof/one.txt"}, r"unknown format '.txt'; known: .csv, .parquet"),
        ({"oof": "{}/oof/*.txt", "test": "{}/oof"}, r"--oof .*: no file with one of the suffixes"),
        ({"oof": "{}/oof/one.csv", "name_from": "stem"}, r"--name-from stem: must be one of star, file, folder"),
        ({"fold_column": "cv"}, r"has no column 'cv', which --fold-column names"),
        ({"fold_column": "fold", "split": "there"}, r"give --split or --fold-column, not both"),
        ({"exclude": ("two",)}, r"--exclude two: there is no such model or column; models: theirs"),
        ({"oof": "{}/oof"}, r"must both be a file, or both a folder"),
        ({"name": None}, r"name the model with --name"),
        ({"name": "a\x1b[2J"}, r"'a\\x1b\[2J': a name may not be empty, .* control characters"),
        ({"name": "a" * 300}, r"a name has at most 100 characters; choose another --name"),
        ({"name": "a,b"}, r"'a,b': the name of a model may not contain a comma"),
        ({"prediction_columns": ("nothing",)}, r"has no column 'nothing', which --prediction-column names"),
        ({"id_column": "key"}, r"has no column 'key', which --id-column names"),
    ],
)
def test_a_request_that_cannot_be_met(team: Team, settings: dict[str, Any], message: str) -> None:
    write_folder(team, ["one"])
    (team.folder / "oof" / "one.txt").write_text("x")
    given = {"oof": "{}/oof/one.csv", "test": "{}/test/one.csv", "name": "theirs", **settings}
    given |= {key: given[key].format(team.folder) for key in ("oof", "test")}
    with pytest.raises(InputError, match=message):
        read_request(ImportRequest(**given), team.data)


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_same_again_changes_nothing_and_another_content_is_refused(team: Team, tmp_path: Path) -> None:
    out = tmp_path / "out"
    oof, test = team.oof("a"), team.test("a")
    write_imported(read_request(team.request(oof, test), team.data), str(out))
    before = contents(out)
    assert len(before) == 3 + 2 * 4
    write_imported(read_request(team.request(oof, test), team.data), str(out))
    assert contents(out) == before
    for changed_oof, changed_test, settings in (
        (spoil(oof, 60, "a", 0.25), test, {}),
        (oof, test.assign(a=-test["a"]), {}),
        (oof, test, {"split": team.data.path}),
        (oof, test, {"family": "other"}),
    ):
        changed = team.request(changed_oof, changed_test, **settings)
        with pytest.raises(InputError, match="'theirs' already names other predictions"):
            write_imported(read_request(changed, team.data), str(out))
        assert contents(out) == before
    write_imported(read_request(team.request(oof, test, name="more"), team.data), str(out))
    assert set(yaml.safe_load((out / "study.yaml").read_text())["names"]) == {"theirs", "more"}
    assert {path: content for path, content in contents(out).items() if path != "study.yaml"}.items() >= {
        path: content for path, content in before.items() if path != "study.yaml"
    }.items()


def test_what_was_cut_off_is_completed(team: Team, tmp_path: Path) -> None:
    imported = read_request(team.request(team.oof("a"), team.test("a")), team.data)
    candidate = write_imported(imported, str(tmp_path / "out"))["theirs"]
    before = {path: content for path, (content, _) in contents(tmp_path / "out").items()}
    (tmp_path / "out" / "oof" / candidate / "fold-3.arrow").unlink()
    (tmp_path / "out" / "study.yaml").unlink()
    write_imported(imported, str(tmp_path / "out"))
    assert {path: content for path, (content, _) in contents(tmp_path / "out").items()} == before


def test_a_search_and_other_data_keep_their_run_directory(
    team: Team, full_run: Any, toolbox: Any, tmp_path: Path
) -> None:
    imported = read_request(team.request(team.oof("a"), team.test("a")), team.data)
    with pytest.raises(InputError, match=r"study.yaml: is the study of a search"):
        write_imported(imported, full_run.path)
    write_imported(imported, str(tmp_path / "out"))
    other = Team(tmp_path / "others", toolbox.make_prepared(tmp_path / "other", score_seed=5))
    with pytest.raises(InputError, match=r"study.yaml: holds models of other data"):
        write_imported(
            read_request(other.request(other.oof("a"), other.test("a"), name="more"), other.data), str(tmp_path / "out")
        )


def test_from_files_of_a_team_to_a_blend_in_one_command(team: Team, tmp_path: Path) -> None:
    write_folder(team, [f"m{number:02d}" for number in range(12)])
    out = tmp_path / "runs" / "team"
    files = "--oof", team.folder / "oof", "--test", team.folder / "test"
    done = subprocess.run(
        [sys.executable, "-m", "blend", "import", *files, "--data", team.data.path, "--out", out, "--fit", "--clip"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"COLUMNS": "200", "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
    )
    worse = "WARNING: the mean is better, nested, by" in done.stdout
    assert done.returncode == (3 if worse else 0), done.stderr
    assert f"Wrote 12 models to {out}." in done.stdout
    assert "nested scores can flatter" in done.stdout
    record = json.loads((out / "blends" / "best" / "blend.json").read_text())
    assert 1 < len(record["members"]) <= 12
    assert {member["label"] for member in record["members"]} <= {f"m{number:02d} (imported)" for number in range(12)}
    assert (out / "blends" / "best" / "submission.csv").exists()


def test_imported_models_blend_behind_a_run(team: Team, full_run: Any, tmp_path: Path) -> None:
    out = tmp_path / "team-run"
    oof, test = team.write(team.oof("a"), "a.parquet"), team.write(team.test("a"), "b.csv")
    printed = blend(
        "import", "--oof", oof, "--test", test, "--name", "theirs", "--data", team.data.path, "--out", out,
        "--split", team.data.path, "--family", "theirs",
    )  # fmt: skip
    assert printed.splitlines()[-1].startswith(f"Next: blendfold blend {out} --data {team.data.path}")
    assert "240" in printed
    blend("fit", full_run.path, out, "--name", "both")
    record = json.loads((full_run.root / "blends" / "both" / "blend.json").read_text())
    assert [member["label"] for member in record["members"]][-1] == "theirs (imported)"
    assert record["mixed_splits"] is False
    blend("fit", full_run.path, out, "--members", "aaa,theirs", "--name", "two")


def test_without_test_predictions_there_is_evidence_and_no_submission(team: Team, tmp_path: Path) -> None:
    out, options = tmp_path / "out", ("--data", team.data.path, "--out", tmp_path / "out")
    wide = team.write(team.oof("a", "b"), "wide.csv")
    printed = blend("import", "--oof", wide, *options)
    assert "No test predictions: a blend of these models writes its evidence and no submission." in printed
    printed = blend("fit", out, "--name", "first", "--method", "mean+line")
    assert "wrote no submission" in printed
    assert "next: submit" not in printed
    assert {path.name for path in (out / "blends/first").iterdir()} == {"blend.json", "oof.arrow"}
    record = json.loads((out / "blends/first/blend.json").read_text())
    assert record["submission"] is None
    scores = record["scores"]["blend"]
    assert scores["expected"]["value"] == pytest.approx(scores["nested"]["pooled"], rel=1e-12)
    with pytest.raises(InputError, match="holds a blend without test predictions, so there is no submission"):
        blend("ledger", "add", "--submission", out / "blends/first", "--public", ".5", "--ledger", tmp_path / "l.csv")
    with pytest.raises(InputError, match="--drop-drifting needs test predictions, and there are none"):
        blend("fit", out, "--name", "calm", "--drop-drifting", "--method", "mean+line")
    with pytest.raises(InputError, match="no models to bundle"):
        blend("bundle", out, "--blend", "first", "--out", tmp_path / "bundle")

    tested = team.write(team.oof("c"), "c.csv"), team.write(team.test("c"), "c-test.csv")
    blend("import", "--oof", tested[0], "--test", tested[1], "--name", "c", *options)
    printed = blend(
        "fit", out, "--name", "second", "--against", "first", "--clip", "--verbose", "--method", "mean+line"
    )
    assert printed.count("has no test predictions, which others have; --no-submission blends all") == 2
    assert "against the earlier blend first" in printed
    assert (out / "blends/second/submission.csv").exists()
    with pytest.raises(InputError, match=r"a \(imported\): has no test predictions, which others have"):
        blend("fit", out, "--members", "a,c")
    blend("fit", out, "--members", "a,c", "--name", "second", "--no-submission", "--force", "--method", "mean+line")
    assert {path.name for path in (out / "blends/second").iterdir()} == {"blend.json", "oof.arrow"}


def test_data_without_test_rows_are_enough_for_evidence(tmp_path: Path) -> None:
    data = numbered(tmp_path / "data", ids="r{}".format, with_test=False)
    noise = np.random.default_rng(0).normal(size=(60, 2)) / 4
    values = {name: data.train["score"].to_numpy() + noise[:, place] for place, name in enumerate("ab")}
    oof = Team(tmp_path / "team", data).write(pd.DataFrame({"id": data.train["id"].to_pylist(), **values}), "oof.csv")
    printed = blend("import", "--oof", oof, "--data", data.path, "--out", tmp_path / "out", "--fit")
    assert "expected on test: no more is known than nested; the data has no test rows" in printed
    assert "wrote no submission" in printed


def test_a_dead_one_is_named(team: Team, tmp_path: Path) -> None:
    files = team.write(team.oof("a", noise=500.0), "a.csv"), team.write(team.test("a"), "b.csv")
    out = tmp_path / "out"
    printed = blend(
        "import", "--oof", files[0], "--test", files[1], "--name", "theirs", "--data", team.data.path, "--out", out
    )
    assert "so `blendfold blend` leaves them out: theirs" in printed


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    blend("import", "--help")
    assert "blendfold import --oof team/oof" in " ".join(capsys.readouterr().out.split())
