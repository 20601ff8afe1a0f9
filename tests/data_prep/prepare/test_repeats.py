"""Repeated k-fold: the rows are split several times, and the folds of all repeats are numbered through."""

import json
from pathlib import Path

import numpy as np
import pytest

from data_prep.audit.audit_report import audit
from data_prep.errors import InputError
from data_prep.prepare.prepare_folder import prepare
from data_prep.prepared import Prepared, load_prepared, refold, write_prepared
from data_prep.store.tables import HOLDOUT_FOLD
from data_prep.task import Task
from wide_run import CLASSES, ONE, SEVERAL, wide_data

GROUPED = ONE.model_copy(update={"group_column": "who"})


def grouped_files(folder: Path, **columns: str) -> dict[str, Path]:
    """Write 90 rows in 18 groups, with more columns of one value each."""
    random, more = np.random.default_rng(5), [f",{value}" for value in columns.values()]
    lines = [f"{row},text {row},g{row % 18},{random.normal():.3f}{''.join(more)}" for row in range(90)]
    (folder / "train.csv").write_text("\n".join([",".join(["id,text,who,a", *columns]), *lines, ""]))
    return {"train": folder / "train.csv", "test": None}


def test_every_repeat_is_a_partition_by_another_seed_and_keeps_groups_together(tmp_path: Path) -> None:
    files = grouped_files(tmp_path)
    data = prepare(**files, out=tmp_path / "out", task=GROUPED, n_folds=3, repeats=4, seed=7, holdout=0.2)
    assert data.train.column_names[-4:] == ["fold", "fold_2", "fold_3", "fold_4"]
    assert (data.manifest.n_folds, data.manifest.repeats, data.manifest.folds_per_repeat) == (12, 4, 3)
    group, held = data.train["group"].to_numpy(), data.in_fold(HOLDOUT_FOLD)
    assert 0 < held.sum() == data.manifest.rows["holdout"]
    seen = np.zeros(len(held), dtype=int)
    for repeat, folds in enumerate(data.folds):
        assert set(folds[~held]) == {3 * repeat, 3 * repeat + 1, 3 * repeat + 2}
        np.testing.assert_array_equal(folds == HOLDOUT_FOLD, held)
        assert all(len(set(folds[group == one])) == 1 for one in np.unique(group))
        for fold in range(3 * repeat, 3 * repeat + 3):
            np.testing.assert_array_equal(data.in_fold(fold), folds == fold)
            seen += data.in_fold(fold)
    np.testing.assert_array_equal(seen, np.where(held, 0, 4))
    together = [folds[:, None] == folds[None] for folds in data.folds]
    assert all(not np.array_equal(one, other) for n, one in enumerate(together) for other in together[:n])


def test_repeats_are_the_splits_of_the_seeds_that_follow(tmp_path: Path) -> None:
    files = grouped_files(tmp_path)
    many = prepare(**files, out=tmp_path / "many", task=GROUPED, n_folds=3, repeats=3, seed=7)
    for repeat in range(3):
        one = prepare(**files, out=tmp_path / f"one-{repeat}", task=GROUPED, n_folds=3, seed=7 + repeat)
        np.testing.assert_array_equal(many.folds[repeat], one.folds[0] + 3 * repeat)
        assert one.manifest.data_hash == many.manifest.data_hash
        assert one.manifest.split_hash != many.manifest.split_hash
        assert "repeats" not in json.loads((tmp_path / f"one-{repeat}" / "manifest.json").read_text())


def test_the_split_hash_covers_every_repeat(tmp_path: Path) -> None:
    data = prepare(**grouped_files(tmp_path), out=tmp_path / "out", task=GROUPED, n_folds=3, repeats=2)
    place = data.train.column_names.index("fold_2")
    turned = data.train.set_column(place, "fold_2", data.train["fold_2"].take(np.arange(90)[::-1]))
    write_prepared(tmp_path / "turned", data.manifest, turned, data.test)
    with pytest.raises(InputError, match="belong to different preparations"):
        load_prepared(tmp_path / "turned")


@pytest.mark.parametrize("task", [ONE, SEVERAL, CLASSES])
def test_audits_count_every_fold_of_every_repeat(tmp_path: Path, task: Task) -> None:
    data = wide_data(tmp_path, task, repeats=2, holdout=0.1)
    report = audit(data)
    assert [one.fold for one in report.folds] == [-1, *range(6)]
    assert sum(one.rows for one in report.folds) == 2 * data.manifest.rows["train"] + data.manifest.rows["holdout"]
    once = audit(wide_data(tmp_path / "once", task, holdout=0.1))
    assert report.leakage == once.leakage, "measured on as many folds as a repeat has"


def test_other_folds_are_of_one_repeat(tmp_path: Path) -> None:
    data = wide_data(tmp_path, SEVERAL, repeats=3)
    other = refold(data, np.where(data.folds[0] < 2, 0, 1).astype(np.int8))
    assert (other.manifest.n_folds, other.manifest.repeats, len(other.folds)) == (2, 1, 1)
    assert "fold_2" not in other.train.column_names
    once = wide_data(tmp_path / "once", SEVERAL)
    assert refold(once, other.folds[0]).manifest.split_hash == other.manifest.split_hash


FAULTS = {
    "at most 100 folds in all repeats together, got --repeats 6 of --folds 20": {"n_folds": 20, "repeats": 6},
    "--repeats must be from 1 to 20, .* got --repeats 21": {"n_folds": 2, "repeats": 21},
    "got --repeats 0": {"repeats": 0},
    "--seed must be from 0 to 4294967294": {"repeats": 2, "seed": 2**32 - 1},
    "scheme leave_group_out has only one split": {"repeats": 2, "scheme": "leave_group_out"},
    "scheme given has only one split": {"repeats": 2, "fold_column": "id"},
    "scheme time has only one split": {"repeats": 2, "time_column": "id"},
}


@pytest.mark.parametrize("message", FAULTS)
def test_repeats_that_cannot_be_are_refused(tmp_path: Path, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare(**grouped_files(tmp_path), out=tmp_path / "out", task=GROUPED, **FAULTS[message])
    assert not (tmp_path / "out").exists()


def test_a_column_called_as_the_folds_of_a_repeat_is_refused(tmp_path: Path) -> None:
    options = {**grouped_files(tmp_path, fold_3="x"), "task": GROUPED, "n_folds": 2}
    with pytest.raises(InputError, match=r"column fold_3: --repeats keeps folds under this name; .*--drop"):
        prepare(**options, out=tmp_path / "out", repeats=3)
    kept: Prepared = prepare(**options, out=tmp_path / "two", repeats=2)
    assert "fold_3" in kept.train.column_names
    assert prepare(**options, out=tmp_path / "drop", repeats=3, drop=["fold_3"]).manifest.n_folds == 6
