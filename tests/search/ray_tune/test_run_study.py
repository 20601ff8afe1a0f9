"""Whole searches on a tiny random BERT: run, run again, and every way to be cut off."""

import contextlib
import itertools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from data_prep.prepared import Prepared
from data_prep.store.oof_store import OofStore, Provenance
from search.run_dir.status_file import read_statuses
from search.worker.messages import RETRY_SEED
from whole_search import (
    KINDS,
    curves,
    finish,
    finished,
    processes_below,
    run,
    start,
    started,
    tables,
    wait_for_points,
    workers_of,
    write_study,
)

pytestmark = pytest.mark.ray


def test_a_search_leaves_tables_that_verify_for_each_finished_fold_run(undisturbed: Path) -> None:
    store = OofStore(undisturbed)
    finished = [(row[0], row[1]) for row in curves(undisturbed) if row[2] == 1.0 and row[4] != "nan"]
    assert sorted(finished) == sorted(store.fold_runs())
    assert len(finished) == len(set(finished))
    for candidate, fold in finished:
        for kind in KINDS:
            assert store.read(kind, candidate, fold).num_rows > 0
    assert any(len(store.folds(candidate)) == 4 for candidate in store.candidates())
    assert not list((undisturbed / "checkpoints").rglob("*.pt")), "a finished fold run leaves no checkpoint"


def test_a_run_directory_says_what_each_of_its_files_is(undisturbed: Path) -> None:
    told = (undisturbed / "README.txt").read_text()
    assert [path.name for path in undisturbed.iterdir() if path.name not in told and path.name != "README.txt"] == []


def test_a_hopeless_candidate_is_stopped_early(undisturbed: Path) -> None:
    states = sorted(status.state for status in read_statuses(str(undisturbed)).values())
    assert states == ["finished", "stopped", "stopped"]
    assert len(list(OofStore(undisturbed).fold_runs())) < 3 * 4


def test_a_dead_fold_run_is_retried_with_another_seed(undisturbed: Path) -> None:
    store = OofStore(undisturbed)
    provenance = [Provenance.of(store.read("oof", *fold_run)) for fold_run in store.fold_runs()]
    assert {(entry.attempt, entry.seed) for entry in provenance} == {(0, 42), (1, 42 + RETRY_SEED)}


def test_running_again_repeats_nothing(undisturbed: Path) -> None:
    before, told = tables(undisturbed), curves(undisturbed)
    stamps = {path: path.stat().st_mtime_ns for path in undisturbed.glob("oof/*/*.arrow")}
    output = run(undisturbed.parent.parent / "study.yaml")
    assert " starts" not in output
    assert tables(undisturbed) == before
    assert curves(undisturbed) == told
    assert stamps == {path: path.stat().st_mtime_ns for path in undisturbed.glob("oof/*/*.arrow")}


WATCHED = """
import os, signal
from functools import partial
from pathlib import Path
from data_prep.console import run_app
from search.ray_tune import run_study
from search.ray_tune.trainable import make_trainable
from search.worker.messages import order_from_dict
from search.__main__ import app

steps, death = Path(os.environ["STEPS"]), Path(os.environ["DEATH"])

def make_watched(settings):
    fold_run = make_trainable(settings)

    def watched(config):
        from models.training.learner import Learner
        step, assignment = Learner.step, order_from_dict(config).assignment

        def log(self, batch, share, *, epoch):
            with steps.open("a") as file:
                file.write(f"{assignment.label} {assignment.attempt} {epoch}\\n")
            if assignment.fold == 2 and epoch == 2.25 and death.exists():
                death.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            step(self, batch, share, epoch=epoch)

        Learner.step = log
        try:
            fold_run(config)
        finally:
            Learner.step = step

    return watched

plain = run_study.run_study
run_study.run_study = partial(plain, tune=partial(run_study.run_tune, make_trainable=make_watched))
run_app(app)
"""
"""The search, whose workers write down every step before they take it; while there is a file DEATH, the first that is a
quarter into the third epoch of fold 2 removes it and is killed."""


def test_search_interrupted_then_killed_then_a_worker_killed_change_nothing(
    undisturbed: Path, tmp_path: Path, prepared_tiny: Prepared, tiny_bert: str
) -> None:
    """The driver is killed alone: whether its workers notice at once or later, the next search must bear them."""
    study = write_study(tmp_path, prepared_tiny, tiny_bert)
    run_dir, steps, death = tmp_path / "runs" / "tiny", tmp_path / "steps", tmp_path / "death"
    process = start(study)
    wait_for_points(process, run_dir, 1)
    process.send_signal(signal.SIGINT)
    interrupted, _ = process.communicate(timeout=60)
    assert process.returncode == 130, interrupted
    assert "Traceback" not in interrupted
    assert f"blendfold run {study}" in interrupted
    process = start(study)
    wait_for_points(process, run_dir, 3)
    process.kill()
    killed, _ = process.communicate()
    death.touch()
    last = finish(start(study, program=["-c", WATCHED], STEPS=str(steps), DEATH=str(death)))
    assert last.count("lost its worker") == 1
    assert not death.exists()
    taken: dict[str, list[float]] = {}
    for label, attempt, epoch in map(str.split, steps.read_text().splitlines()):
        taken.setdefault(label + attempt, []).append(float(epoch))
    (victim,) = [label for label, epochs in taken.items() if epochs != sorted(set(epochs))]  # of others, no step twice
    again = taken[victim].index(2.25) + 1
    assert taken[victim][0] == 0.0, "it began in this search"
    assert 1.5 <= taken[victim][again] <= 2.25, "on from its last checkpoint: the rung is at 1.5 epochs"
    assert taken[victim][again:] == [step / 12 for step in range(round(taken[victim][again] * 12), 36)]
    assert started(last).count(victim[:-1]) == 2
    assert not set(finished(interrupted) + finished(killed)) & set(started(last))
    assert not set(finished(interrupted)) & set(started(killed))
    assert curves(run_dir) == curves(undisturbed)
    assert tables(run_dir) == tables(undisturbed)


