"""Faults that befall whole searches: each ends with the bytes of one that nothing disturbed, and repeats nothing."""

import contextlib
import math
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from data_prep.prepared import Prepared
from data_prep.store.oof_store import OofStore
from data_prep.store.tables import read_table
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

JUMPING_CLOCK = """
import os, pathlib, time
real, calls = time.time, 0
def jumping():
    global calls
    calls += 1
    if calls == 2:
        pathlib.Path(__file__).with_name(f"jumped-in-{os.getpid()}").touch()
    return real() - 1800 * (calls % 50)
time.time = jumping
"""
"""The wall clock of every process of the search: it jumps back by half an hour at each call, then forward by a day."""


def stamps(run_dir: Path) -> dict[Path, int]:
    """Return when each table of a finished fold run was written."""
    ended = [path.relative_to(run_dir / "oof") for path in run_dir.glob("oof/*/fold-*.arrow")]
    written = [run_dir / kind / name for name in ended for kind in KINDS]
    return {path: path.stat().st_mtime_ns for path in written}


def flip_a_byte(path: Path) -> None:
    """Alter one bit of the last prediction of a table, whose value stays a likely one."""
    content = bytearray(path.read_bytes())
    prediction = OofStore(path.parents[2]).read(path.parents[1].name, path.parent.name, int(path.stem[-1]))[
        "prediction"
    ]
    values = prediction.to_numpy().tobytes()
    place = content.rindex(values) + len(values) - 4
    content[place] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def kill_all(processes: list[int]) -> None:
    """Kill processes as if at one moment: an orphaned worker would go on until it misses its driver."""
    for sent in (signal.SIGSTOP, signal.SIGKILL):
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, sent)


def leftovers(run_dir: Path) -> list[Path]:
    return [*run_dir.rglob("*.partial"), *run_dir.rglob("*.pt")]


def test_a_killed_raylet_is_noticed_and_the_search_continues_from_the_record(
    undisturbed: Path, tmp_path: Path, prepared_tiny: Prepared, tiny_bert: str
) -> None:
    study = write_study(tmp_path, prepared_tiny, tiny_bert)
    run_dir = tmp_path / "runs" / "tiny"
    process = start(study)
    wait_for_points(process, run_dir, 4)
    (lost,) = [child for child in processes_below(process.pid) if name_of(child) == "raylet"]
    kill_all([lost, *workers_of(process.pid)])  # with its worker, whose end then nobody reports
    output = finish(process)
    assert re.findall(r"(.*); continuing from the record", output) == [
        "Ray was lost: its raylet on this machine is gone (killed, or out of memory?)"
    ], output
    assert tables(run_dir) == tables(undisturbed)
    assert curves(run_dir) == curves(undisturbed)


def name_of(process: int) -> str:
    return Path(f"/proc/{process}/comm").read_text().strip()


def test_driver_killed_then_damaged_files_under_a_clock_that_jumps(
    undisturbed: Path, tmp_path: Path, prepared_tiny: Prepared, tiny_bert: str
) -> None:
    study = write_study(tmp_path, prepared_tiny, tiny_bert, budget={"hours": 2})
    run_dir = tmp_path / "runs" / "tiny"
    place = tmp_path / "clock"
    place.mkdir()
    (place / "sitecustomize.py").write_text(JUMPING_CLOCK)
    clock = {"PYTHONPATH": os.pathsep.join([str(place), os.environ.get("PYTHONPATH", "")])}
    process = start(study, **clock)
    wait_for_points(process, run_dir, 9)
    searching = [*workers_of(process.pid), process.pid]
    kill_all(searching)
    before, _ = process.communicate()
    assert len(searching) > 1
    assert all((place / f"jumped-in-{process}").exists() for process in searching), "driver and worker"
    (checkpoint,) = run_dir.glob("checkpoints/*/fold-*/state.pt")
    oof_of, test_of, *_, sound = sorted(run_dir.glob("oof/*/fold-*.arrow"))
    test_file = run_dir / "test" / test_of.relative_to(run_dir / "oof")
    flip_a_byte(oof_of)
    flip_a_byte(test_file)
    truncate(checkpoint)
    (sound.parent / "fold-3.arrow.99-ab.partial").write_bytes(b"half")
    kept = {path: stamp for path, stamp in stamps(run_dir).items() if path.parts[-2:] == sound.parts[-2:]}
    after = run(study, **clock)
    assert f"{oof_of}: content does not match its checksum" in after
    assert f"{test_file}: content does not match its checksum" in after
    assert f"{checkpoint}: not a whole checkpoint" in after
    assert "budget.hours" not in before + after
    clocks = read_table(run_dir / "curves.arrow")["seconds"].to_pylist()
    assert all(0 <= seconds < 300 for seconds in clocks if not math.isnan(seconds)), clocks
    repeated = {label for label in started(after) if label in finished(before)}
    assert len(repeated) == 2, after
    assert kept.items() <= stamps(run_dir).items()
    assert len(list((run_dir / "damaged").iterdir())) == 2 * 3
    assert not leftovers(run_dir)
    assert curves(run_dir) == curves(undisturbed)
    assert tables(run_dir) == tables(undisturbed)


