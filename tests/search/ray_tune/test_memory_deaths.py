"""A fold run whose death by Ray's memory monitor took Tune with it: its family goes on in smaller pieces."""

from pathlib import Path

import pytest

from data_prep.prepared import Prepared
from data_prep.store.oof_store import OofStore
from data_prep.store.sealed_records import read_record
from whole_search import finish, start, write_study

pytestmark = pytest.mark.ray

MORTAL = """
from ray.exceptions import OutOfMemoryError
from data_prep.console import run_app
from search.__main__ import app
from search.ray_tune.ray_internals import actor_id_of
from search.ray_tune.scheduler import FoldScheduler

reports, pass_on = 0, FoldScheduler.on_trial_result

def die_once(self, controller, trial, result):
    global reports
    reports += 1
    if reports == 1:
        page = f"Selected to kill: (Actor({actor_id_of(trial)}): pid=1)"
        raise RuntimeError("Caught unexpected exception") from OutOfMemoryError(page)
    return pass_on(self, controller, trial, result)

FoldScheduler.on_trial_result = die_once
run_app(app)
"""
"""The search with a Tune that dies of the first fold run's worker, before the search has heard of it."""


def test_a_fold_run_that_ray_killed_for_memory_is_tried_in_halved_micro_batches(
    tmp_path: Path, prepared_tiny: Prepared, tiny_bert: str
) -> None:
    base = {"backbone": tiny_bert, "epochs": 1, "batch_size": 16, "precision": "fp32"}
    study = write_study(
        tmp_path,
        prepared_tiny,
        tiny_bert,
        ladder={"enabled": False, "rungs": [0.5], "dead_below": -1.0},
        candidates={"plain": base},
    )
    output = finish(start(study, program=["-c", MORTAL]))
    assert output.count("Ray Tune died (") == 1, output
    assert output.count("each step is computed in 2 micro-batches") == 4, output
    remembered = read_record(tmp_path / "runs" / "tiny" / "memory.json", dict, remedy="")
    assert remembered == {tiny_bert: {"cpu": 1.0, "gpu": 0.0, "micro_batches": 2}}
    assert len(list(OofStore(tmp_path / "runs" / "tiny").fold_runs())) == 4
