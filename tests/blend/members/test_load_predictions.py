from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from blend.members.load_predictions import load_predictions
from data_prep.errors import InputError
from data_prep.store.oof_store import OofStore
from data_prep.store.tables import HOLDOUT_FOLD, read_table


def test_columns_stand_in_prepared_order_whatever_the_order_in_the_files(run: Any, toolbox: Any) -> None:
    def shuffle(fold: int, tables: Any, origin: Any) -> Any:
        order = np.random.default_rng(fold).permutation(len(tables.oof))
        return toolbox.replace(tables, oof=tables.oof.take(pa.array(order)), test=tables.test.slice(0, None)), origin

    run.add("plain", seed=1)
    shuffled = toolbox.Run(run.root.parent / "shuffled", run.data).add("plain", seed=1, change=shuffle)
    first, second = (load_predictions([r.path], run.data) for r in (run, shuffled))
    np.testing.assert_array_equal(first.oof([0]), second.oof([0]))
    np.testing.assert_array_equal(first.columns[0].test, second.columns[0].test)
    train = run.data.train.to_pandas()
    expected = train[train["fold"] != HOLDOUT_FOLD].sort_values("fold", kind="stable")
    assert first.ids.to_pylist() == expected["id"].tolist()
    tables = [read_table(run.root / "oof" / "plain" / f"fold-{fold}.arrow") for fold in range(4)]
    written = pa.concat_tables(tables).to_pandas().set_index("id")["prediction"]
    np.testing.assert_array_equal(first.oof([0])[:, 0], written.loc[expected["id"]])
    np.testing.assert_array_equal(first.target, expected["score"])
    np.testing.assert_array_equal(first.fold, expected["fold"])
    np.testing.assert_array_equal(first.group, expected["group"])
    assert first.oof([0]).dtype == np.float64


def test_test_and_holdout_are_kept_fold_by_fold(run: Any, toolbox: Any) -> None:
    def level(fold: int, tables: Any, origin: Any) -> Any:
        test = tables.test.set_column(2, "prediction", pa.array(np.arange(36) + fold, pa.float32()))
        holdout = tables.holdout
        place = holdout.schema.get_field_index("prediction")
        holdout = holdout.set_column(place, "prediction", pa.array(np.arange(24) * 2.0 + fold, pa.float32()))
        return toolbox.replace(tables, test=test, holdout=holdout), origin

    predictions = load_predictions([run.add("aaa", change=level).path], run.data)
    columns = predictions.columns[0]
    np.testing.assert_array_equal(columns.test, [np.arange(36) + fold for fold in range(4)])
    np.testing.assert_array_equal(columns.holdout, [np.arange(24) * 2 + fold for fold in range(4)])


def test_predictions_stay_in_their_files(full_run: Any) -> None:
    before = pa.total_allocated_bytes()
    found = load_predictions([full_run.path], full_run.data)
    held = pa.total_allocated_bytes() - before
    assert not any(part.flags.owndata or part.flags.writeable for column in found.columns for part in column.oof)
    assert held <= found.ids.nbytes + 1024, "the ids of the prepared rows, and no column of a candidate"


