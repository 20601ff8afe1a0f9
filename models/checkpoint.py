"""Checkpoints: everything that a fold run needs to go on as if nothing had happened."""

import hashlib
import os
import random
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_prep.errors import InputError, storage_fault

State = dict[str, Any]
"""Tensors, numbers, strings, and lists, tuples or dicts of them: what `torch.load(weights_only=True)` reads."""

DIGEST_BYTES = hashlib.sha256().digest_size
"""A state file ends with the sha256 of what comes before: `torch.load` notices next to no altered byte."""
BLOCK_BYTES = 2**24
FILE_BYTES = 2**20
"""Room in a state file for all that is not tensors, amply."""

Room = Callable[[int], AbstractContextManager[bool]]
"""Takes a number of bytes; the context says whether so many may be written in it."""


def plenty(n_bytes: int) -> AbstractContextManager[bool]:  # noqa: ARG001 - a `Room`
    """Grant whatever is asked for."""
    return nullcontext(enter_result=True)


class CheckpointFolder:
    """A folder with the latest state of one fold run, and the number of its reports that have been delivered.

    The state is replaced whole or not at all. It holds the reports made so far; the count of those delivered is kept
    apart, so that a report is neither lost nor made twice when the process dies around it.

    Checkpoints only save work, so what is wrong with them costs no more than that: one that cannot be written is told
    of and training goes on, one that is damaged is set aside and the fold run starts anew.

    Args:
        path: the folder; made when something is kept in it.
        tell: takes what a person should know.
        room: asked before a state is written; where it denies, the state before stays.
    """

    def __init__(self, path: str | Path, *, tell: Callable[[str], None] = warnings.warn, room: Room = plenty) -> None:
        self.path = Path(path)
        self._tell = tell
        self._room = room
        self._fails = False

    def save(self, state: State) -> None:
        """Replace the state; where it cannot be written, the one before stays and that is told, once."""
        partial = self.path / f"state.{os.getpid()}.partial"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with self._room(bytes_of(state)) as granted:
                if granted:
                    _write_stamped(state, partial)
                    partial.replace(self._state)
        except (OSError, RuntimeError) as error:  # torch puts its own over that of the disk
            partial.unlink(missing_ok=True)
            self._survive(error)
        else:
            self._fails = False

    def load(self, identity: State) -> State | None:
        """Return the state, on the CPU; None where there is none; a damaged one is set aside and that is told.

        Raises:
            InputError: the state's `identity` is not the one given.
        """
        for unfinished in self.path.glob("*.partial"):
            unfinished.unlink(missing_ok=True)
        if not self._state.exists():
            return None
        if not _is_whole(self._state):
            aside = self._state.replace(self.path / "state.damaged")
            self._tell(f"{self._state}: not a whole checkpoint; set aside as {aside.name}, the fold run starts anew")
            return None
        state: State = torch.load(self._state, map_location="cpu", weights_only=True)
        if state["identity"] != identity:
            raise InputError(
                f"{self._state}: belongs to {state['identity']}, not to {identity}; delete {self.path} to train this "
                f"fold run from its start"
            )
        return state

    @property
    def delivered(self) -> int:
        """How many reports have been delivered; 0 where that cannot be read: they are then delivered again."""
        try:
            count, stamp = self._delivered.read_text(encoding="ascii").split()
        except (OSError, ValueError):
            return 0
        return int(count) if stamp == _stamp(count) else 0

    @delivered.setter
    def delivered(self, count: int) -> None:
        partial = self.path / f"delivered.{os.getpid()}.partial"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            partial.write_text(f"{count} {_stamp(str(count))}", encoding="ascii")
            partial.replace(self._delivered)
        except OSError as error:
            partial.unlink(missing_ok=True)
            self._survive(error)

    def clear(self) -> None:
        """Forget the fold run."""
        for file in (self._state, self._delivered):
            file.unlink(missing_ok=True)

    def _survive(self, error: Exception) -> None:
        """Tell of a disk that takes no checkpoint, the first time; any other error is raised."""
        fault = storage_fault(error)
        if fault is None:
            raise error
        if not self._fails:
            self._tell(
                f"{self.path}: no checkpoint can be written ({fault.strerror}); training goes on, but if it is cut off "
                f"it falls back to the checkpoint before. Free space there"
            )
        self._fails = True

    @property
    def _state(self) -> Path:
        return self.path / "state.pt"

    @property
    def _delivered(self) -> Path:
        return self.path / "delivered"


def bytes_of(state: State) -> int:
    """Return how large the file of a state is, at most."""
    return FILE_BYTES + _tensor_bytes(state)


def _tensor_bytes(part: Any) -> int:
    if isinstance(part, torch.Tensor):
        return part.nbytes
    parts = part.values() if isinstance(part, dict) else part if isinstance(part, list | tuple) else ()
    return sum(map(_tensor_bytes, parts))


def _write_stamped(state: State, path: Path) -> None:
    with path.open("w+b") as file:
        torch.save(state, file)
        file.seek(0)
        file.write(hashlib.file_digest(file, "sha256").digest())
        file.flush()
        os.fsync(file.fileno())


def _is_whole(path: Path) -> bool:
    """Tell whether a state file can be read and ends with the digest of the rest of it."""
    digest, left = hashlib.sha256(), path.stat().st_size - DIGEST_BYTES
    try:
        with path.open("rb") as file:
            while left > 0 and (block := file.read(min(left, BLOCK_BYTES))):
                digest.update(block)
                left -= len(block)
            return file.read() == digest.digest()
    except OSError:
        return False


def _stamp(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def random_state() -> State:
    """Return the state of every random stream: Python, NumPy, torch, and torch on each GPU, Apple's too."""
    name, keys, *position = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *position),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
    }


def restore_random_state(state: State) -> None:
    """Set every random stream to a state from `random_state`."""
    name, keys, *position = state["numpy"]
    random.setstate(state["python"])
    np.random.set_state((name, keys.numpy().astype(np.uint32), *position))
    torch.set_rng_state(state["torch"])
    torch.cuda.set_rng_state_all(state["cuda"])
    if state.get("mps") is not None:  # checkpoints from before have none
        torch.mps.set_rng_state(state["mps"])
