"""SIGTERM while a fold run trains: its state is kept at once, and what goes on from it is bit for bit the same."""

import os
import re
import signal
import subprocess
import sys
import threading
from functools import partial

import pytest

from models.candidate import Candidate
from models.training.checkpoint import CheckpointFolder
from models.training.sigterm import Terminated, training
from small_models import train as train_fold

SETTINGS = {"epochs": 2, "batch_size": 16, "precision": "fp32", "keep": "best", "ema": 0.9}
WHERE = ("main", "thread")
AT = {"early": 3, "at the rung": 13, "late": 20}
TRAIN = """
import os, signal, sys, threading, time
from pathlib import Path
from data_prep.prepared import load_prepared
from models.candidate import Candidate
from models.training.checkpoint import CheckpointFolder
from models.backbones.locate_backbone import locate_backbone
from models.training.fold_options import FoldOptions
from models.training.learner import Learner
from models.training.train_fold import train_fold
from models.training.sigterm import delay_sigterm

data, root, settings, *cases = sys.argv[1:]
step = Learner.step

def train(folder, where, at):
    def counted(self, *args, **kwargs):
        counted.steps += 1
        if counted.steps == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *args, **kwargs)

    def work():
        candidate = Candidate.model_validate_json(settings)
        train_fold(
            candidate, load_prepared(data), 0, FoldOptions(rungs=(0.5,), device="cpu", checkpoint_seconds=1e9),
            backbone=locate_backbone(candidate.backbone), checkpoint=CheckpointFolder(folder),
        )
        print("finished", flush=True)

    counted.steps, Learner.step = 0, counted
    if where == "main":
        work()
    else:
        delay_sigterm()
        thread = threading.Thread(target=work)
        thread.start()
        while thread.is_alive():
            thread.join(0.05)
        time.sleep(5)

for case in cases:
    if not (child := os.fork()):  # what is imported once serves all
        where, at = case.split()
        train(Path(root, case), where, int(at))
        os._exit(0)
    print(case, "ended with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""For each case a process that trains, and is told to end in a step."""


@pytest.fixture(scope="module")
def train(prepared_tiny, tiny_bert):
    candidate = Candidate(backbone=tiny_bert, **SETTINGS)
    return partial(train_fold, candidate, prepared_tiny, 0, rungs=(0.5,), device="cpu")


@pytest.fixture(scope="module")
def plain(train):
    return train()


@pytest.fixture(scope="module")
def ended(prepared_tiny, tiny_bert, tmp_path_factory):
    """Return the folder of checkpoints of processes that were told to end, and what they printed."""
    root = tmp_path_factory.mktemp("ended")
    cases = [f"{where} {at}" for where in WHERE for at in AT.values()]
    settings = Candidate(backbone=tiny_bert, **SETTINGS).model_dump_json()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TRAIN, prepared_tiny.path, str(root), settings, *cases],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return root, done


@pytest.mark.parametrize("at", AT)
@pytest.mark.parametrize("where", WHERE)
def test_a_fold_run_that_was_told_to_end_goes_on_bit_for_bit(where, at, train, plain, ended):
    root, done = ended
    case = f"{where} {AT[at]}"
    printed = re.search(f"^{case} ended with (.*)$", done.stdout, re.MULTILINE)
    assert printed, done.stdout
    assert int(printed[1]) in (-signal.SIGTERM, 128 + signal.SIGTERM), done.stderr
    assert "finished" not in done.stdout

    resumed = train(checkpoint=CheckpointFolder(root / case))
    assert resumed.oof.equals(plain.oof)
    assert resumed.test.equals(plain.test)
    assert resumed.holdout.equals(plain.holdout)


def test_the_state_is_that_of_the_step_in_which_the_signal_came(monkeypatch, prepared_tiny, tiny_bert, tmp_path):
    candidate, folder = Candidate(backbone=tiny_bert, **SETTINGS), CheckpointFolder(tmp_path / "state")
    taken = []

    class Counting(type(folder)):
        def save(self, state):
            taken.append(state["step"])
            super().save(state)

    from models.training.learner import Learner

    before, plain = signal.getsignal(signal.SIGTERM), Learner.step

    def step(self, *args, **kwargs):
        plain(self, *args, **kwargs)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Learner, "step", step)
    with pytest.raises(Terminated):
        train_fold(candidate, prepared_tiny, 0, device="cpu", checkpoint=Counting(folder.path), checkpoint_seconds=1e9)
    assert taken == [1]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_thread_that_trains_leaves_the_handler_alone():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with training() as told_to_end:
            seen.append((signal.getsignal(signal.SIGTERM), told_to_end()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, False)]
