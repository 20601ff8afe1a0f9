"""Fold runs as a worker does them, without Ray."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from data_prep.prepared import Prepared, load_prepared, write_prepared
from data_prep.store.files import write_json
from data_prep.store.oof_store import OofStore, Provenance
from data_prep.store.tables import read_table
from data_prep.store.weight_folders import weights_folder
from models.candidate import Candidate
from search.driver.conductor import Conductor
from search.ray_tune import run_study as runner
from search.ray_tune.run_study import Outcome, run_study
from search.run_dir.curves import CurvePoint
from search.study.study_file import ResolvedStudy
from search.worker import fold_run as trainable
from search.worker.fold_run import RETRY_SEED, Workplace, make_trainable, run_fold

BASE = {"epochs": 2, "backbone_lr": 0.003, "batch_size": 16}


def workplace(study: ResolvedStudy, run_dir: str) -> Workplace:
    return Workplace(
        run_dir=run_dir,
        data=study.data,
        split_hash=study.split_hash,
        rungs=study.ladder.rungs,
        rung_rows=None,
        dead_below=study.ladder.dead_below,
        checkpoint_seconds=60,
        backbones=None,
        home=str(Path.cwd()),
    )


def work(conductor: Conductor, study: ResolvedStudy, run_dir: str, **_: Any) -> None:
    """Do a search's fold runs here, one after another."""
    while (assignment := conductor.next_assignment()) is not None:
        config = {
            "candidate": assignment.candidate.id,
            "fold": assignment.fold,
            "attempt": assignment.attempt,
            "threads": 1,
            "device": "cpu",
        }
        reports: list[dict[str, Any]] = []
        run_fold(workplace(study, run_dir), config, reports.append)
        for report in reports:
            if "once" in report:
                continue
            assert not report.pop("failure")
            if not conductor.observe(assignment, CurvePoint(config["candidate"], assignment.fold, **report)).go:
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
    monkeypatch.setattr(runner, "_tune", work)
    monkeypatch.setattr(runner, "ray_session", lambda *_, **__: nullcontext())

    def run(ladder: dict[str, Any], **candidates: dict[str, Any]) -> Outcome:
        named = {name: {**BASE, "backbone": tiny_bert, **changes} for name, changes in candidates.items()}
        study = {"name": "rmse", "data": rmse_data.path, "ladder": ladder, "candidates": named}
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
        return run_study(tmp_path / "study.yaml", runs=str(tmp_path / "runs"))

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

    def watched(candidate: Any, data: Any, fold: int, **options: Any) -> Any:
        attempts.append((fold, candidate.seed))
        predicted.clear()
        return train_fold(candidate, data, fold, **options)

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


