"""`LossHistory`: whether the training loss has diverged since the last check."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FIRST = 10
"""Losses of this many steps from the start give the level that later ones are compared with, by their median."""
EXPLODED = 10.0
"""A loss over this many times the first level has exploded."""


class LossHistory:
    """The losses of a fold run's steps, read from the device only for a check.

    Training has diverged when more than half of the steps since the last call had a loss that is not a finite number
    or that exceeds `EXPLODED` times the median size of the first `FIRST` finite ones, whose model has learned next to
    nothing. A single spike, or a batch that fp16 skips, is no divergence. A run that explodes within its first steps
    has no level to be compared with: its losses soon are no numbers, or its metric is next to chance.
    """

    def __init__(self) -> None:
        self._first: list[float] = []
        self._recent: list[float] = []
        self._unread: list[Tensor] = []

    def add(self, loss: Tensor) -> None:
        """Take the loss of a step, a detached scalar; does not wait for the device."""
        self._unread.append(loss)

    def diverged(self) -> bool:
        """Tell whether training has diverged since the last call; False where no step was taken since."""
        self._read()
        recent, self._recent = np.asarray(self._recent), []
        if not len(recent):
            return False
        return bool((~np.isfinite(recent) | (recent > self._limit())).mean() > 0.5)

    def state(self) -> dict[str, list[float]]:
        """Return what the next call depends on."""
        self._read()
        return {"first": self._first, "recent": self._recent}

    def load_state(self, state: dict[str, list[float]]) -> None:
        """Go back to a state from `state()`."""
        self._first, self._recent, self._unread = list(state["first"]), list(state["recent"]), []

    def _limit(self) -> float:
        sizes: NDArray[np.float64] = np.abs(self._first)
        level = float(np.median(sizes)) if len(sizes) else 0.0
        return EXPLODED * level if level > 0 else float("inf")

    def _read(self) -> None:
        if not self._unread:
            return
        losses = torch.stack(self._unread).double().cpu().tolist()
        self._recent += losses
        self._first += [loss for loss in losses if np.isfinite(loss)][: FIRST - len(self._first)]
        self._unread = []
