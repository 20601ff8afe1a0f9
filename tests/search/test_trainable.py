"""Fold runs as a worker does them, without Ray."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_prep.oof import OofStore, Provenance
from data_prep.prepared import Prepared, load_prepared, write_prepared
from search import runner, trainable
from search.conductor import Conductor
from search.curves import CurvePoint
from search.runner import Outcome, run_study
from search.study import ResolvedStudy
from search.trainable import Workplace, make_trainable, run_fold

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


def test_constant_predictions_are_dead_whatever_the_metric(
    search: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models import training

    train_fold, attempts = training.train_fold, []

    def constant_at_first(candidate: Any, data: Any, fold: int, **options: Any) -> Any:
        result = train_fold(candidate, data, fold, **options)
        attempts.append((fold, candidate.seed))
        if result is None or len(attempts) > 1:
            return result
        place = result.oof.schema.get_field_index("prediction")
        constant = result.oof["prediction"].to_numpy() * 0 + 0.5
        return replace(result, oof=result.oof.set_column(place, "prediction", [constant]))

    monkeypatch.setattr(training, "train_fold", constant_at_first)
    outcome = search({"enabled": False}, mean={})
    assert outcome.complete == 1
    assert [fold for fold, _ in attempts] == [0, 0, 1, 2, 3]
    store = OofStore(tmp_path / "runs" / "rmse")
    assert [Provenance.of(store.read("oof", *run)).attempt for run in store.fold_runs()] == [1, 0, 0, 0]


def test_a_worker_starts_where_the_driver_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(trainable, "run_fold", lambda *_: seen.append(str(Path.cwd())))
    place = Workplace("r", "d", "s", (), None, None, 60, None, home=str(tmp_path))
    monkeypatch.chdir("/")
    make_trainable(replace(place, home=str(tmp_path / "absent")))({})
    make_trainable(place)({})
    assert seen == ["/", str(tmp_path)]
