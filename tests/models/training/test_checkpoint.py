import contextlib
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from data_prep.errors import InputError
from models.candidate import Candidate
from models.training.checkpoint import CheckpointFolder
from models.training.learner import Learner
from models.training.random_streams import random_state, restore_random_state
from small_models import train as train_fold

IDENTITY = {"candidate": "0123456789ab", "fold": 1}
SETTINGS = {"max_length": 48, "batch_size": 32, "epochs": 2, "backbone_lr": 1e-3}
RUNGS = (0.3, 0.6, 1.0)

CANDIDATES = {
    "plain": {},
    "grouped": {"recipe": "grouped", "head_dropout": 0.1},
    "packed": {"recipe": "packed", "loss": "pearson"},
    "best": {"keep": "best", "backbone_lr": 3e-2},
    "fp16": {"precision": "fp16"},
    "mixout": {"mixout": 0.3},
    "fgm": {"adversary": "fgm", "adversary_start": 0.5},
    "awp": {"adversary": "awp", "adversary_start": 0.5, "mixout": 0.3, "precision": "fp16"},
    "ema": {"ema": 0.8},
    "ema, best": {"ema": 0.8, "keep": "best", "backbone_lr": 3e-2},
    "accumulation": {"accumulation": 3, "checkpointing": True},
    "packed parts": {"recipe": "packed", "accumulation": 2, "adversary": "fgm", "adversary_start": 0.0},
    "fresh layers": {"reinit_layers": 1, "layer_decay": 0.9},
    "ranking": {"loss": "ranking"},
    "variance": {"loss": "gaussian_nll", "head_lr": 0.0},
    "levels": {"loss": "cross_entropy", "head_dropout": 0.2, "dropout_samples": 3},
    "shuffles": {"recipe": "grouped", "prediction_shuffles": 3},
}


class Killed(BaseException):
    """The process dies here."""


@pytest.fixture
def folder(tmp_path):
    return CheckpointFolder(tmp_path / "checkpoint")


@pytest.fixture
def train(tiny_bert, prepared_tiny, tmp_path):
    def run(settings, **options):
        candidate = Candidate(backbone=tiny_bert, **{**SETTINGS, **settings})
        return train_fold(candidate, prepared_tiny, 1, rungs=RUNGS, rung_rows=30, cache=tmp_path / "cache", **options)

    return run


@pytest.fixture
def steps(monkeypatch):
    """Return a list that grows by the epoch of every training step that comes to its end."""
    whole, taken = Learner.step, []

    def step(self, batch, share, *, epoch):
        whole(self, batch, share, epoch=epoch)
        taken.append(epoch)

    monkeypatch.setattr(Learner, "step", step)
    return taken


def die_at(monkeypatch, step):
    """Let the process die in the middle of its `step`-th training step."""
    whole, count = Learner.step, {"left": step}

    def step_or_die(self, batch, share, **options):
        count["left"] -= 1
        if count["left"] < 0:
            raise Killed
        whole(self, batch, share, **options)

    monkeypatch.setattr(Learner, "step", step_or_die)


def content(reports):
    return [(report.progress, report.epoch, str(report.metric), report.rows) for report in reports]


@pytest.mark.parametrize("name", CANDIDATES)
def test_an_interrupted_run_ends_with_the_same_bytes_and_reports(name, train, folder, steps, monkeypatch):
    whole_reports, reports = [], []
    whole = train(CANDIDATES[name], report=lambda report: not whole_reports.append(report))
    whole_steps = list(steps)
    steps.clear()
    for step in (1, 2, 3):
        with monkeypatch.context() as patch:
            die_at(patch, step)
            with pytest.raises(Killed):
                train(
                    CANDIDATES[name],
                    checkpoint=folder,
                    checkpoint_seconds=0,
                    report=lambda report: not reports.append(report),
                )
    resumed = train(CANDIDATES[name], checkpoint=folder, report=lambda report: not reports.append(report))
    assert resumed.oof.equals(whole.oof)
    assert resumed.test.equals(whole.test)
    assert resumed.holdout.equals(whole.holdout)
    assert (resumed.metric, resumed.epoch) == (whole.metric, whole.epoch)
    assert content(reports) == content(whole_reports)
    assert len(reports) == len(RUNGS)
    assert steps == whole_steps, "a checkpoint after each step: none is taken twice"


