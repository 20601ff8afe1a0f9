"""One driver at a time in a run directory."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from data_prep.errors import InputError
from data_prep.store.files import list_names, write_json
from search.run_dir.driver_lock import LOCK_FILE, DriverLock, hold_driver_lock
from store_server import Store

HOLDER = """
import sys, time
from search.run_dir.driver_lock import hold_driver_lock
with hold_driver_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(run_dir: Path) -> "subprocess.Popen[str]":
    """Start another process that holds the directory."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(run_dir)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def put(held: DriverLock, run_dir: Path) -> None:
    (run_dir / LOCK_FILE).write_text(json.dumps(asdict(held)))


def test_a_lock_exists_while_it_is_held_and_is_gone_afterwards(tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "study"
    for _ in range(2):
        with hold_driver_lock(str(run_dir)):
            assert json.loads((run_dir / LOCK_FILE).read_text())["pid"] == os.getpid()
        assert list(run_dir.iterdir()) == []
    with pytest.raises(KeyboardInterrupt), hold_driver_lock(str(run_dir)):
        raise KeyboardInterrupt
    assert list(run_dir.iterdir()) == []


@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGTERM])
def test_a_second_driver_is_refused_until_the_first_is_gone(tmp_path: Path, ended_by: signal.Signals) -> None:
    with holder(tmp_path) as first:
        with pytest.raises(InputError, match=f"process {first.pid} on {socket.gethostname()}, since 20") as refused:
            hold_driver_lock(str(tmp_path)).__enter__()
        assert f"kill -INT {first.pid}" in str(refused.value)
        first.send_signal(ended_by)
        os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)
        assert (tmp_path / LOCK_FILE).exists()
        with hold_driver_lock(str(tmp_path)):  # the first is a zombie still: nobody has asked how it ended
            pass


def test_a_later_process_of_the_same_number_does_not_block(tmp_path: Path) -> None:
    put(replace(DriverLock.mine(), ticks=DriverLock.mine().ticks - 1), tmp_path)
    with hold_driver_lock(str(tmp_path)):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["ticks"] == DriverLock.mine().ticks


def test_a_lock_of_another_host_is_never_taken_over(tmp_path: Path) -> None:
    put(DriverLock(2**22 + 1, "elsewhere", 7, "2026-01-01 00:00:00 +0000", "ab"), tmp_path)
    with pytest.raises(InputError, match=f"{2**22 + 1} on elsewhere.*If it is gone, remove {tmp_path}"):
        hold_driver_lock(str(tmp_path)).__enter__()
    (tmp_path / LOCK_FILE).unlink()
    with hold_driver_lock(str(tmp_path)):
        pass


@pytest.mark.parametrize("elsewhere", [{"boot": "an earlier one"}, {"namespace": "pid:[1]"}])
def test_a_lock_of_this_host_name_whose_process_cannot_be_seen_is_never_taken_over(tmp_path: Path, elsewhere) -> None:
    put(replace(DriverLock.mine(), pid=2**22 + 1, **elsewhere), tmp_path)
    with pytest.raises(InputError, match=f"another container or machine of the name.*remove {tmp_path}"):
        hold_driver_lock(str(tmp_path)).__enter__()


@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(["unshare", "-pf", "--mount-proc", "true"], capture_output=True, check=False).returncode != 0,
    reason="this user may not make a pid namespace",
)
def test_a_live_driver_is_not_taken_over_from_another_pid_namespace(tmp_path: Path) -> None:
    with holder(tmp_path) as first:
        inside = ["unshare", "-pf", "--mount-proc", sys.executable, "-c", HOLDER, str(tmp_path)]
        second = subprocess.run(inside, capture_output=True, text=True, timeout=60, check=False)
        first.kill()
    assert "held" not in second.stdout
    assert "It cannot be seen from here whether it is alive" in second.stderr


def test_a_lock_of_an_older_version_counts_by_host_name_alone(tmp_path: Path) -> None:
    old = {name: value for name, value in asdict(DriverLock.mine()).items() if name not in ("boot", "namespace")}
    (tmp_path / LOCK_FILE).write_text(json.dumps(old))
    with pytest.raises(InputError, match="kill -INT"):
        hold_driver_lock(str(tmp_path)).__enter__()
    (tmp_path / LOCK_FILE).write_text(json.dumps({**old, "pid": 2**22 + 1}))
    with hold_driver_lock(str(tmp_path)):
        pass


def test_a_lock_file_that_no_driver_wrote_is_refused(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text("{}")
    with pytest.raises(InputError, match="remove it if no search runs here"):
        hold_driver_lock(str(tmp_path)).__enter__()


def test_of_many_that_take_over_at_once_one_gets_through(tmp_path: Path) -> None:
    put(DriverLock(2**22 + 1, socket.gethostname(), 7, "then", "ab"), tmp_path)
    together, done = threading.Barrier(8), threading.Barrier(8)
    outcomes: list[bool] = []

    def contend() -> None:
        together.wait()
        try:
            with hold_driver_lock(str(tmp_path)):
                outcomes.append(True)
                done.wait()
        except InputError:
            outcomes.append(False)
            done.wait()

    threads = [threading.Thread(target=contend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 7 + [True]


def test_an_object_store_refuses_a_later_driver(store: Store) -> None:
    run_dir = f"{store.uri}/study"
    with hold_driver_lock(run_dir, settle_seconds=0):
        assert list_names(run_dir) == [LOCK_FILE]
        with pytest.raises(InputError, match="a search already runs in this directory"):
            hold_driver_lock(run_dir, settle_seconds=0).__enter__()
    assert list_names(run_dir) == []


def test_of_drivers_that_start_together_in_an_object_store_one_goes_on(store: Store) -> None:
    outcomes, looked, done = [], threading.Barrier(3), threading.Barrier(3)

    def write_late(content: object, path: str) -> None:
        time.sleep(0.2 * looked.wait())  # no one writes before all have looked, and not all at once
        write_json(content, path)

    def contend() -> None:
        try:
            with hold_driver_lock(f"{store.uri}/study", write=write_late):
                outcomes.append(True)
                done.wait()
        except InputError:
            outcomes.append(False)
            done.wait()

    threads = [threading.Thread(target=contend) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 2 + [True]
    assert list_names(f"{store.uri}/study") == []
