"""The record of a search for several targets or for classes: ranked, kept and replayed by all of its numbers."""

import io
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss

from data_prep.console import EscapingConsole
from data_prep.errors import InputError
from data_prep.scoring.group_bootstrap import GroupBootstrap
from data_prep.scoring.metrics import METRICS
from data_prep.store.oof_store import OofStore
from data_prep.store.tables import QUANTITIES
from data_prep.targets.target_columns import numbers_of
from data_prep.task import Task
from search.replay.recording import read_recording
from search.run_dir.fold_rows import FoldRows
from search.run_dir.run_dir import RunDir
from search.run_dir.weight_keeper import blend_shares
from search.watch.leaderboard import leaderboard
from search.worker.fold_run import training_rows
from wide_run import CLASSES, ONE, SEVERAL, wide_data, wide_run


def columns(run: Path, candidate: str) -> tuple[np.ndarray, np.ndarray]:
    tables = [OofStore(run).read("oof", candidate, fold) for fold in range(3)]
    target, prediction = (
        np.concatenate([numbers_of(table, quantity) for table in tables]) for quantity in ("score", "prediction")
    )
    return target.astype(np.float64), prediction.astype(np.float64)


def test_a_leaderboard_of_several_targets_ranks_by_the_mean_over_them(tmp_path: Path) -> None:
    data = wide_data(tmp_path, SEVERAL, missing=0.2)
    names = wide_run(tmp_path / "run", data, [0.8, 0.4])
    board = leaderboard(tmp_path / "run")
    assert [row.candidate for row in board.rows] == names[::-1]
    scores = {}
    for name in names:
        target, prediction = columns(tmp_path / "run", name)
        known = ~np.isnan(target)
        assert not known.all()
        errors = [np.sqrt(np.mean((target - prediction)[known[:, n], n] ** 2)) for n in (0, 1)]
        scores[name] = float(np.mean(errors))
        assert next(row.targets for row in board.rows if row.candidate == name) == pytest.approx(
            dict(zip("ab", errors, strict=True))
        )
    assert {row.candidate: row.pooled for row in board.rows} == pytest.approx(scores)
    console = EscapingConsole(width=120, record=True, file=io.StringIO())
    console.print(board)
    text = console.export_text()
    assert "rmse, mean of 2 targets, over 3 folds" in text
    assert f"{board.rows[0].targets['b']:.4f}" in text.split("rmse of each target, pooled")[1]
    behind = board.rows[1].difference
    assert behind is not None
    by_fold = [board.rows[0].scores[fold] - board.rows[1].scores[fold] for fold in range(3)]
    assert behind.value == pytest.approx(np.mean(by_fold))
    assert behind.low < behind.value < behind.high < 0


def test_a_leaderboard_ranks_by_a_metric_of_ones_own_and_the_search_by_a_known_one(tmp_path: Path) -> None:
    source = (
        "def worst(target, prediction):\n    return abs(target - prediction).max()\n\nworst.greater_is_better = False\n"
    )
    own = {"metric": "mine.py:worst", "metric_source": source, "search_metric": "rmse"}
    data = wide_data(tmp_path, SEVERAL.model_copy(update=own))
    names = wide_run(tmp_path / "run", data, [0.8, 0.4, 0.6])
    board = leaderboard(tmp_path / "run")
    assert [row.candidate for row in board.rows] == [names[1], names[2], names[0]]
    target, prediction = columns(tmp_path / "run", names[1])
    assert board.rows[0].pooled == pytest.approx(np.abs(target - prediction).max(axis=0).mean())
    assert (board.metric, RunDir(str(tmp_path / "run")).metric.name) == ("mine.py:worst", "rmse")
    assert [row.candidate for row in leaderboard(tmp_path / "run", most=1).rows] == [names[1]]
    console = EscapingConsole(width=120, record=True, file=io.StringIO())
    console.print(board)
    assert "mine.py:worst of each target, pooled" in console.export_text()