@pytest.mark.parametrize("rung", range(len(RUNGS)))
def test_a_report_is_neither_lost_nor_made_twice(rung, train, folder):
    delivered = []

    def die_before(report):
        if len(delivered) == rung:
            raise Killed
        delivered.append(report)
        return True

    with pytest.raises(Killed):
        train({}, checkpoint=folder, report=die_before)
    found = train({}, checkpoint=folder, report=lambda report: not delivered.append(report))
    assert [report.progress for report in delivered] == list(RUNGS)
    assert delivered[-1].metric == found.metric
    again = []
    repeated = train({}, checkpoint=folder, report=lambda report: not again.append(report))
    assert again == []
    assert repeated.oof.equals(found.oof)


def test_a_killed_process_leaves_a_checkpoint_to_go_on_from(tiny_bert, prepared_tiny, train, folder, steps):
    cache = str(Path(folder.path).parent / "cache")
    code = f"""
import os, signal
from data_prep.prepared import load_prepared
from models.candidate import Candidate
from models.backbones.locate_backbone import locate_backbone
from models.training.checkpoint import CheckpointFolder
from models.training.fold_options import FoldOptions
from models.training.train_fold import train_fold
candidate = Candidate(backbone={tiny_bert!r}, **{SETTINGS!r})
def kill(report):
    os.kill(os.getpid(), signal.SIGKILL)
train_fold(candidate, load_prepared({prepared_tiny.path!r}), 1,
           FoldOptions(rungs={RUNGS!r}, rung_rows=30, cache=__import__("pathlib").Path({cache!r})),
           backbone=locate_backbone(candidate.backbone), report=kill, checkpoint=CheckpointFolder({str(folder.path)!r}))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == -9
    reports = []
    resumed = train({}, checkpoint=folder, report=lambda report: not reports.append(report))
    assert steps[0] == reports[0].epoch, "on from the rung at which it was killed"
    assert resumed.oof.equals(train({}).oof)
    assert [report.progress for report in reports] == list(RUNGS)


def test_a_checkpoint_of_another_run_is_refused(train, folder):
    train({}, checkpoint=folder, report=lambda report: report.progress < 0.3)
    with pytest.raises(InputError, match=r"belongs to .* not to .*delete"):
        train({"seed": 7}, checkpoint=folder)


def truncate(content):
    return content[: len(content) // 2]


def flip(content):
    """Alter one bit among the values of the largest tensor: `torch.load` does not notice."""
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("damage", [truncate, flip])
def test_a_damaged_checkpoint_is_set_aside_and_the_run_starts_anew(damage, train, folder, monkeypatch, tmp_path):
    whole, reports, told = train({}), [], []
    with monkeypatch.context() as patch:
        die_at(patch, 5)
        with pytest.raises(Killed):
            train({}, checkpoint=folder, checkpoint_seconds=0, report=lambda report: not reports.append(report))
    file = Path(folder.path) / "state.pt"
    damaged = damage(file.read_bytes())
    file.write_bytes(damaged)
    again = CheckpointFolder(folder.path, warn=told.append)
    found = train({}, checkpoint=again, report=lambda report: not reports.append(report))
    assert told == [
        f"{file}: not a whole checkpoint; set aside as state.damaged; the fold run starts from the beginning"
    ]
    assert (Path(folder.path) / "state.damaged").read_bytes() == damaged
    assert found.oof.equals(whole.oof)
    assert found.test.equals(whole.test)
    assert [report.progress for report in reports] == list(RUNGS), "no rung is reported twice"


def test_no_altered_byte_and_no_length_goes_unnoticed(folder):
    folder.save({"identity": IDENTITY, "weights": torch.zeros(20)})
    file, told = Path(folder.path) / "state.pt", []
    folder = CheckpointFolder(folder.path, warn=told.append)
    whole = file.read_bytes()
    altered = [
        whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :] for place in range(len(whole))
    ]
    cut = [whole[:size] for size in (0, 10, 32, 33, 1000, len(whole) - 1)]
    for content in [*altered, *cut, whole + b"x"]:
        file.write_bytes(content)
        assert folder.load(IDENTITY) is None
    assert len(told) == len(whole) + 7
    file.write_bytes(whole)
    assert torch.equal(folder.load(IDENTITY)["weights"], torch.zeros(20))


@pytest.mark.parametrize("content", [b"", b"3", b"7 4e07408562bedb8b", b"\xff", b"3 4e07408562bedb8c"])
def test_a_damaged_count_of_reports_has_them_delivered_again(content, folder):
    folder.delivered = 3
    assert folder.delivered == 3
    (Path(folder.path) / "delivered").write_bytes(content)
    assert folder.delivered == 0


def test_what_a_killed_process_left_half_written_is_cleared_away(folder):
    folder.save({"identity": IDENTITY})
    (Path(folder.path) / "state.1234.partial").write_bytes(b"half")
    folder.load(IDENTITY)
    assert [file.name for file in Path(folder.path).iterdir()] == ["state.pt"]


@pytest.fixture
def small_disk(tmp_path):
    """Mount a disk of 300 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "none", place], check=False).returncode:
        pytest.skip("a small disk can be mounted by root alone")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def test_training_goes_on_when_the_disk_is_full(train, small_disk):
    whole, reports, told = train({}), [], []
    folder = CheckpointFolder(small_disk / "checkpoint", warn=told.append)
    found = train({}, checkpoint=folder, checkpoint_seconds=0, report=lambda report: not reports.append(report))
    assert found.oof.equals(whole.oof)
    assert found.test.equals(whole.test)
    assert [report.progress for report in reports] == list(RUNGS)
    assert len(told) == 1, "told once, not at every step"
    assert re.fullmatch(rf"{folder.path}: no checkpoint can be written \(No space .*\); training continues.*", told[0])
    assert [file.name for file in Path(folder.path).iterdir()] == ["delivered"], "nothing is left half-written"