def test_every_table_is_read_and_verified_once(full_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read, one = [], OofStore.read
    monkeypatch.setattr(OofStore, "read", lambda store, *where: read.append(where) or one(store, *where))
    load_predictions([full_run.path], full_run.data)
    assert len(read) == len(set(read)) == 3 * 4 * 3


def test_predictions_in_a_fold_are_those_of_its_rows(full_run: Any) -> None:
    found = load_predictions([full_run.path], full_run.data)
    for fold, rows in enumerate(found.folds):
        np.testing.assert_array_equal(found.oof_in(fold, [2, 0]), found.oof([2, 0])[rows])
        np.testing.assert_array_equal(found.oof([2])[rows, 0], found.columns[2].oof[fold])


def test_sums_are_those_of_the_rows_of_each_fold(full_run: Any) -> None:
    found = load_predictions([full_run.path], full_run.data)
    columns, found_sums = found.oof(range(3)), found.sums(block_cells=21)
    assert len(found_sums) == 4
    for fold, sums in enumerate(found_sums):
        rows = found.fold == fold
        expected = np.cov(np.column_stack([columns[rows], found.target[rows]]), rowvar=False, ddof=0) * rows.sum()
        np.testing.assert_allclose(sums.centred.gram, expected[:3, :3], rtol=1e-10)
        np.testing.assert_allclose(sums.centred.cross, expected[:3, 3], rtol=1e-10)
        assert sums.centred.square == pytest.approx(expected[3, 3])


def test_label_and_family_come_from_the_candidate_file(full_run: Any) -> None:
    (full_run.root / "candidates" / "ccc.json").unlink()
    members = load_predictions([full_run.path], full_run.data).members
    assert [member.label for member in members] == ["aaa-k2-pair-mean-mse", "bbb-k2-pair-mean-mse", "ccc"]
    assert [member.family for member in members] == ["org/aaa", "org/bbb", "ccc"]


def test_unfinished_excluded_and_dead_candidates_are_left_out_by_name(full_run: Any, toolbox: Any) -> None:
    def die(fold: int, tables: Any, origin: Any) -> Any:
        if fold == 2:
            oof = tables.oof.to_pandas()
            oof["prediction"] = -oof["score"].astype("float32")
            tables = toolbox.replace(tables, oof=pa.Table.from_pandas(oof, preserve_index=False))
        return tables, origin

    full_run.add("unfinished", folds=3).add("dead", change=die)
    found = load_predictions([full_run.path], full_run.data, exclude=["bbb"])
    assert [member.candidate for member in found.members] == ["aaa", "ccc"]
    assert found.oof([0, 1]).shape == (240, 2)
    assert [sentence.split()[0] for sentence in found.left_out] == ["bbb", "dead", "unfinished"]
    assert "excluded as asked" in found.left_out[0]
    assert "dead in fold 2 (Pearson -1.000)" in found.left_out[1]
    assert "3 of 4 folds finished" in found.left_out[2]


def test_a_fold_that_predicts_one_value_is_dead(run: Any, toolbox: Any) -> None:
    def freeze(fold: int, tables: Any, origin: Any) -> Any:
        if fold == 1:
            oof = tables.oof.drop_columns(["prediction"]).append_column(
                "prediction", pa.array(np.full(60, 0.5), pa.float32())
            )
            tables = toolbox.replace(tables, oof=oof)
        return tables, origin

    found = load_predictions([run.add("aaa").add("half", change=freeze).path], run.data)
    assert len(found.members) == 1
    assert "half half-k2-pair-mean-mse: dead in fold 1 (Pearson nan)" in found.left_out


def test_a_candidate_of_two_runs_is_taken_once(full_run: Any, toolbox: Any) -> None:
    other = toolbox.Run(full_run.root.parent / "other", full_run.data).add("aaa", seed=3).add("zzz")
    found = load_predictions([full_run.path, other.path], full_run.data)
    assert [member.candidate for member in found.members] == ["aaa", "bbb", "ccc", "zzz"]
    assert found.left_out == (f"aaa aaa-k2-pair-mean-mse: already taken from {full_run.path}",)


def edit(table: pa.Table, column: str, value: object) -> pa.Table:
    """Return the table with another value in its fifth row."""
    values = table[column].to_pylist()
    values[4] = value
    place = table.schema.get_field_index(column)
    return table.set_column(place, column, pa.array(values, table.schema.field(column).type))


SPOIL_TABLE: dict[str, Callable[[pa.Table], pa.Table]] = {
    "oof missing": lambda table: table.slice(7),
    "oof twice": lambda table: pa.concat_tables([table, table.slice(0, 1)]),
    "oof score": lambda table: edit(table, "score", 0.9),
    "oof nan": lambda table: edit(table, "prediction", float("nan")),
    "oof infinite": lambda table: edit(table, "prediction", float("inf")),
    "oof unknown": lambda table: edit(table, "id", "stranger"),
    "oof fold": lambda table: edit(table, "fold", 3),
    "test nan": lambda table: edit(table, "prediction", float("nan")),
    "test missing": lambda table: table.slice(2),
    "holdout missing": lambda table: table.slice(1),
}


def spoil(what: str, toolbox: Any) -> Any:
    """Return a change that spoils fold 1 in one way."""

    def change(fold: int, tables: Any, origin: Any) -> Any:
        if fold != 1:
            return tables, origin
        if what in ("data_hash", "split_hash"):
            return tables, toolbox.replace(origin, **{what: "f" * 64})
        kind = what.split(maxsplit=1)[0]
        return toolbox.replace(tables, **{kind: SPOIL_TABLE[what](getattr(tables, kind))}), origin

    return change


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (
            "oof missing",
            r"oof/bad: candidate bad: 7 of 240 rows have no out-of-fold prediction \(ids (r\d+, ){5}\.\.\.\)",
        ),
        ("oof twice", r"oof/bad: candidate bad: 1 ids have two or more out-of-fold predictions \(ids r\d+\)"),
        ("oof score", r"oof/bad/fold-1.arrow: candidate bad: 1 of 60 rows have another score than the prepared data"),
        ("oof nan", r"oof/bad/fold-1.arrow: candidate bad: 1 of 60 rows have a prediction that is NaN or infinite"),
        (
            "oof infinite",
            r"oof/bad/fold-1.arrow: candidate bad: 1 of 60 rows have a prediction that is NaN or infinite",
        ),
        (
            "oof unknown",
            r"oof/bad/fold-1.arrow: candidate bad: 1 of 60 rows are not out-of-fold rows .* \(ids stranger\)",
        ),
        ("oof fold", r"oof/bad/fold-1.arrow: candidate bad: 1 of 60 rows are in another fold"),
        ("test nan", r"test/bad/fold-1.arrow: candidate bad: 1 of 36 rows have a prediction that is NaN"),
        (
            "test missing",
            r"test/bad/fold-1.arrow: candidate bad: 2 of 36 rows have no test prediction \(ids t000, t001\)",
        ),
        ("holdout missing", r"holdout/bad/fold-1.arrow: candidate bad: 1 of 24 rows have no holdout prediction"),
        ("data_hash", r"oof/bad: candidate bad was trained on other data .*data_hash"),
        ("split_hash", r"oof/bad: the folds of candidate bad come from 2 different splits"),
    ],
)
def test_what_does_not_fit_is_refused(full_run: Any, toolbox: Any, what: str, message: str) -> None:
    full_run.add("bad", change=spoil(what, toolbox))
    with pytest.raises(InputError, match=message) as caught:
        load_predictions([full_run.path], full_run.data)
    assert len(caught.value.faults) == 1
    assert "--exclude bad" in str(caught.value)
    assert len(load_predictions([full_run.path], full_run.data, exclude=["bad"]).members) == 3


