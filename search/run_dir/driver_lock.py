"""`DriverLock`: one driver at a time in a run directory."""

import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pyarrow import fs

from data_prep.errors import InputError
from data_prep.store.files import exists, join, locate, read_bytes, remove
from data_prep.store.folder_lock import folder_lock
from data_prep.store.sealed_records import open_record, seal, write_record

LOCK_FILE = "driver.json"
SETTLE_SECONDS = 1.0
"""How long a lock in an object store must stay unchanged before it counts."""


@dataclass(frozen=True)
class DriverLock:
    """The driver that works in a run directory; the content of `driver.json`."""

    pid: int
    host: str
    ticks: int
    """When the process started, in clock ticks of its machine; a later process with the same pid has other ticks."""
    since: str
    """When it took the directory, with its offset from UTC."""
    token: str
    """Random; distinguishes this lock from any other."""
    boot: str = ""
    """Identifies the start of its machine; empty: unknown, as in a lock of an older version."""
    namespace: str = ""
    """Within which its pid counts: containers have their own; empty: unknown, likewise."""

    @classmethod
    def mine(cls) -> "DriverLock":
        """Return a new lock of this process."""
        since, token = time.strftime("%Y-%m-%d %H:%M:%S %z"), secrets.token_hex(8)
        return cls(os.getpid(), socket.gethostname(), _ticks(os.getpid()), since, token, _boot(), _namespace())

    @property
    def is_visible(self) -> bool:
        """Whether its process can be seen from here: same host, start of the machine and pid namespace."""
        same_machine = self.host == socket.gethostname() and self.boot in ("", _boot())
        return same_machine and self.namespace in ("", _namespace())

    @property
    def is_stale(self) -> bool:
        """Whether the process could be seen from here and is gone; False for processes that cannot be seen."""
        return self.is_visible and (not _is_alive(self.pid) or _ticks(self.pid) != self.ticks)


@contextmanager
def hold_driver_lock(
    run_dir: str, *, settle_seconds: float = SETTLE_SECONDS, write: Callable[[Any, str], None] = write_record
) -> Iterator[None]:
    """Lock a run directory for this process while the block lasts.

    The lock of a killed process is taken over if it was visible from here. Object stores cannot create a file
    exclusively, so a lock there must stay unchanged for `settle_seconds`: two drivers get through only if one of them
    hangs that long between looking and writing.

    Raises:
        InputError: another driver holds it, or a killed one that is not visible from here did; says which, what to do.
    """
    path, mine = join(run_dir, LOCK_FILE), DriverLock.mine()
    with folder_lock(run_dir):
        held = read_driver_lock(run_dir)
        if held is not None and held.is_stale:
            remove(path)
        _create(path, mine, settle_seconds=settle_seconds, write=write)
        if (held := read_driver_lock(run_dir)) != mine:
            raise InputError(_refusal(path, held))
    try:
        yield
    finally:
        if read_driver_lock(run_dir) == mine:
            remove(path)


def _refusal(path: str, held: DriverLock | None) -> str:
    if held is None:
        return f"{path}: another driver has just left this run directory; run the same command again"
    holder = f"{path}: a search already runs in this directory: process {held.pid} on {held.host}, since {held.since}"
    if held.is_visible:
        return f"{holder}. Wait until it ends, or stop it (`kill -INT {held.pid}`), then run the same command again"
    here = socket.gethostname()
    where = f" (another container or machine of the name {here}, or {here} before a restart)"
    return (
        f"{holder}{where if held.host == here else ''}. It cannot be seen from here whether it is alive: wait until it "
        f"ends, or stop it there. If it is gone, remove {path} and run the same command again"
    )


def _create(path: str, mine: DriverLock, *, settle_seconds: float, write: Callable[[Any, str], None]) -> None:
    """Write the lock unless there is one."""
    filesystem, inner = locate(path)
    if not isinstance(filesystem, fs.LocalFileSystem):
        if not exists(path):
            write(asdict(mine), path)
            time.sleep(settle_seconds)  # of several that found none, the last to write is read by all
        return
    with suppress(FileExistsError):
        file = os.open(inner, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            os.write(file, json.dumps(seal(asdict(mine))).encode())
        except OSError as error:
            remove(path)
            raise OSError(error.errno, error.strerror, inner) from error
        finally:
            os.close(file)


def read_driver_lock(run_dir: str) -> DriverLock | None:
    """Return the driver that works in a run directory; None if none does.

    Raises:
        InputError: the file is not what a driver wrote.
    """
    path = join(run_dir, LOCK_FILE)
    try:
        content = read_bytes(path)
    except InputError:
        return None
    return open_record(content, path, lambda found: DriverLock(**found), remedy="remove it if no search runs here")


def _is_alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie (ended, but its parent has not noticed) does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _stat(pid)[0] not in ("Z", "X")


def _ticks(pid: int) -> int:
    """Return when a process started, in clock ticks since the boot of its machine; 0 if the system does not say."""
    return int(_stat(pid)[19])


def _boot() -> str:
    """Return what identifies the start of this machine; empty if the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _namespace() -> str:
    """Return what identifies the pid namespace of this process; empty if the system does not say."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _stat(pid: int) -> list[str]:
    """Return the fields of `/proc/<pid>/stat` from the state on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return ["?"] + ["0"] * 19
