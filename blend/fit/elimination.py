"""Elimination: the few columns that serve a blend best, found by removing one after the other."""

import numpy as np
from numpy.typing import NDArray

from blend.fit.objective import Objective
from data_prep.scoring.combination import Floats
from data_prep.scoring.moments import Moments, best_nonnegative_weights


def eliminate(objective: Objective, most: int) -> NDArray[np.intp]:
    """Return at most `most` columns, ascending, that serve best together.

    It begins with those that the exact non-negative optimum uses. The column that leaves next costs the least: dropping
    column j adds w_j^2 / (G^-1)_jj to the squared error (Hassibi and Stork 1993, Optimal brain surgeon). Weights of the
    rest are fitted again, and columns without weight leave too.
    """
    table = objective.sums.centred
    left = np.arange(objective.n_columns)
    while True:
        weights = best_nonnegative_weights(table.of(left))
        if not weights.any():
            return left[[int(np.argmax(objective.steps(np.zeros(objective.n_columns), 0.0, 1.0)[left]))]]
        left = left[weights > 0.0]
        if len(left) <= most:
            return left
        left = np.delete(left, int(np.argmin(_costs(table.of(left)))))


def _costs(table: Moments) -> Floats:
    spread = np.sqrt(np.diag(table.gram))
    inverse = np.linalg.pinv(table.gram / np.outer(spread, spread), rcond=1e-12, hermitian=True)
    weights = inverse @ (table.cross / spread)
    return np.asarray(weights**2 / np.maximum(np.diag(inverse), np.finfo(np.float64).tiny))
