"""A worker whose node is about to be taken: it keeps the state of its fold run, which goes on elsewhere at no loss."""

import re
import time
from pathlib import Path

import pytest

from data_prep.prepared import Prepared
from data_prep.store.oof_store import OofStore
from models.candidate import Candidate
from search.driver.worker_settings import fold_run_settings
from search.ray_tune.lost_workers import MAX_WORKER_DEATHS
from search.study.read_study import read_study, resolve_study
from search.worker.fold_run import run_fold
from search.worker.messages import Assignment, FoldRunOrder, FoldRunResources
from whole_search import finish, start, write_study

pytestmark = pytest.mark.ray

TAKEN = """
import os, signal, sys
from functools import partial
from data_prep.console import run_app
from search.ray_tune import run_study
from search.ray_tune.trainable import make_trainable
from search.worker.messages import order_from_dict
from search.__main__ import app

def make_taken(settings):
    fold_run = make_trainable(settings)

    def taken(config):
        from models.training.learner import Learner
        plain, steps, fold = Learner.step, [0], order_from_dict(config).assignment.fold

        def step(self, *args, **kwargs):
            steps[0] += 1
            if steps[0] == 7 and fold == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            return plain(self, *args, **kwargs)

        Learner.step = step
        try:
            fold_run(config)
        finally:
            Learner.step = plain

    taken.__mixins__ = fold_run.__mixins__
    return taken

plain = run_study.run_study
run_study.run_study = partial(plain, tune=partial(run_study.run_tune, make_trainable=make_taken))
run_app(app)
"""
"""The search on a machine that takes every worker seven steps after it began, or went on with, fold 0."""


def test_a_fold_run_goes_on_from_where_it_was_however_often_it_is_taken(
    tmp_path: Path, prepared_tiny: Prepared, tiny_bert: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it leaves is what the same fold runs leave in this process, where nothing takes them."""
    base = {"backbone": tiny_bert, "epochs": 2, "batch_size": 16, "precision": "fp32"}
    changes = {
        "ladder": {"enabled": False, "rungs": [0.5], "dead_below": -1.0},
        "candidates": {"plain": base},
        "checkpoint_seconds": 100000,
    }
    study = write_study(tmp_path, prepared_tiny, tiny_bert, **changes)
    begun = time.monotonic()
    output = finish(start(study, program=["-c", TAKEN]))
    assert len(re.findall("its node was preempted", output)) > MAX_WORKER_DEATHS, output
    assert time.monotonic() - begun < 300
    undisturbed = str(tmp_path / "undisturbed")
    taken, plain = OofStore(tmp_path / "runs" / "tiny"), OofStore(undisturbed)
    monkeypatch.setenv("BLENDFOLD_CACHE", str(tmp_path / "cache"))
    settings = fold_run_settings(resolve_study(read_study(study), prepared_tiny), undisturbed, backbones=None)
    (candidate,) = taken.candidates()
    assert taken.folds(candidate) == [0, 1, 2, 3]
    for fold in range(4):
        here = Assignment(Candidate(**base), fold, 0)
        run_fold(settings, FoldRunOrder(here, FoldRunResources(1, 0), threads=1), [].append)
        for kind in ("oof", "test", "holdout"):
            assert taken.read(kind, candidate, fold).equals(plain.read(kind, candidate, fold)), (kind, fold)
