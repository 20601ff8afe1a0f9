"""Centred moments of predictions: all that Pearson of a weighted sum needs, however many rows there are."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_RANK_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Moments:
    """Sums of products of centred columns; sums of several parts centre each part on its own mean."""

    gram: NDArray[np.float64]
    """[columns, columns] products of the predictions."""
    cross: NDArray[np.float64]
    """[columns] products of each prediction with the target."""
    square: float
    """Sum of squares of the target."""

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.gram + other.gram, self.cross + other.cross, self.square + other.square)

    def of(self, columns: ArrayLike) -> "Moments":
        """Return the moments of some of the columns, in the order given."""
        index = np.asarray(columns, dtype=np.intp)
        return Moments(self.gram[np.ix_(index, index)], self.cross[index], self.square)


def moments(predictions: ArrayLike, target: ArrayLike) -> Moments:
    """Return the moments of `predictions` [rows, columns] against `target` [rows]."""
    x = np.asarray(predictions, dtype=np.float64)
    y = np.asarray(target, dtype=np.float64)
    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise ValueError(f"moments need [rows, columns] and [rows], got {x.shape} and {y.shape}")
    x = x - x.mean(axis=0)
    y = y - y.mean()
    return Moments(x.T @ x, x.T @ y, float(y @ y))


def pearson_of(table: Moments, weights: ArrayLike) -> float:
    """Pearson of the weighted sum with the target; NaN when either is constant."""
    w = np.asarray(weights, dtype=np.float64)
    variance = float(w @ table.gram @ w) * table.square
    return float(w @ table.cross) / float(np.sqrt(variance)) if variance > 0 else float("nan")


def best_nonnegative_weights(table: Moments) -> NDArray[np.float64]:
    """Return the weights >= 0, summing to 1, with the highest Pearson; all 0 when no column helps.

    Least squares with w >= 0 finds the direction of the greatest Pearson with w >= 0: at the best scale of a direction
    the squared error is (1 - r^2) y'y.
    """
    weights = nonnegative_least_squares(table.gram, table.cross)
    total = float(weights.sum())
    return weights / total if total > 0 else weights


def nonnegative_least_squares(gram: NDArray[np.float64], cross: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return w >= 0 [columns] with the least ||X w - y||, from G = X'X and b = X'y; 0 for columns without length.

    ||X w - y||^2 = ||R w - q||^2 + constant for any R, q with R'R = G and R'q = b; R comes from the eigenvectors of
    the scaled G, so collinear columns are harmless.
    """
    from scipy.optimize import nnls  # noqa: PLC0415 - slow to import

    scale = np.sqrt(np.diag(gram))
    used = np.flatnonzero(scale > 0)
    weights = np.zeros(len(scale))
    if not used.size:
        return weights
    values, vectors = np.linalg.eigh(gram[np.ix_(used, used)] / np.outer(scale[used], scale[used]))
    kept = values > _RANK_TOLERANCE * values[-1]
    root = np.sqrt(values[kept])[:, None] * vectors[:, kept].T
    target = (vectors[:, kept].T @ (cross[used] / scale[used])) / np.sqrt(values[kept])
    weights[used] = nnls(root, target)[0] / scale[used]
    return weights
