"""Blends over repeated k-fold: each row is there once in every repeat, and none is scored by weights fitted on it."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from blend.__main__ import app
from blend.blend_folder import find_previous, read_whole_blend
from blend.errors.error_rows import load_error_rows
from blend.evidence.member_drift import find_drift
from blend.fit.blend_settings import BlendSettings
from blend.fit.fit_blend import fit_blend
from blend.fit.shared_weights import shared_weights
from blend.fit.tournament import units_beside, units_of
from blend.members.load_predictions import load_predictions
from blend.members.member_predictions import Member, MemberColumns, MemberPredictions
from blend.members.row_alignment import row_keys
from blend.row_choice import choose_rows
from data_prep.console import console
from data_prep.errors import InputError
from data_prep.scoring.metrics import METRICS
from data_prep.store.oof_store import OofStore, Provenance
from data_prep.store.tables import read_table
from data_prep.target_views import target_views
from wide_run import CLASSES, ONE, SEVERAL, wide_data, wide_run

KINDS = {"one": (ONE, 0.0), "several": (SEVERAL, 0.3), "classes": (CLASSES, 0.0)}


def noise(seed: int) -> MemberPredictions:
    """Return 40 candidates that know nothing of 60 rows, and say nearly the same of a row in each of two repeats."""
    random, n_rows, n_folds, n_members = np.random.default_rng(seed), 60, 3, 40
    splits = [random.permutation(n_rows) % n_folds + n_folds * repeat for repeat in range(2)]
    fold = np.concatenate(splits).astype(np.int8)
    order = np.argsort(fold, kind="stable")
    row, target = order % n_rows, random.normal(size=n_rows)
    ends = np.cumsum(np.bincount(fold))[:-1]
    columns = []
    for _ in range(n_members):
        said = random.normal(size=n_rows)[row] + 0.1 * random.normal(size=len(row))
        columns.append(MemberColumns(oof=tuple(np.split(said.astype(np.float32), ends)), test=(), holdout=()))
    members = tuple(Member(f"{number:012x}", "", "", "", "") for number in range(n_members))
    return MemberPredictions(
        members=members,
        left_out=(),
        columns=tuple(columns),
        ids=pa.array([str(number) for number in row]),
        target=target[row],
        fold=fold[order],
        group=row.astype(np.int32),
        holdout_target=None,
        row=row,
    )


def test_pure_noise_is_nested_at_chance() -> None:
    metric, settings = METRICS["pearson"], BlendSettings(method="greedy+line")
    honest, flattered = [], []
    for seed in range(6):
        rows = noise(seed)
        nested = fit_blend(rows, metric, settings).tournament.prediction
        honest.append(metric(rows.target, nested))
        units = replace(rows, row=None)  # as if every appearance were another row
        flattered.append(metric(rows.target, fit_blend(units, metric, settings).tournament.prediction))
    assert np.mean(honest) < 2 / np.sqrt(60 * 6)
    assert np.mean(flattered) > 0.3


def test_a_unit_is_the_fold_in_the_first_repeat_for_all_appearances() -> None:
    rows = noise(0)
    np.testing.assert_array_equal(rows.first_fold[:60], rows.fold[:60])
    unit = units_of(rows.first_fold, rows.group)
    assert rows.row is not None
    assert set(unit) == {0, 1, 2}
    assert all(len(set(unit[rows.row == one])) == 1 for one in range(60))
    some = rows.take(rows.group % 2 == 0)
    assert some.row is not None
    np.testing.assert_array_equal(some.first_fold, rows.first_fold[rows.group % 2 == 0])
    beside = units_beside(some, rows)
    np.testing.assert_array_equal(beside, unit)


def same_again(repeats: int) -> MemberPredictions:
    """Return four candidates for 90 rows that are split in the same way in every repeat, with the same predictions."""
    random, row = np.random.default_rng(0), np.tile(np.arange(90), repeats)
    target, columns = random.normal(size=90), []
    for error in (0.5, 0.7, 0.9, 1.5):
        said = (target + error * random.normal(size=90)).astype(np.float32)
        columns.append(MemberColumns(oof=tuple(np.split(said, 3)) * repeats, test=(), holdout=()))
    return MemberPredictions(
        members=tuple(Member(f"{number:012x}", "", "", "", "") for number in range(4)),
        left_out=(),
        columns=tuple(columns),
        ids=pa.array([str(number) for number in row]),
        target=target[row],
        fold=np.repeat(np.arange(3 * repeats), 30).astype(np.int8),
        group=row.astype(np.int32),
        holdout_target=None,
        row=row if repeats > 1 else None,
    )


@pytest.mark.parametrize("metric", ["pearson", "rmse", "spearman"])
def test_a_repeat_that_says_nothing_new_changes_nothing(metric: str) -> None:
    once, twice = (fit_blend(same_again(repeats), METRICS[metric], BlendSettings()) for repeats in (1, 2))
    assert once.making == twice.making
    np.testing.assert_allclose(np.tile(once.tournament.prediction, 2), twice.tournament.prediction, atol=1e-6)
    assert once.tournament.shares is not None
    assert twice.tournament.shares is not None
    np.testing.assert_allclose(once.tournament.shares, twice.tournament.shares, atol=1e-6)
    errors = [fit.bootstrap.draws(fit.tournament.nested).drawn for fit in (once, twice)]
    np.testing.assert_allclose(*errors, rtol=1e-5)


def test_weights_of_all_targets_see_the_others_without_the_unit_in_any_repeat() -> None:
    made = []
    for repeats in (1, 2):
        rows = same_again(repeats)
        other = replace(rows, target=-rows.target + np.tile(np.random.default_rng(1).normal(size=90), repeats))
        found = shared_weights([rows, other], 0, METRICS["rmse"])
        assert found is not None
        (sums,) = found.others
        assert {unit: part.count for unit, part in sums.items()} == dict.fromkeys(range(3), 30.0 * repeats)
        made.append(fit_blend(rows, METRICS["rmse"], BlendSettings(), shared=found).tournament)
    once, twice = (each.nested[:, each.names.index("shared+line")] for each in made)
    np.testing.assert_allclose(np.tile(once, 2), twice, atol=1e-6)


def repeated_run(folder: Path, kind: str, errors: tuple[float, ...] = (0.3, 0.4, 0.6)) -> Path:
    """Return a run over 3 folds in 2 repeats."""
    task, missing = KINDS[kind]
    wide_run(folder / "run", wide_data(folder, task, missing=missing, repeats=2), list(errors))
    return folder / "run"


def blend(*arguments: object) -> str:
    console.width = 200
    with console.capture() as capture:
        app([str(argument) for argument in arguments], standalone_mode=False)
    return capture.get()


@pytest.mark.parametrize("kind", KINDS)
def test_blends_see_each_row_once_in_every_repeat(tmp_path: Path, kind: str) -> None:
    run = repeated_run(tmp_path, kind)
    blend("fit", run, "--clip")
    record = read_whole_blend(str(run), "best")
    assert len(record.scores["blend"].nested.folds) in (0, 6)
    assert all(one.units == "folds" and one.n_groups <= 120 for one in record.by_target.values())
    table = read_table(run / "blends" / "best" / "oof.arrow")
    data = load_predictions([str(run)], wide_data(tmp_path, KINDS[kind][0], missing=KINDS[kind][1], repeats=2))
    assert data.row is not None
    keys = row_keys(table["id"].combine_chunks(), table["fold"].to_numpy())
    assert len(keys.unique()) == 240
    assert np.all(np.diff(table["fold"].to_numpy()) >= 0)
    with (run / "blends" / "best" / "submission.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 30
    blend("fit", run, "--name", "next", *(["--shared-weights"] if kind == "several" else []))
    previous = [one.previous for one in read_whole_blend(str(run), "next").by_target.values()]
    assert all(one is not None and one.against == "best" for one in previous)


@pytest.mark.parametrize("kind", KINDS)
def test_tables_are_aligned_by_id_and_fold(tmp_path: Path, kind: str) -> None:
    run = repeated_run(tmp_path, kind)
    task, missing = KINDS[kind]
    data = wide_data(tmp_path, task, missing=missing, repeats=2)
    plain = load_predictions([str(run)], data)
    other = OofStore(tmp_path / "other")
    (tmp_path / "other").mkdir()
    for name in ("study.yaml", "candidates"):
        (tmp_path / "other" / name).symlink_to(run / name)
    for candidate, fold in OofStore(run).fold_runs():
        oof, test = (OofStore(run).read(name, candidate, fold) for name in ("oof", "test"))
        other.write(Provenance.of(oof), oof=oof.take(np.arange(len(oof))[::-1]), test=test)
    turned = load_predictions([other.root], data)
    np.testing.assert_array_equal(plain.oof(range(3)), turned.oof(range(3)))
    assert plain.row is not None
    view = target_views(task)[0]
    narrow = view.data(data)
    np.testing.assert_array_equal(plain.target, narrow.train["score"].to_numpy()[plain.row])
    assert all(narrow.in_fold(fold)[row] for fold, row in zip(plain.fold, plain.row, strict=True))
    blend("fit", run)
    found = find_previous([str(run)], "next", "best", plain, view)
    table = view.narrow(read_table(run / "blends" / "best" / "oof.arrow"))
    assert found is not None
    np.testing.assert_array_equal(found.prediction, table["prediction"].to_numpy())


@pytest.mark.parametrize("kind", KINDS)
def test_errors_are_of_the_mean_over_repeats(tmp_path: Path, kind: str) -> None:
    run = repeated_run(tmp_path, kind)
    by_candidate = load_error_rows(str(run))
    blend("fit", run)
    found = load_error_rows(str(run))
    table = target_views(KINDS[kind][0])[0].narrow(read_table(run / "blends" / "best" / "oof.arrow")).to_pandas()
    mean = table.groupby("id")["prediction"].mean()
    assert len(found.frame) == len(mean) == len(by_candidate.frame)
    np.testing.assert_allclose(found.frame["prediction"], mean[found.frame["id"]].to_numpy(), rtol=1e-6)
    assert set(found.frame["fold"]) == {0, 1, 2}
    assert "fold_2" not in found.frame
    assert blend("errors", run)


def test_rows_are_chosen_in_all_repeats(tmp_path: Path) -> None:
    run = repeated_run(tmp_path, "one")
    data = wide_data(tmp_path, ONE, repeats=2)
    rows = tmp_path / "rows.csv"
    ids = data.train["id"].to_pylist()
    rows.write_text("\n".join(["id,half", *(f"{name},{place % 2}" for place, name in enumerate(ids))]))
    scored, fitted = choose_rows(
        load_predictions([str(run)], data), data, BlendSettings(score_on=("half=1",)), str(rows)
    )
    assert fitted is not None
    assert (len(scored.ids), len(fitted.ids)) == (120, 240)
    blend("fit", run, "--score-on", "half=1", "--rows", rows)


def test_drift_counts_no_row_twice(tmp_path: Path) -> None:
    run = repeated_run(tmp_path, "one")
    data = wide_data(tmp_path, ONE, repeats=2)
    rows = load_predictions([str(run)], data)
    first = rows.take(rows.fold < 3)
    assert find_drift(rows, data) == find_drift(replace(first, row=None), data)


def test_folds_of_repeats_are_no_numeric_columns(tmp_path: Path) -> None:
    run = repeated_run(tmp_path, "one")
    rows = load_predictions([str(run)], wide_data(tmp_path, ONE, repeats=2))
    assert not rows.numeric.oof
    assert len(rows.members) == 3


def test_candidates_of_another_split_are_left_out(tmp_path: Path) -> None:
    wide_run(tmp_path / "run", wide_data(tmp_path / "once", ONE), [0.2])
    data = wide_data(tmp_path / "many", ONE, repeats=2)
    with pytest.raises(InputError, match="trained on another split"):
        load_predictions([str(tmp_path / "run")], data)
    with pytest.raises(InputError, match="its folds are not those of this split, which has repeats"):
        load_predictions([str(tmp_path / "run")], data, allow_mixed_splits=True)


def test_imports_are_refused(tmp_path: Path) -> None:
    data = wide_data(tmp_path, ONE, repeats=2)
    (tmp_path / "oof.csv").write_text("id,prediction\n")
    with pytest.raises(InputError, match="is split 2 times, and what is imported has one prediction for a row"):
        blend("import", "--oof", tmp_path / "oof.csv", "--data", data.path, "--out", tmp_path / "run", "--name", "x")
