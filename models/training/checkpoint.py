"""Checkpoints: everything that a fold run needs to resume as if nothing had happened."""

import hashlib
import math
import os
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import torch

from data_prep.errors import InputError, storage_fault
from data_prep.store.files import (
    PARTIAL,
    join,
    list_names,
    move,
    open_file,
    read_bytes,
    remove,
    whole_file,
    write_bytes,
)

State = dict[str, Any]
"""Tensors, numbers, strings, and lists, tuples or dicts of them: what `torch.load(weights_only=True)` reads."""

DIGEST_BYTES = hashlib.sha256().digest_size
"""A state file ends with the sha256 of what comes before: `torch.load` notices next to no altered byte."""
BLOCK_BYTES = 2**24
FILE_BYTES = 2**20
"""Room in a state file for all that is not tensors, amply."""

Room = Callable[[int], AbstractContextManager[bool]]
"""Takes a number of bytes; the context says whether so many may be written in it."""


def unlimited(n_bytes: int) -> AbstractContextManager[bool]:  # noqa: ARG001 - a `Room`
    """Grant any number of bytes."""
    return nullcontext(enter_result=True)


class CheckpointFolder:
    """A folder with the latest state of one fold run, and the number of its reports that have been delivered.

    The state is replaced whole or not at all. It holds the reports made so far; the count of those delivered is kept
    apart, so that a report is neither lost nor made twice when the process is killed around it. Where no state can be
    written, training continues with a warning; a damaged one is set aside, and the fold run starts from the beginning.
    Where `room` says no, the state before stays.
    """

    def __init__(
        self, path: str | Path, *, warn: Callable[[str], None] = warnings.warn, room: Room = unlimited
    ) -> None:
        self.path = str(path)
        self._warn = warn
        self._room = room
        self._fails = False

    def save(self, state: State) -> None:
        """Replace the state; where it cannot be written, the one before stays, with one warning."""
        try:
            with self._room(bytes_of(state)) as granted:
                if granted:
                    with whole_file(self._state) as file:
                        _write_stamped(state, file)
        except (OSError, RuntimeError) as error:  # torch puts its own over that of the disk
            self._survive(error)
        else:
            self._fails = False

    def load(self, identity: State) -> State | None:
        """Return the state, on the CPU; None where there is none; a damaged one is set aside with a warning.

        Raises:
            InputError: the state's `identity` is not the one given.
        """
        for name in list_names(self.path):
            if name.endswith(PARTIAL):
                remove(join(self.path, name))
        try:
            with open_file(self._state) as file:
                state = _read_stamped(file)
        except FileNotFoundError:
            return None
        if state is None:
            aside = "state.damaged"
            move(self._state, join(self.path, aside))
            self._warn(
                f"{self._state}: not a whole checkpoint; set aside as {aside}; the fold run starts from the beginning"
            )
            return None
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
            count, stamp = read_bytes(self._delivered).decode("ascii").split()
        except (OSError, ValueError):
            return 0
        return int(count) if stamp == _stamp(count) else 0

    @delivered.setter
    def delivered(self, count: int) -> None:
        try:
            write_bytes(f"{count} {_stamp(str(count))}".encode("ascii"), self._delivered)
        except OSError as error:
            self._survive(error)

    def clear(self) -> None:
        """Forget the fold run."""
        for file in (self._state, self._delivered):
            remove(file)

    def _survive(self, error: Exception) -> None:
        """Warn once of a disk that takes no checkpoint; raise any other error."""
        fault = storage_fault(error)
        if fault is None:
            raise error
        if not self._fails:
            self._warn(
                f"{self.path}: no checkpoint can be written ({fault.strerror}); training continues, but if it is "
                f"interrupted it falls back to the checkpoint before. Free space there"
            )
        self._fails = True

    @property
    def _state(self) -> str:
        return join(self.path, "state.pt")

    @property
    def _delivered(self) -> str:
        return join(self.path, "delivered")


def bytes_of(state: State) -> int:
    """Return how large the file of a state is, at most."""
    return FILE_BYTES + _tensor_bytes(state)


def _tensor_bytes(part: Any) -> int:
    if isinstance(part, torch.Tensor):
        return part.nbytes
    parts = part.values() if isinstance(part, dict) else part if isinstance(part, list | tuple) else ()
    return sum(map(_tensor_bytes, parts))


def _write_stamped(state: State, file: BinaryIO) -> None:
    torch.save(state, file)
    file.seek(0)
    file.write(_digest(file))


def _read_stamped(file: BinaryIO) -> State | None:
    """Return the state in a file; None where it cannot be read or does not end with the digest of the rest of it."""
    try:
        size = file.seek(-DIGEST_BYTES, os.SEEK_END)
        stamp = file.read()
        file.seek(0)
        intact = _digest(file, size) == stamp
        file.seek(0)
    except OSError:
        return None
    state: State | None = torch.load(file, map_location="cpu", weights_only=True) if intact else None
    return state


def _digest(file: BinaryIO, left: float = math.inf) -> bytes:
    """Return the sha256 of the next bytes of a file, up to `left` of them."""
    digest = hashlib.sha256()
    while left > 0 and (block := file.read(int(min(left, BLOCK_BYTES)))):
        digest.update(block)
        left -= len(block)
    return digest.digest()


def _stamp(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