def test_a_leaderboard_of_classes_ranks_by_probabilities_and_draws_whole_rows(tmp_path: Path) -> None:
    data = wide_data(tmp_path, CLASSES)
    names = wide_run(tmp_path / "run", data, [1.5, 0.3])
    board = leaderboard(tmp_path / "run")
    assert [row.candidate for row in board.rows] == names[::-1]
    target, prediction = columns(tmp_path / "run", names[1])
    assert board.rows[0].pooled == pytest.approx(
        log_loss(target.argmax(axis=1), prediction / prediction.sum(axis=1, keepdims=True)), rel=1e-6
    )
    behind = board.rows[1].difference
    assert behind is not None
    by_row = [columns(tmp_path / "run", name) for name in names]
    losses = [-np.log((truth * told).sum(axis=1)) for truth, told in by_row]
    rows = np.arange(len(losses[0]), dtype=np.int32)
    by_mean = GroupBootstrap(
        np.zeros(len(rows)), np.repeat([0, 1, 2], len(rows) // 3).astype(np.int8), rows, METRICS["mae"]
    )
    expected = by_mean.compare(losses[0], losses[1])
    assert behind.value == pytest.approx(expected.value, rel=1e-6)
    assert behind.standard_error == pytest.approx(expected.standard_error, rel=0.5)


def test_weights_are_kept_for_what_any_target_needs(tmp_path: Path) -> None:
    data = wide_data(tmp_path, SEVERAL, missing=0.2)
    names = wide_run(tmp_path / "run", data, [0.5, 0.6])
    shares = blend_shares(OofStore(tmp_path / "run"), names)
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) > 0.2


def test_a_replay_of_several_targets_is_refused(tmp_path: Path) -> None:
    data = wide_data(tmp_path, SEVERAL)
    wide_run(tmp_path / "run", data, [0.5])
    with pytest.raises(InputError, match=r"a replay plays searches for one number or for classes.*2 targets"):
        read_recording(str(tmp_path / "run"))


@pytest.mark.parametrize("task", [ONE, SEVERAL, CLASSES])
def test_a_leaderboard_over_repeats_compares_all_folds_with_the_noise_of_the_rows(tmp_path: Path, task: Task) -> None:
    data = wide_data(tmp_path, task, repeats=2)
    names = wide_run(tmp_path / "run", data, [0.8, 0.4])
    board = leaderboard(tmp_path / "run")
    assert [row.folds for row in board.rows] == [tuple(range(6))] * 2
    assert [row.candidate for row in board.rows] == names[::-1]
    behind = board.rows[1].difference
    assert behind is not None
    sign = 1 if task.measure.greater_is_better else -1
    assert behind.value == pytest.approx(
        np.mean([sign * (board.rows[1].scores[fold] - board.rows[0].scores[fold]) for fold in range(6)])
    )
    read = {name: [OofStore(tmp_path / "run").read("oof", name, fold) for fold in range(6)] for name in names}
    group = np.concatenate([data.train["group"].to_numpy()[data.in_fold(fold)] for fold in range(6)])
    fold = np.repeat(np.arange(6, dtype=np.int8), [table.num_rows for table in read[names[0]]])
    columns = {
        name: [np.concatenate([numbers_of(table, quantity) for table in tables]) for quantity in QUANTITIES]
        for name, tables in read.items()
    }
    width = columns[names[0]][0][0].size
    if task is not SEVERAL:
        truth, *told = (
            each.astype(np.float64).ravel() for each in (columns[names[0]][0], *(columns[n][1] for n in names))
        )
        draws = GroupBootstrap(truth, np.repeat(fold, width), np.repeat(group, width), task.measure)
        assert behind.standard_error == pytest.approx(draws.compare(*told).standard_error, rel=0.2)
    with pytest.raises(InputError, match="a replay plays searches over one split; this one has 2"):
        read_recording(str(tmp_path / "run"))


def test_a_fold_of_a_repeat_trains_on_the_other_folds_of_its_repeat(tmp_path: Path) -> None:
    data = wide_data(tmp_path, ONE, repeats=2, holdout=0.2)
    (name,) = wide_run(tmp_path / "run", data, [0.8])
    n_trained = int((data.folds[0] >= 0).sum())
    rows = FoldRows(OofStore(tmp_path / "run"), data)
    for fold in range(6):
        mine = data.folds[fold // 3] == fold
        assert training_rows(data, fold) == n_trained - mine.sum()
        assert rows.read(name, fold)["group"].to_pylist() == data.train["group"].to_numpy()[mine].tolist()
