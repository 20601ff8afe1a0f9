"""Rungs: when a fold run reports on its way, and on which rows."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

ROUNDING = 1e-9
"""Share of a step that a rung may miss by: 0.1 * 30 is 3.0000000000000004."""


@dataclass(frozen=True)
class BestRung:
    """The rung with the best metric so far, for candidates that keep it."""

    utility: float
    epoch: float
    weights: dict[str, torch.Tensor]


def first_step(rung: float, total: int) -> int:
    """Return the first step at which the share `rung` of `total` steps is done."""
    return math.ceil(rung * total - ROUNDING)


def rung_sample(n_rows: int, size: int | None) -> NDArray[np.int64]:
    """Return the rows that early rungs score, ascending; on a fold the same for every candidate."""
    if size is None or size >= n_rows:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(n_rows).choice(n_rows, size, replace=False))
