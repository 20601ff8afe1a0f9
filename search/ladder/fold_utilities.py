"""`FoldUtilities`: what finished fold runs reached, for comparisons across candidates."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class FoldUtilities:
    """Utilities [candidates, folds] of finished fold runs; a row is a candidate's number."""

    def __init__(self, n_folds: int) -> None:
        self._values = np.full((64, n_folds), np.nan)
        self._residual: tuple[float, int] | None = None

    def put(self, row: int, fold: int, utility: float) -> None:
        """Record the utility of a finished fold run."""
        if row >= len(self._values):
            more = np.full((max(row + 1, 2 * len(self._values)) - len(self._values), self._values.shape[1]), np.nan)
            self._values = np.vstack([self._values, more])
        self._values[row, fold] = utility
        self._residual = None

    def forget(self, row: int) -> None:
        """Remove a candidate."""
        self._values[row : row + 1] = np.nan
        self._residual = None

    def best_over(self, rows: Sequence[int], folds: Sequence[int]) -> int | None:
        """Return which row has the best mean over `folds`, the first of equals; rows without one are left out."""
        if not rows:
            return None
        values = self._values[np.asarray(rows)]
        total = np.zeros(len(rows))
        for fold in folds:
            total += values[:, fold]
        total[np.isnan(total)] = -np.inf
        best = int(np.argmax(total))
        return rows[best] if total[best] > -np.inf else None

    def residual(self) -> tuple[float, int]:
        """Return sum of squares and degrees of freedom that candidate and fold effects leave, by least squares.

        The model is m[c, k] = candidate c + fold k + error over all known cells; cells may be missing. Candidate
        effects are taken out by centring each row; then, with W [candidates, folds] the 0/1 mask and n_c its row sums,
        the fold effects solve A f = b, where A = diag(column sums of W) - sum_c w_c w_c' / n_c and b sums the centred
        cells by fold. The residual is the sum of centred squares - b'f, with sum(n_c - 1) - rank(A) degrees of freedom.
        """
        if self._residual is None:
            self._residual = _residual(self._values)
        return self._residual


def _residual(values: NDArray[np.float64]) -> tuple[float, int]:
    known = ~np.isnan(values)
    paired = known.sum(axis=1) > 1
    if paired.sum() < 2:
        return 0.0, 0
    mask = known[paired].astype(np.float64)
    counts = mask.sum(axis=1, keepdims=True)
    cells = np.where(known[paired], values[paired], 0.0)
    centred = (cells - cells.sum(axis=1, keepdims=True) / counts) * mask
    design = np.diag(mask.sum(axis=0)) - (mask / counts).T @ mask
    moments = centred.sum(axis=0)
    effects, _, rank, _ = np.linalg.lstsq(design, moments, rcond=1e-9)
    freedom = int(counts.sum()) - len(mask) - int(rank)
    squares = float((centred**2).sum() - moments @ effects)
    return (max(squares, 0.0), freedom) if freedom > 0 else (0.0, 0)
