"""Folds that a column decides: one that names each row's fold, or one with the time of each row."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_prep.errors import InputError, quote
from data_prep.prepare.folds import MOST_FOLDS
from data_prep.store.tables import HOLDOUT_FOLD

WHOLE_NUMBER = re.compile(r"\s*[+-]?\d{1,9}(\.0*)?\s*", re.ASCII)
SHOWN = 5


def folds_of_column(values: pa.ChunkedArray, column: str) -> NDArray[np.int8]:
    """Return the fold of each row [rows]: its values are folds, numbered in their order; -1 is the holdout.

    Raises:
        InputError: a value is empty, or there are not 2 to `MOST_FOLDS` folds.
    """
    encoded = values.combine_chunks().dictionary_encode()
    names = encoded.dictionary.to_pylist()
    if blank := [name for name in names if not name.strip()]:
        n_rows = sum(pc.sum(pc.equal(values, name)).as_py() for name in blank)
        raise InputError(f"--fold-column {column}: {n_rows:,} rows have no fold there; every row needs one")
    is_number = all(WHOLE_NUMBER.fullmatch(name) for name in names)
    keys = [int(float(name)) if is_number else name.strip() for name in names]
    ordered = sorted(set(keys) - {HOLDOUT_FOLD})
    if not 2 <= len(ordered) <= MOST_FOLDS:
        shown = ", ".join(quote(str(key)) for key in ordered[:SHOWN])
        raise InputError(
            f"--fold-column {column}: must hold 2 to {MOST_FOLDS} different folds, found {len(ordered):,} ({shown})"
        )
    number = {key: place for place, key in enumerate(ordered)} | {HOLDOUT_FOLD: HOLDOUT_FOLD}
    return np.asarray(np.array([number[key] for key in keys], np.int8)[encoded.indices.to_numpy()])


def folds_in_time(values: pa.ChunkedArray, column: str, *, n_folds: int, holdout: float) -> NDArray[np.int8]:
    """Return the fold of each row [rows]: stretches of time with about as many rows each; the holdout is the latest.

    Rows of the same time are in the same fold.

    Raises:
        InputError: a value is neither a number nor an ISO date, or the times are too few for the folds.
    """
    times = _times(values, column)
    distinct, place, counts = np.unique(times, return_inverse=True, return_counts=True)
    middle = (np.cumsum(counts) - counts / 2) / len(times) / (1 - holdout)
    folds = np.where(middle < 1, np.minimum(middle * n_folds, n_folds - 1), HOLDOUT_FOLD).astype(np.int8)
    if len(np.unique(folds)) < n_folds + (holdout > 0):
        raise InputError(
            f"--time-column {column}: {len(distinct):,} different times are too few, or too unequal, for {n_folds} "
            f"folds{' and a holdout' if holdout else ''}; use fewer folds (--folds)"
        )
    return np.asarray(folds[place], np.int8)


def _times(values: pa.ChunkedArray, column: str) -> NDArray[np.float64]:
    """Return numbers as they are, ISO dates as seconds since 1970."""
    import pandas as pd  # noqa: PLC0415 - slow to import

    texts = values.to_pandas()
    times = pd.to_numeric(texts, errors="coerce").to_numpy(np.float64)
    if np.isnan(times).all():
        dates = pd.to_datetime(texts, errors="coerce", format="ISO8601", utc=True)
        times = (dates - pd.Timestamp(0, tz="UTC")).dt.total_seconds().to_numpy(np.float64)
    if len(wrong := np.flatnonzero(~np.isfinite(times))):
        shown = ", ".join(quote(str(texts.iloc[row])) for row in wrong[:SHOWN])
        raise InputError(
            f"--time-column {column}: must be a number or a date such as 2024-01-31 in every row; "
            f"{len(wrong):,} are not ({shown})"
        )
    return np.asarray(times)
