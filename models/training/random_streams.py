"""The state of every random stream of this process, taken and set again."""

import random
from typing import Any

import numpy as np
import torch


def random_state() -> dict[str, Any]:
    """Return the state of every random stream: Python, NumPy, torch, and torch on each GPU, Apple's too."""
    name, keys, *position = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *position),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Set every random stream to a state from `random_state`."""
    name, keys, *position = state["numpy"]
    random.setstate(state["python"])
    np.random.set_state((name, keys.numpy().astype(np.uint32), *position))
    torch.set_rng_state(state["torch"])
    torch.cuda.set_rng_state_all(state["cuda"])
    if state.get("mps") is not None:  # checkpoints from before have none
        torch.mps.set_rng_state(state["mps"])