def test_faults_of_all_candidates_come_together(run: Any, toolbox: Any) -> None:
    run.add("aaa").add("bad1", change=spoil("oof nan", toolbox)).add("bad2", change=spoil("oof missing", toolbox))
    with pytest.raises(InputError) as caught:
        load_predictions([run.path], run.data)
    assert len(caught.value.faults) == 2


def test_a_constant_candidate_is_left_out_and_refused_where_it_was_asked_for(run: Any, toolbox: Any) -> None:
    def constant(fold: int, tables: Any, origin: Any) -> Any:
        values = pa.array(np.full(60, 0.25), pa.float32())
        oof = tables.oof.drop_columns(["prediction"]).append_column("prediction", values)
        return toolbox.replace(tables, oof=oof), origin

    run.add("aaa").add("flat", change=constant)
    found = load_predictions([run.path], run.data, dead_below=-1)
    assert found.left_out == ("flat flat-k2-pair-mean-mse: predicts 0.25 for all 240 rows",)
    with pytest.raises(InputError, match=r"flat flat-k2-pair-mean-mse: predicts 0.25 for all 240 rows"):
        load_predictions([run.path], run.data, members=["flat", "aaa"])


def test_a_damaged_table_is_named(full_run: Any) -> None:
    path = full_run.root / "oof" / "bbb" / "fold-2.arrow"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"oof/bbb/fold-2.arrow"):
        load_predictions([full_run.path], full_run.data)


def test_a_test_table_that_is_not_there_is_named(full_run: Any) -> None:
    (full_run.root / "test" / "bbb" / "fold-2.arrow").unlink()
    with pytest.raises(InputError, match=r"test/bbb/fold-2.arrow: no such file"):
        load_predictions([full_run.path], full_run.data)


def test_nothing_to_blend_says_why(run: Any) -> None:
    run.add("aaa", folds=1)
    with pytest.raises(InputError, match=r"a member needs all 4 folds\naaa aaa-k2-pair-mean-mse: 1 of 4"):
        load_predictions([run.path], run.data)


def test_another_split_only_on_request_and_then_by_id(full_run: Any, toolbox: Any, tmp_path: Path) -> None:
    turned = toolbox.make_prepared(tmp_path / "turned", shift=1)
    other = toolbox.Run(tmp_path / "other", turned).add("ddd").add("partial", folds=3)
    runs = [full_run.path, other.path]
    with pytest.raises(InputError, match=r"candidate ddd was trained on another split .* --allow-mixed-splits"):
        load_predictions(runs, full_run.data)

    found = load_predictions(runs, full_run.data, allow_mixed_splits=True)
    assert [member.candidate for member in found.members] == ["aaa", "bbb", "ccc", "ddd"]
    assert [len(column.holdout) for column in found.columns] == [4, 4, 4, 0]
    assert found.left_out == (
        "partial partial-k2-pair-mean-mse: its finished folds do not cover all rows of this split",
    )
    own = load_predictions([other.path], turned)
    assert dict(zip(found.ids.to_pylist(), found.oof([3])[:, 0], strict=True)) == dict(
        zip(own.ids.to_pylist(), own.oof([0])[:, 0], strict=True)
    )


def test_other_data_is_refused_even_with_mixed_splits(full_run: Any, toolbox: Any, tmp_path: Path) -> None:
    other = toolbox.Run(tmp_path / "other", toolbox.make_prepared(tmp_path / "new", score_seed=5)).add("ddd")
    with pytest.raises(InputError, match=r"candidate ddd was trained on other data"):
        load_predictions([full_run.path, other.path], full_run.data, allow_mixed_splits=True)
