"""Calibrations: curves that bring columns onto one scale before they are weighted, fitted on out-of-fold rows only.

A curve fitted on a row's own target would make that row look too good. So a column whose curve uses targets is
cross-fitted: each unit of rows passes through a curve of the other units. Test rows pass through the curve of all rows.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from data_prep.scoring.combination import Floats, Scaling

RANKS = 512
"""Steps of the curve that turns predictions into ranks."""

FitScaling = Callable[[Floats, Floats], Scaling]
"""From out-of-fold predictions [rows] and targets [rows]."""


def rank(prediction: Floats, target: Floats) -> Scaling:  # noqa: ARG001 - the registry's signature
    """The share of out-of-fold predictions that are lower, in [0, 1]; equal ones count half."""
    values, counts = np.unique(prediction, return_counts=True)
    shares = (np.cumsum(counts) - counts / 2) / len(prediction)
    if len(values) > RANKS:
        steps = np.linspace(0.0, 1.0, RANKS)
        by_row = np.searchsorted(np.cumsum(counts), steps * len(prediction))
        by_value = (steps * (len(values) - 1)).astype(np.intp)
        knots = np.unique(np.minimum(np.concatenate([by_row, by_value]), len(values) - 1))
        values, shares = values[knots], shares[knots]
    return Scaling(x=tuple(values.tolist()), y=tuple(shares.tolist()))


def isotonic(prediction: Floats, target: Floats) -> Scaling:
    """The monotone curve with the least squared error (isotonic regression; Zadrozny and Elkan 2002)."""
    from scipy.optimize import isotonic_regression  # noqa: PLC0415 - slow to import

    values, place, counts = np.unique(prediction, return_inverse=True, return_counts=True)
    means = np.bincount(place, weights=target) / counts
    level = isotonic_regression(means, weights=counts).x
    ends = np.ones(len(level), dtype=np.bool_)  # ends of flat stretches: the knots of the curve
    ends[1:-1] = (level[1:-1] != level[:-2]) | (level[1:-1] != level[2:])
    return Scaling(x=tuple(values[ends].tolist()), y=tuple(level[ends].tolist()))


CALIBRATIONS: dict[str, FitScaling] = {"rank": rank, "isotonic": isotonic}
"""By name."""


def cross_fitted(column: Floats, target: Floats, unit: NDArray[np.intp], fit: FitScaling) -> Floats:
    """Return a column [rows] whose every unit passed through the curve of the other units."""
    scaled = np.empty_like(column)
    for number in np.unique(unit):
        rows = unit == number
        scaled[rows] = fit(column[~rows], target[~rows])(column[rows])
    return scaled
