"""`DiskBudget`: how much disk checkpoints and weights may use, and what is removed first when it runs out."""

import fcntl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from data_prep.store.files import exists, join, list_names, list_sizes, remove_folder
from data_prep.store.object_store import is_uri
from data_prep.store.sealed_records import read_record, write_record
from data_prep.store.weight_folders import BACKBONES

GIGABYTE = 10**9
CHECKPOINTS, WEIGHTS = "checkpoints", "weights"
COUNTED = (CHECKPOINTS, WEIGHTS)
"""Folders of a run directory that count."""
SHARES = "shares.json"


@dataclass(frozen=True)
class DiskBudget:
    """The limit `budget.disk_gb` for checkpoints and weights; prediction tables are never counted or removed.

    `room` must grant each write. On a file system the writers take turns, so half-written files stay within it too.
    """

    run_dir: str
    gigabytes: float | None
    """None: no limit."""
    tell: Callable[[str], None]
    """Takes a message for people; each is sent once for a run directory."""

    @contextmanager
    def room(self, n_bytes: int, what: str) -> Iterator[bool]:
        """Yield whether at most `n_bytes` may be written in the block; weights are removed if that makes room.

        The weights of candidates without weight in the blend go first, then those with the least (`shares.json`). If
        there is no room, a message says so; `what` names the bytes in it.
        """
        if self.gigabytes is None:
            yield True
            return
        with _exclusive(self.run_dir) as lock:
            yield self._make_room(n_bytes, what, self.gigabytes * GIGABYTE, lock)

    def _make_room(self, n_bytes: int, what: str, limit: float, lock: TextIO | None) -> bool:
        excess = n_bytes + bytes_used(self.run_dir) - limit
        if excess <= 0:
            return True
        removable, freed = [], 0
        for candidate, share in _by_share(self.run_dir):
            if freed < excess:
                removable.append((candidate, share))
                freed += bytes_used(self.run_dir, join(WEIGHTS, candidate))
        if freed < excess:
            lasting = "more than the whole budget" if n_bytes > limit else "it waits until there is"
            self._tell_once(f"no room for {what} of {_gigabytes(n_bytes)}: {lasting}; training goes on", lock)
            return False
        for candidate, share in removable:
            remove_weights(self.run_dir, candidate)
            self._tell_once(f"removed the weights of {candidate}, whose share of the blend is {share:.3f}", lock)
        return True

    def _tell_once(self, text: str, lock: TextIO | None) -> None:
        """Send a message unless the lock file, which has a line for each, holds it; object stores remember none."""
        if lock is not None:
            lock.seek(0)
            if text in lock.read().splitlines():
                return
            lock.write(f"{text}\n")
        self.tell(f"budget.disk_gb={self.gigabytes:g}: {text}")


def bytes_used(run_dir: str, *folders: str) -> int:
    """Return the bytes of all files in some folders of a run directory; by default, in those that are counted."""
    return sum(sum(list_sizes(join(run_dir, name)).values()) for name in folders or COUNTED)


def describe_use(run_dir: str, gigabytes: float | None) -> str:
    """Return a clause that says how much the counted files take, and how large the budget is."""
    allowed = "" if gigabytes is None else f" of the {gigabytes:g} GB of budget.disk_gb"
    return f"Checkpoints and weights take {_gigabytes(bytes_used(run_dir))}{allowed}"


def remove_weights(run_dir: str, candidate: str) -> None:
    """Remove a candidate's weights on all folds."""
    remove_folder(join(run_dir, WEIGHTS, candidate))


def candidates_with_weights(run_dir: str) -> list[str]:
    """Return the ids of the candidates that have weights of any fold."""
    return [name for name in list_names(join(run_dir, WEIGHTS)) if name not in (SHARES, BACKBONES)]


def write_shares(run_dir: str, shares: Mapping[str, float]) -> None:
    """Write the share of the blend of each candidate whose weights may be removed; others must stay."""
    write_record(shares, join(run_dir, WEIGHTS, SHARES))


def read_shares(run_dir: str) -> dict[str, float]:
    """Return what was last written; empty if nothing was."""
    path = join(run_dir, WEIGHTS, SHARES)
    remedy = "remove it: a search writes it again"
    return read_record(path, _shares, remedy=remedy) if exists(path) else {}


def _shares(content: dict[str, Any]) -> dict[str, float]:
    return {candidate: float(share) for candidate, share in content.items()}


def _by_share(run_dir: str) -> list[tuple[str, float]]:
    """Return the candidates whose weights may be removed, with their shares of the blend, smallest first."""
    here, shares = candidates_with_weights(run_dir), read_shares(run_dir)
    return sorted(((name, shares[name]) for name in here if name in shares), key=lambda entry: entry[1])


def _gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / GIGABYTE:.3g} GB"


@contextmanager
def _exclusive(run_dir: str) -> Iterator[TextIO | None]:
    """Wait until no one else writes, and yield the lock file; object stores have none, so there is no waiting there."""
    if is_uri(run_dir):
        yield None
        return
    Path(run_dir).mkdir(parents=True, exist_ok=True)
    with (Path(run_dir) / "disk.lock").open("a+", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
