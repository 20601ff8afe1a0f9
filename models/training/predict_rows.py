"""Predictions for pools of rows."""

import numpy as np
from numpy.typing import NDArray

from models.text.row_pools import RowPool
from models.training.learner import Learner


def predict_rows(
    learner: Learner, pool: RowPool, *, orders: int, rows: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """Return the mean prediction, float32 [rows], over so many orders of the siblings, for some rows (None: all).

    Raises:
        InputError: memory does not suffice for a single text.
    """
    predictions = np.stack([learner.predict(pool.encode(order), rows) for order in range(orders)])
    mean: NDArray[np.float32] = predictions.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean
