"""`claim`: one driver at a time on a run directory."""

import fcntl
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pyarrow import fs

from data_prep.errors import InputError
from data_prep.store.files import exists, join, locate, read_bytes, remove, write_json

CLAIM_FILE = "driver.json"
SETTLE_SECONDS = 1.0
"""How long a claim in an object store has to stand before it holds."""


@dataclass(frozen=True)
class Claim:
    """Which driver works on a run directory; the content of `driver.json`."""

    pid: int
    host: str
    ticks: int
    """When the process began, in clock ticks of its machine: tells it from a later process of the same number."""
    since: str
    """When it took the directory, with its offset from UTC."""
    token: str
    """Tells this claim from any other."""

    @classmethod
    def mine(cls) -> "Claim":
        """Return a new claim of this process."""
        since = time.strftime("%Y-%m-%d %H:%M:%S %z")
        return cls(os.getpid(), socket.gethostname(), _ticks(os.getpid()), since, secrets.token_hex(8))

    @property
    def is_stale(self) -> bool:
        """Whether the process was one of this host and is gone; of other hosts nothing is known."""
        if self.host != socket.gethostname():
            return False
        return not _is_alive(self.pid) or _ticks(self.pid) != self.ticks


@contextmanager
def claim(run_dir: str) -> Iterator[None]:
    """Hold a run directory for this process alone as long as the block lasts.

    The claim of a process of this host that was killed is taken over. Object stores offer no exclusive creation, so a
    claim there must stand for `SETTLE_SECONDS`: two drivers get through only if one of them, at just that moment, hangs
    that long between looking and writing.

    Raises:
        InputError: another driver holds it, or one on another host did and was killed; says which, and what to do.
    """
    path, mine = join(run_dir, CLAIM_FILE), Claim.mine()
    with _one_at_a_time(run_dir):
        held = read_claim(run_dir)
        if held is not None and held.is_stale:
            remove(path)
        _create(path, mine)
        if (held := read_claim(run_dir)) != mine:
            raise InputError(_refusal(path, held))
    try:
        yield
    finally:
        if read_claim(run_dir) == mine:
            remove(path)


def _refusal(path: str, held: Claim | None) -> str:
    if held is None:
        return f"{path}: another driver has just left this run directory; give the same command again"
    holder = f"{path}: a search runs in this directory already: process {held.pid} on {held.host}, since {held.since}"
    if held.host == socket.gethostname():
        return f"{holder}. Wait for its end or stop it (`kill -INT {held.pid}`), then give the same command again"
    return (
        f"{holder}. Whether it is still alive cannot be seen from {socket.gethostname()}: wait for its end or stop it "
        f"there. If it is gone, remove {path} and give the same command again"
    )


@contextmanager
def _one_at_a_time(run_dir: str) -> Iterator[None]:
    """Keep other drivers of this host from taking over the same stale claim meanwhile."""
    filesystem, inner = locate(run_dir)
    if not isinstance(filesystem, fs.LocalFileSystem):
        yield
        return
    Path(inner).mkdir(parents=True, exist_ok=True)
    folder = os.open(inner, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems lock no folders
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _create(path: str, mine: Claim) -> None:
    """Write the claim unless there is one."""
    filesystem, inner = locate(path)
    if not isinstance(filesystem, fs.LocalFileSystem):
        if not exists(path):
            write_json(asdict(mine), path)
            time.sleep(SETTLE_SECONDS)  # of several that found none, the last to write is read by all
        return
    with suppress(FileExistsError):
        file = os.open(inner, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            os.write(file, json.dumps(asdict(mine)).encode())
        except OSError as error:
            remove(path)
            raise OSError(error.errno, error.strerror, inner) from error
        finally:
            os.close(file)


def read_claim(run_dir: str) -> Claim | None:
    """Return which driver works on a run directory, None where none does.

    Raises:
        InputError: the file is not what a driver wrote.
    """
    path = join(run_dir, CLAIM_FILE)
    try:
        content = read_bytes(path)
    except InputError:
        return None
    try:
        return Claim(**json.loads(content))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: is not what a driver wrote ({error}); remove it if no search runs here") from error


def _is_alive(pid: int) -> bool:
    """Tell whether there is such a process; one that has ended and waits for its parent to notice does not count."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _stat(pid)[0] not in ("Z", "X")


def _ticks(pid: int) -> int:
    """Return when a process began, in clock ticks since its machine did; 0 where the system does not tell."""
    return int(_stat(pid)[19])


def _stat(pid: int) -> list[str]:
    """Return what Linux says of a process, from its state on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return ["?"] + ["0"] * 19
