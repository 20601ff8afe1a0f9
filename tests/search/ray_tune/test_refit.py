"""Weights that were not kept are trained again, and must predict what the tables say."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from data_prep.errors import InputError
from data_prep.prepared import Prepared
from data_prep.store.files import write_json
from data_prep.store.oof_store import OofStore, Provenance
from data_prep.store.safetensors_files import read_header
from data_prep.store.tables import OOF_SCHEMA, TEST_SCHEMA, write_table
from data_prep.store.weight_folders import backbone_folder, find_weights, weights_file
from models.candidate import Candidate
from search.driver.worker_settings import fold_run_settings
from search.ray_tune.refit import _missing_parts, refit
from search.run_dir.disk_budget import candidates_with_weights
from search.study.kept_study import keep_study, read_resolved
from search.study.read_study import read_study, resolve_study
from search.worker.fold_run import run_fold
from search.worker.messages import RETRY_SEED, Assignment, FoldRunOrder, FoldRunResources
from search.worker.refit_fold import refit_fold

SETTINGS = {"epochs": 2, "backbone_lr": 0.003, "batch_size": 16, "precision": "fp32", "keep": "best"}
ATTEMPTS = {0: 0, 1: 1}
"""Fold -> attempt: the second fold run died once."""


def order(candidate: Candidate, fold: int) -> FoldRunOrder:
    return FoldRunOrder(Assignment(candidate, fold, ATTEMPTS[fold]), FoldRunResources(1, 0), threads=1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, prepared_tiny: Prepared, tiny_bert: str) -> Path:
    """Return a run directory with a blend of one candidate, two fold runs finished, their weights kept."""
    root = tmp_path_factory.mktemp("refit")
    settings = {**SETTINGS, "backbone": tiny_bert}
    study = {"name": "run", "data": prepared_tiny.path, "candidates": {"one": settings}, "ladder": {"rungs": [0.5]}}
    (root / "study.yaml").write_text(yaml.safe_dump(study))
    resolved = resolve_study(read_study(root / "study.yaml"), prepared_tiny)
    run_dir, identity = root / "run", resolved.names["one"]
    keep_study(resolved, str(run_dir))
    write_json(Candidate(**settings).model_dump(mode="json"), run_dir / "candidates" / f"{identity}.json")
    shared = replace(fold_run_settings(resolved, str(run_dir), backbones=None), dead_below=-1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLENDFOLD_CACHE", str(root / "cache"))
        for fold in ATTEMPTS:
            run_fold(shared, order(Candidate(**settings), fold), [].append)
    shutil.rmtree(run_dir / "checkpoints")  # or they would be resumed from their ends
    members = [{"run": str(run_dir), "candidate": identity}, {"run": str(run_dir), "candidate": "without weight"}]
    parts = [{"weight": 1.0}, {"weight": 0.0}]
    write_json({"members": members, "combination": {"parts": parts}}, run_dir / "blends" / "b" / "blend.json")
    return run_dir


@pytest.fixture
def run_dir(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a run directory of one's own."""
    monkeypatch.setenv("BLENDFOLD_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def identity(finished: Path) -> str:
    return read_resolved(str(finished)).names["one"]


def origin_of(run_dir: Path, identity: str, fold: int) -> Provenance:
    return Provenance.of(OofStore(run_dir).read("oof", identity, fold))


def train(run_dir: Path, identity: str, fold: int, *, force: bool = False):
    settings = fold_run_settings(read_resolved(str(run_dir)), str(run_dir), backbones=None)
    candidate = Candidate.model_validate_json((run_dir / "candidates" / f"{identity}.json").read_bytes())
    return refit_fold(settings, order(candidate, fold), origin_of(run_dir, identity, fold), force=force)


@pytest.mark.ray
def test_lost_weights_come_back_through_ray_and_tables_stay(run_dir: Path, identity: str, tiny_bert: str) -> None:
    tables = {path: path.read_bytes() for path in run_dir.rglob("*.arrow")}
    weights = [Path(weights_file(str(run_dir), identity, fold)) for fold in ATTEMPTS]
    before = [read_header(path).metadata for path in weights]
    weights[0].unlink()
    weights[1].write_bytes(weights[1].read_bytes()[:50])
    kept = Path(backbone_folder(str(run_dir), tiny_bert))
    files = {path.name: path.read_bytes() for path in kept.iterdir()}
    (kept / "files.json").unlink()
    command = [sys.executable, "-m", "search", "refit", str(run_dir), "--blend", "b"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("predicts what its tables say, bit for bit") == 2
    last = "wrote the weights of 2 fold runs and the files of 1 backbone; next: blendfold bundle"
    assert result.stdout.splitlines()[-1].startswith(last)
    assert [read_header(path).metadata for path in weights] == before
    assert before[1]["seed"] == str(42 + RETRY_SEED)
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == files
    assert {path: path.read_bytes() for path in run_dir.rglob("*.arrow")} == tables
    assert candidates_with_weights(str(run_dir)) == [identity]
    assert not list(run_dir.glob("checkpoints/*/*"))
    assert not (run_dir / "driver.json").exists()


def refit_all(run_dir: Path, blend: str) -> tuple[int, int]:
    """Restore a blend of which nothing is to be trained."""
    forbidden = {"message": pytest.fail, "open_session": pytest.fail}
    return refit(str(run_dir), blend, address=None, backbones=None, force=False, **forbidden)  # type: ignore[arg-type]


def test_where_nothing_is_missing_nothing_starts(run_dir: Path) -> None:
    assert refit_all(run_dir, "b") == (0, 0)


def test_members_of_any_target_are_refitted_once(run_dir: Path, identity: str) -> None:
    blend = json.loads((run_dir / "blends" / "b" / "blend.json").read_text())
    nobody = {**blend, "combination": {"parts": [{"weight": 0.0}] * 2}}
    write_json({"blends": [blend, nobody, blend]}, run_dir / "blends" / "all" / "blend.json")
    assert [part.candidate.id for part in _missing_parts(str(run_dir), "all")] == [identity]


def test_weights_that_predict_something_else_are_refused_unless_forced(run_dir: Path, identity: str) -> None:
    store, path = OofStore(run_dir), Path(weights_file(str(run_dir), identity, 0))
    table, origin = store.read("oof", identity, 0), origin_of(run_dir, identity, 0)
    shifted = table["prediction"].to_numpy() + np.linspace(0, 0.02, table.num_rows, dtype=np.float32)
    place = table.schema.get_field_index("prediction")
    other = table.set_column(place, "prediction", pa.array(shifted, pa.float32()))
    write_table(other, store.path("oof", identity, 0), schema=OOF_SCHEMA, metadata=origin.to_metadata())
    path.unlink()
    refused = train(run_dir, identity, 0)
    assert "its predictions differ from its tables by up to 0.02 (0.001 is tolerated)" in refused.failure
    assert not path.exists()
    forced = train(run_dir, identity, 0, force=True)
    assert (forced.failure, forced.difference) == ("", refused.difference)
    assert find_weights(str(run_dir), origin) == "kept"


def test_tables_of_other_rows_are_not_compared_by_their_places(run_dir: Path, identity: str) -> None:
    store, path = OofStore(run_dir), Path(weights_file(str(run_dir), identity, 0))
    table, origin = store.read("test", identity, 0), origin_of(run_dir, identity, 0)
    renamed = pa.array([f"{row}-of-elsewhere" for row in table["id"].to_pylist()])
    other = table.set_column(table.schema.get_field_index("id"), "id", renamed)
    write_table(other, store.path("test", identity, 0), schema=TEST_SCHEMA, metadata=origin.to_metadata())
    path.unlink()
    assert "has other rows than the prepared folder" in train(run_dir, identity, 0, force=True).failure
    assert not path.exists()


def test_what_is_wrong_is_reported_and_nothing_kept(run_dir: Path, identity: str, tiny_bert: str) -> None:
    path = Path(weights_file(str(run_dir), identity, 1))
    path.unlink()
    settings = run_dir / "candidates" / f"{identity}.json"
    whole = settings.read_text()
    settings.write_text(whole.replace(tiny_bert, "/not/there"))
    assert "backbone '/not/there': no such folder" in train(run_dir, identity, 1).failure
    assert not path.exists()
    settings.write_text('{"source": "team.csv"}')
    with pytest.raises(InputError, match=r"no settings of a model of ours; it cannot be trained"):
        refit_all(run_dir, "b")
    with pytest.raises(InputError, match=r"blends/other/blend\.json: no such blend; make one with"):
        refit_all(run_dir, "other")


def test_weights_of_another_training_are_not_those_behind_a_table(run_dir: Path, identity: str) -> None:
    origin = origin_of(run_dir, identity, 0)
    assert find_weights(str(run_dir), origin) == "kept"
    for change in ({"seed": 7}, {"attempt": 1}, {"split_hash": "0"}, {"data_hash": "0"}):
        assert find_weights(str(run_dir), replace(origin, **change)) == "other"
    assert find_weights(str(run_dir), replace(origin, fold=3)) == "absent"
