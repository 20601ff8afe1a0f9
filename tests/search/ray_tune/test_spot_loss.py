"""A worker whose node is about to be taken: it keeps the state of its fold run, which goes on elsewhere at no loss."""

import re
import time
from pathlib import Path

import pytest

from data_prep.prepared import Prepared
from data_prep.store.oof_store import OofStore
from search.ray_tune.lost_workers import MAX_WORKER_DEATHS
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
            if steps[0] == 4 and fold == 0:
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
"""The search on a machine that takes every worker four steps after it began, or went on with, fold 0."""


def test_a_fold_run_goes_on_from_where_it_was_however_often_it_is_taken(
    tmp_path: Path, prepared_tiny: Prepared, tiny_bert: str
) -> None:
    base = {"backbone": tiny_bert, "epochs": 2, "batch_size": 16, "precision": "fp32"}
    changes = {
        "ladder": {"enabled": False, "rungs": [0.5], "dead_below": -1.0},
        "candidates": {"plain": base},
        "checkpoint_seconds": 100000,
    }
    plain, taken = tmp_path / "plain", tmp_path / "taken"
    plain.mkdir()
    taken.mkdir()
    finish(start(write_study(plain, prepared_tiny, tiny_bert, **changes)))
    begun = time.monotonic()
    output = finish(start(write_study(taken, prepared_tiny, tiny_bert, **changes), program=["-c", TAKEN]))
    assert len(re.findall("its node was preempted", output)) > MAX_WORKER_DEATHS, output
    assert time.monotonic() - begun < 300
    stores = [OofStore(folder / "runs" / "tiny") for folder in (plain, taken)]
    for candidate, fold in stores[0].fold_runs():
        for kind in ("oof", "test", "holdout"):
            tables = [store.read(kind, candidate, fold) for store in stores]
            assert tables[0].equals(tables[1]), (kind, fold)
    assert len(list(stores[1].fold_runs())) == 4
