"""When a fold run reaches a rung, and which rows it is measured on there."""

import math

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-9
"""Share of a step that a rung may miss by: 0.1 * 30 is 3.0000000000000004."""


def first_step(rung: float, total: int) -> int:
    """Return the first step at which the share `rung` of `total` steps is done."""
    return math.ceil(rung * total - ROUNDING)


def rung_sample(n_rows: int, size: int | None) -> NDArray[np.int64]:
    """Return the rows that early rungs are measured on, ascending; on a fold the same for every candidate."""
    if size is None or size >= n_rows:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(n_rows).choice(n_rows, size, replace=False))