FoldRunner = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def fold_run(tmp_path: Path, prepared_tiny: Prepared, tiny_bert: str, monkeypatch: pytest.MonkeyPatch) -> FoldRunner:
    """Return a function that does a fold run and returns its reports."""
    monkeypatch.setenv("BLENDFOLD_CACHE", str(tmp_path / "cache"))
    candidate = Candidate(backbone=tiny_bert, **BASE)

    def run(config: dict[str, Any] | None = None, *, name: str = "run", **changes: Any) -> list[dict[str, Any]]:
        write_json(candidate.model_dump(mode="json"), tmp_path / name / "candidates" / "0123456789ab.json")
        place = Workplace(
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
        reports: list[dict[str, Any]] = []
        asked = {"candidate": "0123456789ab", "fold": 1, "attempt": 0, "threads": 1, "device": "cpu", **(config or {})}
        run_fold(replace(place, **changes), asked, reports.append)
        return reports

    return run


def notes(reports: list[dict[str, Any]]) -> list[str]:
    return [report["note"] for report in reports if "note" in report]


def test_a_fold_run_of_a_family_that_ran_out_of_memory_starts_with_smaller_parts(
    fold_run: FoldRunner, tmp_path: Path
) -> None:
    plain, halved = fold_run(name="plain"), fold_run({"micro_batches": 4}, name="halved")
    assert notes(plain) == []
    assert notes(halved) == [
        "for want of memory, steps are computed in 4 micro-batches; batches stay what they are",
    ]
    found = [
        Provenance.of(OofStore(tmp_path / name).read("oof", "0123456789ab", 1)).micro_batches
        for name in ("plain", "halved")
    ]
    assert found == [1, 4]


def test_the_weights_of_a_finished_fold_run_predict_its_test_table(
    fold_run: FoldRunner, tmp_path: Path, prepared_tiny: Prepared
) -> None:
    from models.backbones.checkpoint_files import load_tokenizer
    from models.text.row_pools import load_pools
    from models.training.fold_weights import load_scorer, load_weights
    from models.training.predict_rows import predict_rows

    fold_run()
    assert not (tmp_path / "run" / "weights").exists()
    reports = fold_run({"attempt": 1}, name="kept", keep_weights=True)
    assert reports[-1]["progress"] == 1.0
    weights = load_weights(weights_folder(str(tmp_path / "kept"), "0123456789ab", 1))
    assert (weights.provenance.candidate, weights.provenance.attempt) == ("0123456789ab", 1)
    assert weights.candidate.seed == 42 + RETRY_SEED
    tokenizer = load_tokenizer(weights.candidate.backbone)
    pools = load_pools(prepared_tiny, 1, candidate=weights.candidate, tokenizer=tokenizer, cache=tmp_path)
    learner = load_scorer(weights, prepared_tiny.task)
    expected = OofStore(tmp_path / "kept").read("test", "0123456789ab", 1)["prediction"].to_numpy()
    assert np.array_equal(predict_rows(learner, pools.test, orders=1), expected)


def test_a_disk_budget_is_kept_told_once_and_costs_no_predictions(fold_run: FoldRunner, tmp_path: Path) -> None:
    fold_run(keep_weights=True)
    reports = fold_run(name="small", keep_weights=True, disk_gb=1e-4)
    told = notes(reports)
    assert len(told) == 2
    assert "budget.disk_gb=0.0001: no room for a checkpoint of 0.0" in told[0]
    assert "budget.disk_gb=0.0001: no room for the weights of 0.0" in told[1]
    assert not list((tmp_path / "small").rglob("*.pt")) + list((tmp_path / "small").rglob("*.safetensors"))
    for kind in ("oof", "test", "holdout"):
        whole, small = (OofStore(tmp_path / name).read(kind, "0123456789ab", 1) for name in ("run", "small"))
        assert small.equals(whole)


def test_a_full_disk_under_a_table_is_told_as_such_and_any_other_fault_raised(
    fold_run: FoldRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(*fault)

    monkeypatch.setattr(OofStore, "write", refuse)
    fault = (28, "No space left on device", "/runs/oof/fold-1.arrow")
    assert fold_run(name="full")[-1] == {"full_disk": fault}
    fault = (5, "Input/output error", "/runs/oof/fold-1.arrow")
    with pytest.raises(OSError, match="Input/output"):
        fold_run(name="torn")


def test_a_finished_fold_run_is_not_done_again(fold_run: FoldRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.training import train_fold as training

    first = fold_run()[-1]
    monkeypatch.setattr(training, "train_fold", pytest.fail)
    assert fold_run() == [{**first, "seconds": 0.0}]


@pytest.mark.parametrize(
    "run_dir", ["/runs/demo/", "s3://b/runs/demo", "s3://b/runs/demo?endpoint_override=h:1&scheme=http"]
)
def test_metrics_bear_the_name_of_the_study(run_dir: str) -> None:
    assert Workplace(run_dir, "d", "s", (), None, None, 60, None, home="/").study == "demo"


def test_a_worker_starts_where_the_driver_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(trainable, "run_fold", lambda *_: seen.append(str(Path.cwd())))
    place = Workplace("r", "d", "s", (), None, None, 60, None, home=str(tmp_path))
    monkeypatch.chdir("/")
    make_trainable(replace(place, home=str(tmp_path / "absent")))({"label": "a"})
    make_trainable(place)({"label": "b"})
    assert seen == ["/", str(tmp_path)]
