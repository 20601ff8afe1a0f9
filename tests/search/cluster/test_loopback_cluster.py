"""From `ray up` to `ray down`: a search launched as a job of three nodes, one of which dies while it trains."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from data_prep.prepared import Prepared
from loopback import ROOT, WORKERS, Loopback, loopback, reason_against
from whole_search import run, tables, write_study

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.skipif(bool(reason_against()), reason=reason_against())]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    with loopback(tmp_path_factory.mktemp("c")) as place:
        yield place
    assert place.processes() == []


def study_of(folder: Path, data: Prepared, backbone: str) -> Path:
    """Write a study in which nothing is stopped, so that its tables do not depend on which fold run ends first."""
    base = {"backbone": backbone, "epochs": 12, "backbone_lr": 0.003, "batch_size": 4, "precision": "fp32"}
    candidates = {"mean": base, "cls": {**base, "head": "cls"}}
    return write_study(folder, data, backbone, ladder={"enabled": False}, candidates=candidates)


def wait_for(what: Callable[[], object], seconds: float, log: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, log()
        time.sleep(0.2)


def command(place: Loopback, verb: str, *arguments: str) -> list[str]:
    where = ["--cluster", str(place.file), "--port", str(place.dashboard)]
    return [sys.executable, "-m", "search", verb, *arguments, *where]


def search(place: Loopback, verb: str, *arguments: str) -> str:
    return place.call(command(place, verb, *arguments), timeout=240)


def test_a_launched_search_outlives_a_node_and_comes_home(
    cluster: Loopback, tmp_path: Path, prepared_tiny: Prepared, tiny_bert: str
) -> None:
    study, runs = study_of(tmp_path, prepared_tiny, tiny_bert), tmp_path / "shared"
    given = ["--data", prepared_tiny.path, "--runs", str(runs)]
    told = search(cluster, "launch", str(study), *given, "--detach")
    assert "$ ray job submit --address http://127.0.0.1:" in told
    job = re.search(r"submitted (\S+);", told)
    assert job is not None
    log_file = tmp_path / "attached.log"
    with log_file.open("w") as output:
        attached = subprocess.Popen(
            command(cluster, "attach"),
            cwd=ROOT,
            env=cluster.environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    checkpoints = runs / "tiny" / "checkpoints"
    wait_for(lambda: len(list(checkpoints.glob("*/*/*"))) > 1, 180, log_file.read_text)
    raylets = cluster.processes("raylet/raylet", f"--node_ip_address={WORKERS[-1]}")
    assert len(raylets) == 1
    os.kill(raylets[0], signal.SIGKILL)
    assert attached.wait(timeout=400) == 0, log_file.read_text()
    log = log_file.read_text()
    assert "continues from its last checkpoint" in log
    assert f"{job[1]} is done" in log

    home = tmp_path / "home"
    search(cluster, "fetch", job[1], "--out", str(home))
    alone = tmp_path / "alone"
    alone.mkdir()
    run(study_of(alone, prepared_tiny, tiny_bert))
    assert tables(home) == tables(alone / "runs" / "tiny") != {}
    submission = (home / "blends" / "launched" / "submission.csv").read_text()
    assert len(submission.splitlines()) == 1 + prepared_tiny.test.num_rows
    assert {path.name for path in home.iterdir()}.isdisjoint({"weights", "checkpoints", "ray"})


def test_a_launched_search_is_stopped_in_order_and_goes_on(
    cluster: Loopback, tmp_path: Path, prepared_tiny: Prepared, tiny_bert: str
) -> None:
    study, runs = study_of(tmp_path, prepared_tiny, tiny_bert), tmp_path / "shared"
    given = ["--data", prepared_tiny.path, "--runs", str(runs), "--detach"]
    search(cluster, "launch", str(study), *given)
    run_dir = runs / "tiny"
    wait_for(lambda: tables(run_dir), 240, lambda: "no fold run finished")
    assert f"what is finished stays in {run_dir}" in search(cluster, "stop", "tiny")
    wait_for(lambda: not (run_dir / "driver.json").exists(), 60, lambda: "the driver did not end in order")
    kept = tables(run_dir)
    assert 0 < len(kept) < 3 * 8, "it was to be stopped before the end"
    search(cluster, "launch", str(study), *given)
    submission = run_dir / "blends" / "launched" / "submission.csv"
    wait_for(submission.exists, 240, lambda: "it did not go on")
    assert len(tables(run_dir)) == 3 * 8
    assert {name: tables(run_dir)[name] for name in kept} == kept


def test_who_has_no_token_or_another_cannot_submit_a_job(cluster: Loopback) -> None:
    for token, code in (("", 401), ("f" * 64, 403)):
        request = urllib.request.Request(
            f"http://127.0.0.1:{cluster.dashboard}/api/jobs/",
            data=json.dumps({"entrypoint": "touch /tmp/was-here"}).encode(),
            headers={"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})},
        )
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(request, timeout=20)
        assert refusal.value.code == code
    token_file = cluster.folder / "client" / ".ray" / "auth_token"
    kept = token_file.read_text()
    try:
        token_file.write_text("f" * 64)
        done = subprocess.run(
            command(cluster, "attach"),
            cwd=ROOT,
            env=cluster.environment,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        token_file.write_text(kept)
    assert done.returncode == 2
    assert "refuses our token" in done.stderr
    assert kept not in done.stdout + done.stderr
