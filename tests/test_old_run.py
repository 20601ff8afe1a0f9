"""A run directory that the code before the sub-packages wrote, killed in its last fold run, is read and continued."""

import contextlib
import hashlib
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from blend.__main__ import app as blend_app
from data_prep.console import console
from models.__main__ import app as models_app
from search.__main__ import app as search_app
from whole_search import finished, run, started

ARCHIVE = Path(__file__).parent / "support" / "old_run.tar.gz"
COMPLETE = ("0bb067ed5412", "1aa745f80f38")
OPEN = "7e66096d3160"
STOPPED = ("057a9e0e8c00", "7fd0b236ec81")
APPS = {"blend": blend_app, "models": models_app, "search": search_app}


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder with `runs/old`, its prepared folder, its checkpoint of a backbone, and what the old code made next."""
    monkeypatch.setattr(console, "_width", 200)
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    study = tmp_path / "runs/old/study.yaml"
    study.write_text(study.read_text().replace("PREPARED", str(tmp_path / "prepared")))
    return tmp_path


def command(folder: Path, package: str, *words: str) -> str:
    """Run a verb in this process, from a folder; return what it printed."""
    with contextlib.chdir(folder), console.capture() as capture:
        APPS[package](words, standalone_mode=False)
    return " ".join(capture.get().split())


def tables(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for kind in ("oof", "test")
        for path in sorted((folder / kind).rglob("*.arrow"))
    }


def predictions(path: Path) -> np.ndarray:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()["prediction"].to_numpy()


@pytest.mark.parametrize("verb", ["leaderboard", "status", "explain"])
def test_every_candidate_is_shown(old, verb):
    shown = command(old, "search", verb, "runs/old")
    for candidate in (*COMPLETE, OPEN, *STOPPED):
        assert candidate[:6] in shown


def test_what_the_old_ladder_decided_is_shown_in_its_words(old):
    assert "cut on fold 0 at 50%" in command(old, "search", "explain", "runs/old")


def test_the_blend_of_the_old_code_still_predicts_its_submission(old):
    """With its calibration of each fold; and a new blend of the same candidates is made beside it."""
    made = old / "runs/old/blends/early"
    shutil.copytree(old / "expected/early", made)
    command(old, "blend", "bundle", "runs/old", "--blend", "early", "--out", "bundle", "--data", "prepared")
    command(old, "models", "predict", "--bundle", "bundle", "--test", "test.csv", "--out", "predicted.csv")
    rows, wanted = ((old / name).read_text().splitlines() for name in ("predicted.csv", str(made / "submission.csv")))
    assert len(rows) == len(wanted) == 17
    for row, other in zip(rows[1:], wanted[1:], strict=True):
        (identity, value), (same, number) = row.split(","), other.split(",")
        assert identity == same
        assert float(value) == pytest.approx(float(number), abs=1e-5)
    command(old, "blend", "fit", "runs/old", "--name", "new", "--clip")
    record = json.loads((old / "runs/old/blends/new/blend.json").read_text())
    assert {member["candidate"] for member in record["members"]} <= set(COMPLETE)


@pytest.mark.ray
def test_a_search_continues_it_from_the_checkpoint_and_repeats_nothing(old, monkeypatch):
    monkeypatch.chdir(old)
    before = tables(old / "runs/old")
    output = run(old / "study.yaml", "--backbones", "checkpoints")
    after = tables(old / "runs/old")
    assert {name: digest for name, digest in after.items() if name in before} == before
    assert after.keys() - before.keys() == {f"{kind}/{OPEN}/fold-2.arrow" for kind in ("oof", "test")}
    assert len(started(output)) == len(finished(output)) == 1
    assert not (old / f"runs/old/checkpoints/{OPEN}/fold-2").exists()
    mine, theirs = (predictions(old / name) for name in (f"runs/old/oof/{OPEN}/fold-2.arrow", "expected/fold-2.arrow"))
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-4)
