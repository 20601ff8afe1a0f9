"""Checkpoints: everything that a fold run needs to go on as if nothing had happened."""

import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_prep.errors import InputError

State = dict[str, Any]
"""Tensors, numbers, strings, and lists, tuples or dicts of them: what `torch.load(weights_only=True)` reads."""


class CheckpointFolder:
    """A folder with the latest state of one fold run, and the number of its reports that have been delivered.

    The state is replaced whole or not at all. It holds the reports made so far; the count of those delivered is kept
    apart, so that a report is neither lost nor made twice when the process dies around it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def save(self, state: State) -> None:
        """Replace the state."""
        self.path.mkdir(parents=True, exist_ok=True)
        partial = self.path / f"state.{os.getpid()}.partial"
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._state)

    def load(self, identity: State) -> State | None:
        """Return the state, on the CPU; None where there is none yet.

        Raises:
            InputError: the state is damaged, or its `identity` is not the one given.
        """
        if not self._state.exists():
            return None
        advice = f"delete {self.path} to train this fold run from its start"
        try:
            state: State = torch.load(self._state, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            raise InputError(f"{self._state}: not a whole checkpoint ({error}); {advice}") from error
        if state["identity"] != identity:
            raise InputError(f"{self._state}: belongs to {state['identity']}, not to {identity}; {advice}")
        return state

    @property
    def delivered(self) -> int:
        """How many reports have been delivered."""
        return int(self._delivered.read_text()) if self._delivered.exists() else 0

    @delivered.setter
    def delivered(self, count: int) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        partial = self.path / f"delivered.{os.getpid()}.partial"
        partial.write_text(str(count))
        partial.replace(self._delivered)

    def clear(self) -> None:
        """Forget the fold run."""
        for file in (self._state, self._delivered):
            file.unlink(missing_ok=True)

    @property
    def _state(self) -> Path:
        return self.path / "state.pt"

    @property
    def _delivered(self) -> Path:
        return self.path / "delivered"


def random_state() -> State:
    """Return the state of every random stream: Python, NumPy, torch, and torch on each GPU."""
    name, keys, *position = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *position),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
    }


def restore_random_state(state: State) -> None:
    """Set every random stream to a state from `random_state`."""
    name, keys, *position = state["numpy"]
    random.setstate(state["python"])
    np.random.set_state((name, keys.numpy().astype(np.uint32), *position))
    torch.set_rng_state(state["torch"])
    torch.cuda.set_rng_state_all(state["cuda"])
