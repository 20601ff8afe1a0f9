"""A step in a process whose address space is truly limited: it ends, in micro-batches, for losses of either kind."""

import subprocess
import sys
from pathlib import Path

import pytest

STEP = """
import os, resource, sys
import numpy as np
import torch
from models.text.batches import Batch
from models.candidate import Candidate
from data_prep.task import PPPM
from models.backbones.locate_backbone import locate_backbone
from models.training.build_learner import new_learner

torch.set_num_threads(1)

def run(loss):
    candidate = Candidate(backbone=sys.argv[1], loss=loss, precision="fp32", max_length=60)
    backbone, cpu = locate_backbone(candidate.backbone), torch.device("cpu")
    learner = new_learner(candidate, PPPM, backbone=backbone, vocabulary=np.arange(40), device=cpu)
    draw = torch.Generator().manual_seed(1)

    def batch(rows):
        ids = torch.randint(5, 40, (rows, 60), generator=draw)
        targets, groups = torch.rand(rows, generator=draw), torch.arange(rows) // 6
        mask = torch.ones_like(ids)
        return Batch(input_ids=ids, attention_mask=mask, rows=np.arange(rows), targets=targets, groups=groups)

    learner.step(batch(2), 1.0)
    taken = next(line for line in open("/proc/self/status") if line.startswith("VmSize"))
    limit = int(taken.split()[1]) * 1024 + 100 * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    print(loss, learner.step(batch(1024), 1.0), learner.retry.micro_batches, flush=True)

for loss in sys.argv[2:]:
    if not (child := os.fork()):  # each with limits of its own
        run(loss)
        os._exit(0)
    if status := os.waitpid(child, 0)[1]:
        sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux, which says how much a process has")
def test_a_step_that_does_not_fit_is_done_in_micro_batches(tiny_bert: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", STEP, tiny_bert, "mse", "pearson"],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == ["mse", "pearson"]
    assert all(int(line[-1]) > 1 for line in lines), done.stdout
