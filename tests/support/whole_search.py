"""Whole searches of a tiny random BERT in a process of their own: start one, wait for it, read what it left."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

from data_prep.prepared import Prepared
from data_prep.store.tables import CURVES_SCHEMA, read_table
from search.run_dir.curves import Curves

CORES = sorted(os.sched_getaffinity(0))
CORE = CORES[int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % len(CORES)]
"""Searches run on one core, so that one fold run follows another and the order of events is fixed; each process of
pytest has another."""
KINDS = ("oof", "test", "holdout")


def write_study(folder: Path, data: Prepared, backbone: str, **changes: object) -> Path:
    """Write a study of three candidates whose fold runs come one after another.

    One is stopped at a rung; one dies on fold 0 (its first seed learns the opposite) and is tried again.
    """
    base = {"backbone": backbone, "epochs": 3, "backbone_lr": 0.003, "batch_size": 16, "precision": "fp32"}
    study = {
        "name": "tiny",
        "data": data.path,
        "resources": {"cpu": 1},
        "ladder": {"rungs": [0.5], "min_peers": 1, "noise": 0.05, "min_gain": 1.0, "dead_below": 0.0},
        "checkpoint_seconds": 1,
        "candidates": {"mean": base, "cls": {**base, "head": "cls"}, "slow": {**base, "backbone_lr": 1e-6}},
        **changes,
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def command(study: Path) -> list[str]:
    return [sys.executable, "-m", "search", "run", str(study), "--runs", str(study.parent / "runs"), "--no-dashboard"]


def start(study: Path, *options: str, program: Sequence[str] = (), **environment: str) -> "subprocess.Popen[str]":
    """Start a search, by `python -m search` or by a program that stands in for it."""
    asked = command(study)
    return subprocess.Popen(
        ["taskset", "--cpu-list", str(CORE), *([sys.executable, *program, *asked[3:]] if program else asked), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "RAY_worker_niceness": "0",  # its 15 would starve the workers on a busy machine
            "BLENDFOLD_CACHE": str(study.parent / "cache"),
            **environment,
        },
    )


def run(study: Path, *options: str, **environment: str) -> str:
    return finish(start(study, *options, **environment))


def finish(process: "subprocess.Popen[str]") -> str:
    """Return what a search printed; one that does not end is ended, and fails the test."""
    try:
        output, _ = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == 0, output
    return output


def wait_for_points(process: "subprocess.Popen[str]", run_dir: Path, number: int) -> None:
    """Wait until `number` rungs are on record."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        if len(Curves(str(run_dir)).entries) >= number:
            return
        time.sleep(0.02)
    raise AssertionError(f"{number} rungs never came: {process.communicate()[0]}")


def tables(run_dir: Path) -> dict[str, bytes]:
    """Return every prediction table of a run directory."""
    return {
        str(path.relative_to(run_dir)): path.read_bytes()
        for kind in KINDS
        for path in sorted((run_dir / kind).rglob("*.arrow"))
    }


def curves(run_dir: Path) -> list[tuple[str, int, float, float, str]]:
    """Return what every rung said, without its clock."""
    table = read_table(run_dir / "curves.arrow", schema=CURVES_SCHEMA).drop_columns(["seconds"])
    return [
        (row["candidate"], row["fold"], row["progress"], row["epoch"], repr(row["metric"])) for row in table.to_pylist()
    ]


def workers_of(driver: int) -> list[int]:
    """Return the processes that run a fold run of this driver, by the name that Ray gives them."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and _is_worker(int(folder.name)) and driver in _ancestors(int(folder.name)):
            found.append(int(folder.name))
    return found


def _is_worker(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().startswith(b"ray::ImplicitFunc")
    except OSError:
        return False


def _ancestors(process: int) -> list[int]:
    found: list[int] = []
    while process > 1:
        try:
            process = int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            break
        found.append(process)
    return found


def started(output: str) -> list[str]:
    """Return the label of every fold run that a search started, in order."""
    return re.findall(r"^ *\S+  (\S+)  starts", output, flags=re.MULTILINE)


def finished(output: str) -> list[str]:
    """Return the label of every fold run that a search finished, in order."""
    return re.findall(r"^ *\S+  (\S+)  done", output, flags=re.MULTILINE)


def processes_below(ancestor: int) -> list[int]:
    everything = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
    return [process for process in everything if ancestor in _ancestors(process)]
