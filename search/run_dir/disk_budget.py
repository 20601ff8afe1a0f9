"""The disk budget of a run directory: how much checkpoints with weights may take, what goes first when it is spent."""

import fcntl
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from data_prep.store.files import exists, join, list_names, list_sizes, read_bytes, remove_folder, write_json
from data_prep.store.object_store import is_uri
from data_prep.store.weight_folders import BACKBONES

GIGABYTE = 10**9
COUNTED = ("checkpoints", "weights")
SHARES = "shares.json"


@dataclass(frozen=True)
class DiskBudget:
    """What `budget.disk_gb` allows.

    Whoever writes a checkpoint or weights asks for room first and writes while it is granted; on a file system one
    writer follows the other, so that together they stay within the budget, half-written files included. Prediction
    tables are never counted, and never touched.
    """

    run_dir: str
    gigabytes: float | None
    """None: no limit."""
    tell: Callable[[str], None]
    """Takes what a person should know; each thing is told once for a run directory."""

    def room(self, n_bytes: int, what: str) -> AbstractContextManager[bool]:
        """Return a context that says whether `n_bytes` may be written in it, having made room where that helps.

        Weights go of candidates that the blend gives no weight, then of those that it gives least (`shares.json`).

        Args:
            n_bytes: at most.
            what: is to be written, for the message where there is no room.
        """
        return nullcontext(enter_result=True) if self.gigabytes is None else self._granted(n_bytes, what)

    @contextmanager
    def _granted(self, n_bytes: int, what: str) -> Iterator[bool]:
        with _alone(self.run_dir) as told:
            yield self._make_room(n_bytes, what, told)

    def _make_room(self, n_bytes: int, what: str, told: "_Told") -> bool:
        assert self.gigabytes is not None
        limit = self.gigabytes * GIGABYTE
        excess = n_bytes + bytes_used(self.run_dir) - limit
        if excess <= 0:
            return True
        leavers, freed = [], 0
        for candidate, share in _by_share(self.run_dir):
            if freed < excess:
                leavers.append((candidate, share))
                freed += bytes_used(self.run_dir, join("weights", candidate))
        if freed < excess:
            lasting = "more than the whole budget" if n_bytes > limit else "it waits until there is"
            self._tell_once(f"no room for {what} of {_gigabytes(n_bytes)}: {lasting}; training goes on", told)
            return False
        for candidate, share in leavers:
            remove_weights(self.run_dir, candidate)
            self._tell_once(f"removed the weights of {candidate}, whose share of the blend is {share:.3f}", told)
        return True

    def _tell_once(self, text: str, told: "_Told") -> None:
        if told.add(text):
            self.tell(f"budget.disk_gb={self.gigabytes:g}: {text}")


def bytes_used(run_dir: str, *folders: str) -> int:
    """Return the bytes of all files in some folders of a run directory (none named: in those that are counted)."""
    return sum(sum(list_sizes(join(run_dir, name)).values()) for name in folders or COUNTED)


def describe_use(run_dir: str, gigabytes: float | None) -> str:
    """Return a clause that says what the counted files take, and of what budget."""
    allowed = "" if gigabytes is None else f" of the {gigabytes:g} GB of budget.disk_gb"
    return f"Checkpoints and weights take {_gigabytes(bytes_used(run_dir))}{allowed}"


def remove_weights(run_dir: str, candidate: str) -> None:
    """Remove a candidate's weights, of all folds."""
    remove_folder(join(run_dir, "weights", candidate))


def candidates_with_weights(run_dir: str) -> list[str]:
    """Return the ids of the candidates that have weights of some fold."""
    return [name for name in list_names(join(run_dir, "weights")) if name not in (SHARES, BACKBONES)]


def write_shares(run_dir: str, shares: Mapping[str, float]) -> None:
    """Keep what share of the blend each candidate has whose weights may go; others' may not."""
    write_json(dict(shares), join(run_dir, "weights", SHARES))


def read_shares(run_dir: str) -> dict[str, float]:
    """Return what was last written; empty where nothing was."""
    path = join(run_dir, "weights", SHARES)
    return json.loads(read_bytes(path)) if exists(path) else {}


def _by_share(run_dir: str) -> list[tuple[str, float]]:
    """Return the candidates whose weights may go, with their shares of the blend, the least first."""
    here, shares = candidates_with_weights(run_dir), read_shares(run_dir)
    return sorted(((name, shares[name]) for name in here if name in shares), key=lambda entry: entry[1])


def _gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / GIGABYTE:.3g} GB"


@dataclass(frozen=True)
class _Told:
    """What was told before, a line each in the lock file; on object stores nothing is remembered."""

    file: TextIO | None

    def add(self, text: str) -> bool:
        """Remember a text; False where it was known."""
        if self.file is None:
            return True
        self.file.seek(0)
        if text in self.file.read().splitlines():
            return False
        self.file.write(f"{text}\n")
        return True


@contextmanager
def _alone(run_dir: str) -> Iterator[_Told]:
    """Wait until no one else writes; object stores have no locks, so there nobody waits."""
    if is_uri(run_dir):
        yield _Told(None)
        return
    Path(run_dir).mkdir(parents=True, exist_ok=True)
    with (Path(run_dir) / "disk.lock").open("a+", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield _Told(lock)
