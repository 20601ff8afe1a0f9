"""Candidate and fold effects fitted by ordinary least squares: the reference for the ladder's table of metrics."""

import numpy as np


def residual_by_least_squares(values: np.ndarray) -> tuple[float, int]:
    """Sum of squares and degrees of freedom that ordinary least squares leaves."""
    rows, folds = np.nonzero(~np.isnan(values))
    design = np.column_stack([rows == row for row in range(len(values))] + [folds == k for k in range(values.shape[1])])
    known = values[rows, folds]
    fitted = design @ np.linalg.lstsq(design.astype(float), known, rcond=None)[0]
    return float(((known - fitted) ** 2).sum()), len(known) - int(np.linalg.matrix_rank(design))
