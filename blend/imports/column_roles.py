"""Numeric columns of a file of predictions that are no models, recognised by name and by content."""

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_prep.scoring.combination import Floats

TARGET_TOLERANCE = 1e-6
ERROR_TOLERANCE = 1e-5
"""Rounding of errors that others computed in float32, as a share of the targets' range."""
PROBED_ROWS = 16
"""Rows on which errors are looked for before all rows decide."""
TRUTH = "the true score in every row"
TARGET = "the target"
INDEX_COLUMN = re.compile(r"(unnamed: \d+|__index_level_\d+__|index)?", re.IGNORECASE)
"""Names that pandas gives to a column of row numbers."""
NAMES = {
    "row numbers": INDEX_COLUMN,
    "folds": re.compile(r"(k|cv|val|valid)?[ _-]?folds?([ _-]?(id|no|num|number|index))?|cv", re.IGNORECASE),
    "an error": re.compile(r"(abs|sq|squared)?[ _-]?(resid(ual)?s?|err(or)?s?|diff)", re.IGNORECASE),
    TARGET: re.compile(r"(y[ _-]?)?(true|truth|targets?|labels?|actual|score)|y|ground[ _-]?truth", re.IGNORECASE),
    "an id": re.compile(r"(.*[ _-])?ids?", re.IGNORECASE),
    "weights of rows": re.compile(r"(sample[ _-]?)?weights?", re.IGNORECASE),
}
"""What the name of a column says that it is."""


def role_by_name(name: str) -> str | None:
    """Return what a column's name says that it is; None: perhaps a model's predictions."""
    return next((role for role, pattern in NAMES.items() if pattern.fullmatch(name.strip())), None)


def roles_by_content(
    columns: dict[str, Floats], *, ids: pa.Array | None, target: Floats, folds: Sequence[NDArray[np.integer]]
) -> dict[str, str]:
    """Return what each of `columns` [rows] is whose values cannot be a model's predictions.

    Each of `folds` is one way in which the rows are known to be divided.
    """
    finite = {name: column for name, column in columns.items() if np.isfinite(column).all()}
    found = {name: TRUTH for name, column in finite.items() if is_target(column, target)}
    for name, column in finite.items():
        if name not in found and (role := _bookkeeping(column, ids, folds)):
            found[name] = role
    rest = {name: column for name, column in finite.items() if name not in found}
    found |= _errors(rest, target)
    is_whole = {name: bool((column == np.round(column)).all()) for name, column in rest.items() if name not in found}
    if not all(is_whole.values()):
        found |= {name: "whole numbers, where others have fractions" for name, whole in is_whole.items() if whole}
    return found


def is_target(column: Floats, target: Floats) -> bool:
    """Tell whether a column is the target itself."""
    return bool((np.abs(column - target) <= TARGET_TOLERANCE).all())


def same_parts(one: NDArray[np.integer], other: NDArray[np.integer]) -> bool:
    """Tell whether two columns divide the rows alike; the names of the parts do not matter."""
    n_pairs = len(np.unique(np.column_stack([one, other]), axis=0))
    return n_pairs == len(np.unique(one)) == len(np.unique(other))


def _bookkeeping(column: Floats, ids: pa.Array | None, folds: Sequence[NDArray[np.integer]]) -> str | None:
    """Return what a column of whole numbers is that only keeps account of the rows."""
    if not (column == np.round(column)).all() or len(column) < 2:
        return None
    if (np.diff(column) == 1.0).all():
        return "row numbers"
    if ids is not None and (numbers := _as_numbers(ids)) is not None and (numbers == column).all():
        return "a copy of the ids"
    if any(same_parts(np.unique(column, return_inverse=True)[1], fold) for fold in folds):
        return "the number of each row's fold"
    return None


def _as_numbers(ids: pa.Array) -> Floats | None:
    try:
        return np.asarray(pc.cast(ids, pa.float64()).to_numpy())
    except pa.ArrowInvalid:
        return None


def _errors(columns: dict[str, Floats], target: Floats) -> dict[str, str]:
    """Return which columns are the error of another, its size or its square.

    Of a prediction and its residual each is the target less the other; the prediction is the one with its mean.
    """
    names = sorted(columns, key=lambda name: abs(float(columns[name].mean() - target.mean())))
    near = ERROR_TOLERANCE * float(np.ptp(target))
    rows = np.unique(np.linspace(0, len(target) - 1, PROBED_ROWS).astype(int))
    probed = np.array([columns[name][rows] for name in names])
    found: dict[str, str] = {}
    for name in names:
        for form, error in _error_forms(target[rows], columns[name][rows]).items():
            alike = (np.abs(probed - error) <= near).all(axis=1) if name not in found else np.zeros(len(names), bool)
            for other in {names[place] for place in np.flatnonzero(alike)} - {name, *found}:
                if (np.abs(columns[other] - _error_forms(target, columns[name])[form]) <= near).all():
                    found[other] = form.format(repr(name))
    return found


def _error_forms(target: Floats, prediction: Floats) -> dict[str, Floats]:
    gap = target - prediction
    with np.errstate(over="ignore"):
        square = gap**2
    return {"target - {}": gap, "{} - target": -gap, "|target - {}|": np.abs(gap), "(target - {})^2": square}