MORTAL = """
from ray.exceptions import OutOfMemoryError
from data_prep.console import run_app
from search.__main__ import app
from search.ray_tune.scheduler import FoldScheduler

reports, pass_on = 0, FoldScheduler.on_trial_result

def die_now_and_then(self, controller, trial, result):
    global reports
    reports += 1
    if reports in (3, 4):
        raise RuntimeError("Caught unexpected exception") from OutOfMemoryError("the memory monitor killed a worker")
    return pass_on(self, controller, trial, result)

FoldScheduler.on_trial_result = die_now_and_then
run_app(app)
"""
"""The search with a Tune that dies at the third report and again at the next, before the search has heard of them."""


def test_when_tune_dies_the_search_goes_on_and_ends_with_the_same_bytes(
    undisturbed: Path, tmp_path: Path, prepared_tiny: Prepared, tiny_bert: str
) -> None:
    study = write_study(tmp_path, prepared_tiny, tiny_bert)
    output = finish(start(study, program=["-c", MORTAL]))
    run_dir = tmp_path / "runs" / "tiny"
    assert output.count("Ray Tune died (") == 2, output
    assert len(list((run_dir / "ray").glob("session-*"))) == 3
    assert curves(run_dir) == curves(undisturbed)
    assert tables(run_dir) == tables(undisturbed)


UNFIT = """
from dataclasses import replace

from search.driver import worker_settings
from search.worker.node_check import requirements_of

worker_settings.requirements_of = lambda run_dir, **given: replace(requirements_of(run_dir, **given), code="")
from search.__main__ import app, run_app
run_app(app)
"""


def test_a_node_that_lacks_something_ends_the_search_before_anything_fails(
    tmp_path: Path, prepared_tiny: Prepared, tiny_bert: str
) -> None:
    process = start(write_study(tmp_path, prepared_tiny, tiny_bert), program=["-c", UNFIT])
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2, output
    assert f"node {socket.gethostname()}: its code differs from the driver's" in output
    assert "Every node needs this version of blendfold" in output
    assert "failed:" not in output
    assert tables(tmp_path / "runs" / "tiny") == {}


def test_a_fold_run_that_cannot_be_done_fails_alone(tmp_path: Path, prepared_tiny: Prepared, tiny_bert: str) -> None:
    base = {"backbone": tiny_bert, "epochs": 1, "batch_size": 32}
    study = write_study(
        tmp_path,
        prepared_tiny,
        tiny_bert,
        ladder={"enabled": False, "dead_below": -1.0},
        candidates={"absent": {**base, "backbone": str(tmp_path / "absent")}, "sound": base},
    )
    output = run(study)
    assert "failed: " in output
    assert str(tmp_path / "absent") in output
    assert len(list(OofStore(tmp_path / "runs" / "tiny").fold_runs())) == 4


@dataclass(frozen=True)
class Cluster:
    """A running Ray head with one core."""

    pid: int
    address: str
    token: str
    """The file that holds its token."""

    @property
    def environment(self) -> dict[str, str]:
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": self.token}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Start a Ray cluster on the loopback interface, and end it with everything it started."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # the paths of its sockets may not be longer than 107 bytes
    token = tmp_path / "token"
    token.write_text(secrets.token_hex(32))
    port, client_port = free_ports(2)
    resources = "--num-cpus 1 --object-store-memory 100000000 --include-dashboard false --disable-usage-stats"
    place = f"--node-ip-address 127.0.0.2 --port {port} --ray-client-server-port {client_port} --temp-dir {folder}"
    head = subprocess.Popen(
        [Path(sys.executable).with_name("ray"), "start", "--head", "--block", *resources.split(), *place.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "RAY_worker_niceness": "0",
            "BLENDFOLD_CACHE": str(tmp_path / "cache"),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
        },
    )
    try:
        assert head.stdout is not None
        printed = list(itertools.takewhile(lambda line: "--block" not in line, head.stdout))
        assert head.poll() is None, "".join(printed)
        yield Cluster(head.pid, f"127.0.0.2:{port}", str(token))
    finally:
        for process in [*processes_below(head.pid), head.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        head.communicate()
        shutil.rmtree(folder, ignore_errors=True)


def free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.2", 0))) for _ in range(number)]
        return [listener.getsockname()[1] for listener in listeners]


def test_on_a_cluster_it_goes_on_after_an_interruption_and_leaves_nothing_there(
    cluster: Cluster, undisturbed: Path, tmp_path: Path, prepared_tiny: Prepared, tiny_bert: str
) -> None:
    study = write_study(tmp_path, prepared_tiny, tiny_bert)
    run_dir = tmp_path / "runs" / "tiny"
    process = start(study, "--address", cluster.address, **cluster.environment)
    wait_for_points(process, run_dir, 4)
    assert workers_of(cluster.pid), "the cluster's worker was to do it"
    process.send_signal(signal.SIGTERM)  # as `ray job stop` does
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert f"--address {cluster.address}" in output
    deadline = time.monotonic() + 20
    while workers_of(cluster.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not workers_of(cluster.pid), "fold runs must end with their driver"
    assert len(tables(run_dir)) < len(tables(undisturbed)), "it was to be interrupted before the end"
    run(study, "--address", cluster.address, **cluster.environment)
    assert curves(run_dir) == curves(undisturbed)
    assert tables(run_dir) == tables(undisturbed)