@pytest.fixture
def two_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Cluster, Callable[[], Any]]]:
    """Start a cluster of a head without room for fold runs; the function adds a node with a core."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # the paths of its sockets may not be longer than 107 bytes
    settings = {
        "RAY_TMPDIR": folder,
        "RAY_worker_niceness": "0",
        "OMP_NUM_THREADS": "1",
        "BLENDFOLD_CACHE": str(tmp_path / "cache"),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    size = {"object_store_memory": 100_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **size})
    try:
        yield cluster, lambda: cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_node_dies_while_its_fold_run_trains_and_another_takes_over(
    two_nodes: tuple[Cluster, Callable[[], Any]],
    undisturbed: Path,
    tmp_path: Path,
    prepared_tiny: Prepared,
    tiny_bert: str,
) -> None:
    """Only a raylet's death tells: its worker, which would outlive the search, is held still meanwhile."""
    cluster, add_node = two_nodes
    study = write_study(tmp_path, prepared_tiny, tiny_bert)
    run_dir = tmp_path / "runs" / "tiny"
    raylet = add_node().all_processes["raylet"][0].process.pid
    process = start(study, "--address", cluster.address)
    wait_for_points(process, run_dir, 4)
    workers = workers_of(raylet)
    assert workers
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    kept = stamps(run_dir)
    os.kill(raylet, signal.SIGKILL)
    before = read_until(
        process, "lost its worker|got no worker|its node was preempted"
    )  # Ray tells it in one of three ways
    add_node()
    after = finish(process)
    for worker in workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
    assert not set(finished(before)) & set(finished(after))
    assert kept.items() <= stamps(run_dir).items()
    assert not leftovers(run_dir)
    assert curves(run_dir) == curves(undisturbed)
    assert tables(run_dir) == tables(undisturbed)


def read_until(process: "subprocess.Popen[str]", pattern: str) -> str:
    """Return what a search prints up to a line in which the pattern is found; nothing later is taken."""
    assert process.stdout is not None
    watchdog = threading.Timer(240, process.kill)
    watchdog.start()
    printed = ""
    while not re.search(pattern, printed):
        letter = os.read(process.stdout.fileno(), 1).decode(errors="replace")
        assert letter, printed
        printed += letter
    watchdog.cancel()
    return printed


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Callable[[Path], None]]:
    """Return a function that mounts a disk of 4 kB on a folder; all go at the end."""
    mounted: list[Path] = []

    def mount(place: Path) -> None:
        place.mkdir(parents=True)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", place], check=False).returncode:
            pytest.skip("a small disk can be mounted by root alone")
        mounted.append(place)

    yield mount
    for place in mounted:
        subprocess.run(["umount", "--lazy", place], check=False)


def test_a_full_disk_ends_the_search_in_order_and_room_lets_it_go_on(
    full_disk: Callable[[Path], None], undisturbed: Path, tmp_path: Path, prepared_tiny: Prepared, tiny_bert: str
) -> None:
    study = write_study(tmp_path, prepared_tiny, tiny_bert)
    run_dir = tmp_path / "runs" / "tiny"
    full_disk(run_dir / "oof")
    full_disk(run_dir / "checkpoints")
    process = start(study)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 2, output
    assert re.search(rf"{run_dir}/checkpoints/\S+: no checkpoint can be written \(No space left", output)
    assert re.search(rf"error: .*No space left on device: '{run_dir}/oof/.*free space.*same command again", output)
    assert "Traceback" not in output
    assert len(finished(output)) == 1, "one table fits"
    kept = stamps(run_dir)
    for place in ("oof", "checkpoints"):
        subprocess.run(["mount", "-o", "remount,size=8m", run_dir / place], check=True)
    again = run(study)
    assert not set(finished(output)) & set(finished(again))
    assert kept.items() <= stamps(run_dir).items()
    assert not leftovers(run_dir)
    assert curves(run_dir) == curves(undisturbed)
    assert tables(run_dir) == tables(undisturbed)