def test_a_checkpoint_that_fits_stays_when_the_next_one_does_not(small_disk):
    told = []
    folder = CheckpointFolder(small_disk / "checkpoint", warn=told.append)
    folder.save({"identity": IDENTITY, "step": 1})
    (small_disk / "filler").write_bytes(b"0" * 200_000)
    for step in (2, 3):
        folder.save({"identity": IDENTITY, "step": step, "weights": torch.zeros(50_000)})
    assert len(told) == 1
    assert folder.load(IDENTITY)["step"] == 1
    (small_disk / "filler").unlink()
    folder.save({"identity": IDENTITY, "step": 4, "weights": torch.zeros(50_000)})
    assert folder.load(IDENTITY)["step"] == 4


def test_a_state_is_replaced_whole(folder, monkeypatch):
    def fill_the_disk(state, file):
        file.write(b"half")
        raise OSError("full")

    folder.save({"identity": IDENTITY, "step": 1})
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", fill_the_disk)
        with pytest.raises(OSError, match="full"):
            folder.save({"identity": IDENTITY, "step": 2})
    assert folder.load(IDENTITY)["step"] == 1


def test_clear_forgets(folder):
    folder.save({"identity": IDENTITY})
    folder.delivered = 3
    folder.clear()
    assert folder.load(IDENTITY) is None
    assert folder.delivered == 0


def test_random_streams_go_on_after_a_round_trip(folder):
    def draw():
        return [random.random(), np.random.standard_normal(3).tolist(), torch.randn(3).tolist()]

    random.gauss(0, 1)
    np.random.standard_normal()
    folder.save({"identity": IDENTITY, "random": random_state()})
    expected = draw()
    assert draw() != expected
    restore_random_state(folder.load(IDENTITY)["random"])
    assert draw() == expected


def test_a_state_is_written_only_where_there_is_room(folder):
    asked = []

    def room(n_bytes):
        asked.append(n_bytes)
        return contextlib.nullcontext(enter_result=len(asked) < 3)

    folder = CheckpointFolder(folder.path, room=room)
    for step in range(4):
        folder.save({"identity": IDENTITY, "step": step, "weights": [torch.zeros(1000), {"more": torch.zeros(500)}]})
    assert folder.load(IDENTITY)["step"] == 1
    assert [path.name for path in Path(folder.path).iterdir()] == ["state.pt"]
    assert len(set(asked)) == 1
    assert 6000 < (Path(folder.path) / "state.pt").stat().st_size <= asked[0]


def test_what_is_asked_for_holds_the_state_of_a_run(train, folder):
    asked = []

    def room(n_bytes):
        asked.append(n_bytes)
        return contextlib.nullcontext(enter_result=True)

    folder = CheckpointFolder(folder.path, room=room)
    train(CANDIDATES["ema, best"], checkpoint=folder)
    assert len(asked) == len(RUNGS)
    size = (Path(folder.path) / "state.pt").stat().st_size
    assert size <= asked[-1] <= size + 2**21
