"""Fold runs as a worker does them, without Ray."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from data_prep.prepared import Prepared, load_prepared, write_prepared
from data_prep.store.oof_store import OofStore, Provenance
from data_prep.store.tables import read_table
from data_prep.store.weight_folders import weights_folder
from models.candidate import Candidate
from search.driver.conductor import Conductor
from search.driver.worker_settings import fold_run_settings
from search.ray_tune.run_study import Outcome, run_study
from search.ray_tune.run_tune import Search
from search.run_dir.curves import CurvePoint
from search.worker.fold_run import enter_home, run_fold
from search.worker.messages import (
    RETRY_SEED,
    Assignment,
    FoldRunOrder,
    FoldRunResources,
    FoldRunSettings,
    FullDiskReport,
    MessageReport,
    Report,
    ScoreReport,
)

BASE = {"epochs": 2, "backbone_lr": 0.003, "batch_size": 16}


def order(candidate: Candidate, fold: int, attempt: int = 0, *, micro_batches: int = 1) -> FoldRunOrder:
    return FoldRunOrder(Assignment(candidate, fold, attempt), FoldRunResources(1, 0, micro_batches), threads=1)


def work(search: Search, conductor: Conductor, _: object) -> None:
    """Do a search's fold runs here, one after another."""
    settings = fold_run_settings(search.study, search.run_dir, backbones=None)
    while (assignment := conductor.next_assignment()) is not None:
        reports: list[Report] = []
        run_fold(settings, order(assignment.candidate, assignment.fold, assignment.attempt), reports.append)
        for report in reports:
            if isinstance(report, MessageReport):
                continue
            assert isinstance(report, ScoreReport), report
            point = CurvePoint(assignment.candidate.id, assignment.fold, **asdict(report))
            if not conductor.observe(assignment, point).go:
                break


@pytest.fixture
def rmse_data(tmp_path: Path, prepared_tiny: Prepared) -> Prepared:
    """Return the tiny data as a task whose metric is no correlation."""
    task = prepared_tiny.task.model_copy(update={"metric": "rmse"})
    manifest = prepared_tiny.manifest.model_copy(update={"task": task})
    write_prepared(tmp_path / "rmse", manifest, prepared_tiny.train, prepared_tiny.test)
    return load_prepared(tmp_path / "rmse")


@pytest.fixture
def search(tmp_path: Path, rmse_data: Prepared, tiny_bert: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("BLENDFOLD_CACHE", str(tmp_path / "cache"))

    def run(ladder: dict[str, Any], **candidates: dict[str, Any]) -> Outcome:
        named = {name: {**BASE, "backbone": tiny_bert, **changes} for name, changes in candidates.items()}
        study = {"name": "rmse", "data": rmse_data.path, "ladder": ladder, "candidates": named}
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
        no_ray = lambda *_, **__: nullcontext()  # noqa: E731
        return run_study(tmp_path / "study.yaml", runs=str(tmp_path / "runs"), open_session=no_ray, tune=work)

    return run


def test_a_task_with_rmse_is_searched_to_its_end(search: Any, tmp_path: Path, rmse_data: Prepared) -> None:
    outcome = search({"min_gain": 1.0}, mean={}, cls={"head": "cls"})
    assert (outcome.complete, outcome.stopped, outcome.failed) == (1, 1, 0)
    run_dir = tmp_path / "runs" / "rmse"
    assert yaml.safe_load((run_dir / "study.yaml").read_text())["ladder"]["dead_below"] is None
    store, measured = OofStore(run_dir), {}
    for candidate in store.candidates():
        table = store.read("oof", candidate, 0)
        assert Provenance.of(table).attempt == 0
        measured[candidate] = rmse_data.task.measure(table["score"].to_numpy(), table["prediction"].to_numpy())
    assert len(measured) == 2
    assert store.folds(min(measured, key=measured.__getitem__)) == [0, 1, 2, 3], "the smaller error goes on"


def test_a_floor_that_the_study_gives_holds_for_rmse_too(search: Any) -> None:
    outcome = search({"dead_below": -0.01}, mean={})
    assert (outcome.complete, outcome.failed, outcome.finished) == (0, 1, 0)
    assert outcome.started == 2, "a dead fold run is tried once more"


def test_constant_predictions_are_dead_at_the_rung_whatever_the_metric(
    search: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.training import train_fold as training
    from models.training.learner import Learner

    train_fold, predict, attempts, predicted = training.train_fold, Learner.predict, [], []

    def watched(candidate: Any, data: Any, fold: int, *options: Any, **more: Any) -> Any:
        attempts.append((fold, candidate.seed))
        predicted.clear()
        return train_fold(candidate, data, fold, *options, **more)

    def constant_at_first(*given: Any) -> Any:
        predicted.append(len(attempts))
        return predict(*given) * (0.0 if len(attempts) == 1 else 1.0)

    monkeypatch.setattr(training, "train_fold", watched)
    monkeypatch.setattr(Learner, "predict", constant_at_first)
    outcome = search({"rungs": [0.5], "enabled": False}, mean={})
    assert outcome.complete == 1
    assert [fold for fold, _ in attempts] == [0, 0, 1, 2, 3]
    assert attempts[1][1] == attempts[0][1] + RETRY_SEED
    store = OofStore(tmp_path / "runs" / "rmse")
    assert [Provenance.of(store.read("oof", *run)).attempt for run in store.fold_runs()] == [1, 0, 0, 0]
    points = read_table(tmp_path / "runs" / "rmse" / "curves.arrow").to_pylist()
    assert (points[0]["progress"], math.isnan(points[0]["metric"])) == (0.5, True)


FoldRunner = Callable[..., list[Report]]


@pytest.fixture
def candidate(tiny_bert: str) -> Candidate:
    return Candidate(backbone=tiny_bert, **BASE)


@pytest.fixture
def fold_run(
    tmp_path: Path, prepared_tiny: Prepared, candidate: Candidate, monkeypatch: pytest.MonkeyPatch
) -> FoldRunner:
    """Return a function that does a fold run and returns its reports."""
    monkeypatch.setenv("BLENDFOLD_CACHE", str(tmp_path / "cache"))

    def run(
        *, attempt: int = 0, micro_batches: int = 1, max_length: int = 64, name: str = "run", **changes: Any
    ) -> list[Report]:
        settings = FoldRunSettings(
            run_dir=str(tmp_path / name),
            data=prepared_tiny.path,
            split_hash=prepared_tiny.manifest.split_hash,
            rungs=(0.5,),
            rung_rows=None,
            dead_below=-1.0,
            checkpoint_seconds=0,
            backbones=None,
            home=str(Path.cwd()),
        )
        reports: list[Report] = []
        trained = candidate.model_copy(update={"max_length": max_length})
        asked = order(trained, 1, attempt, micro_batches=micro_batches)
        run_fold(replace(settings, **changes), asked, reports.append)
        return reports

    return run


def messages(reports: list[Report]) -> list[str]:
    return [report.text for report in reports if isinstance(report, MessageReport) and not report.once]


def test_texts_that_are_cut_are_told_once_for_each_family(fold_run: FoldRunner, candidate: Candidate) -> None:
    for max_length in (9, 10):
        reports = fold_run(max_length=max_length, name=f"cut-{max_length}")
        (told,) = [report for report in reports if isinstance(report, MessageReport) and "are cut" in report.text]
        assert f"max_length={max_length}: " in told.text
        assert f"median {max_length} of " in told.text
        assert told.once == f"texts of {candidate.family}"


def test_a_fold_run_of_a_family_that_ran_out_of_memory_starts_with_smaller_parts(
    fold_run: FoldRunner, tmp_path: Path, candidate: Candidate
) -> None:
    plain, halved = fold_run(name="plain"), fold_run(micro_batches=4, name="halved")
    assert messages(plain) == []
    assert messages(halved) == [
        "memory is short: each step is computed in 4 micro-batches; the batch stays the same",
    ]
    found = [
        Provenance.of(OofStore(tmp_path / name).read("oof", candidate.id, 1)).micro_batches
        for name in ("plain", "halved")
    ]
    assert found == [1, 4]


def test_a_fold_run_says_why_it_failed_to_learn(fold_run: FoldRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.training.learner import Learner

    predict = Learner.predict
    monkeypatch.setattr(Learner, "predict", lambda *given: predict(*given) * 0.0)
    reports = fold_run()
    assert set(messages(reports)) == {"failed to learn: all predictions are the same (0)"}
    assert isinstance(reports[-1], ScoreReport)
    assert math.isnan(reports[-1].metric)


def test_the_weights_of_a_finished_fold_run_predict_its_test_table(
    fold_run: FoldRunner, tmp_path: Path, prepared_tiny: Prepared, candidate: Candidate
) -> None:
    from models.backbones.locate_backbone import locate_backbone
    from models.text.fold_pools import load_fold_pools
    from models.training.fold_weights import load_scorer, load_weights

    fold_run()
    assert not (tmp_path / "run" / "weights").exists()
    reports = fold_run(attempt=1, name="kept", keep_weights=True)
    assert isinstance(reports[-1], ScoreReport)
    assert reports[-1].progress == 1.0
    weights = load_weights(weights_folder(str(tmp_path / "kept"), candidate.id, 1))
    assert (weights.provenance.candidate, weights.provenance.attempt) == (candidate.id, 1)
    assert weights.candidate.seed == 42 + RETRY_SEED
    backbone = locate_backbone(weights.candidate.backbone)
    pools = load_fold_pools(prepared_tiny, 1, candidate=weights.candidate, tokenizer=backbone.tokenizer, cache=tmp_path)
    learner = load_scorer(weights, prepared_tiny.task, backbone=backbone)
    expected = OofStore(tmp_path / "kept").read("test", candidate.id, 1)["prediction"].to_numpy()
    assert np.array_equal(learner.predict_pool(pools.test), expected)


def test_a_disk_budget_is_kept_reported_once_and_costs_no_predictions(
    fold_run: FoldRunner, tmp_path: Path, candidate: Candidate
) -> None:
    fold_run(keep_weights=True)
    reports = fold_run(name="small", keep_weights=True, disk_gb=1e-4)
    told = messages(reports)
    assert len(told) == 2
    assert "budget.disk_gb=0.0001: no room for a checkpoint of 0.0" in told[0]
    assert "budget.disk_gb=0.0001: no room for the weights of 0.0" in told[1]
    assert not list((tmp_path / "small").rglob("*.pt")) + list((tmp_path / "small").rglob("*.safetensors"))
    for kind in ("oof", "test", "holdout"):
        whole, small = (OofStore(tmp_path / name).read(kind, candidate.id, 1) for name in ("run", "small"))
        assert small.equals(whole)


def test_a_full_disk_under_a_table_is_reported_as_such_and_any_other_fault_raised(
    fold_run: FoldRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(*fault)

    monkeypatch.setattr(OofStore, "write", refuse)
    fault = (28, "No space left on device", "/runs/oof/fold-1.arrow")
    assert fold_run(name="full")[-1] == FullDiskReport(*fault)
    fault = (5, "Input/output error", "/runs/oof/fold-1.arrow")
    with pytest.raises(OSError, match="Input/output"):
        fold_run(name="torn")


def test_a_finished_fold_run_is_not_done_again(fold_run: FoldRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.training import train_fold as training

    first = fold_run()[-1]
    monkeypatch.setattr(training, "train_fold", pytest.fail)
    assert isinstance(first, ScoreReport)
    assert fold_run() == [replace(first, seconds=0.0)]


@pytest.mark.parametrize(
    "run_dir", ["/runs/demo/", "s3://b/runs/demo", "s3://b/runs/demo?endpoint_override=h:1&scheme=http"]
)
def test_metrics_bear_the_name_of_the_study(run_dir: str) -> None:
    assert FoldRunSettings(run_dir, "d", "s", (), None, None, 60, None, home="/").study == "demo"


def test_a_worker_starts_where_the_driver_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = FoldRunSettings("r", "d", "s", (), None, None, 60, None, home=str(tmp_path))
    monkeypatch.chdir("/")
    enter_home(replace(settings, home=str(tmp_path / "absent")))
    assert str(Path.cwd()) == "/"
    enter_home(settings)
    assert Path.cwd() == tmp_path
