"""The shape of the errors: worst rows, confusion by level, calibration by decile, histogram."""

import numpy as np
import pandas as pd

from blend.errors.error_rows import ErrorRows
from blend.errors.error_slices import MOST_LEVELS, clustered_error, quantile_bins, slice_values
from data_prep.scoring.metrics import level_numbers, midpoints

N_DECILES = 10
HISTOGRAM_BINS = 40


def worst_rows(rows: ErrorRows, n: int = 20, *, by: str | None = None) -> pd.DataFrame:
    """Return the `n` rows with the greatest absolute error, worst first, with all columns of `rows.frame`.

    With `by`, only the worst row of each value of that column (see `slice_values`).

    Raises:
        InputError: no column `by`.
    """
    ordered = rows.frame.sort_values("error", key=np.abs, ascending=False, kind="stable")
    if by is not None:
        ordered = ordered.groupby(slice_values(rows, by), observed=True, sort=False).head(1)
    return ordered.head(n)


def confusion(rows: ErrorRows) -> pd.DataFrame:
    """Return how many rows of each level (index `score`) are predicted nearest to each level (columns `predicted`).

    The levels are the task's; without them, the scores that occur, if they are few; else the table is empty.
    """
    score, prediction = rows.frame["score"], rows.frame["prediction"]
    levels = np.asarray(rows.task.score_levels or sorted(score.unique()), dtype=np.float64)
    if rows.task.score_levels is None and len(levels) > MOST_LEVELS:
        return pd.DataFrame()
    cuts, size = midpoints(levels), len(levels)
    place = level_numbers(score, cuts) * size + level_numbers(prediction, cuts)
    counts = np.bincount(place.astype(np.intp), minlength=size * size).reshape(size, size)
    return pd.DataFrame(counts, index=pd.Index(levels, name="score"), columns=pd.Index(levels, name="predicted"))


def calibration(rows: ErrorRows) -> pd.DataFrame:
    """Return for each tenth of the rows, by their prediction, what they score; rows predicted equal stay together.

    Columns: `decile` from 1, `n`, `low` and `high` (the predictions in it), `mean_prediction`, `mean_score`,
    `standard_error` of their difference, clustered by group.
    """
    frame = rows.frame
    number, edges = quantile_bins(frame["prediction"].to_numpy(), N_DECILES)
    found = []
    for place, (low, high) in enumerate(edges):
        part = frame[number == place]
        found.append(
            {
                "decile": place + 1,
                "n": len(part),
                "low": low,
                "high": high,
                "mean_prediction": float(part["prediction"].mean()),
                "mean_score": float(part["score"].mean()),
                "standard_error": clustered_error(part["error"].to_numpy(), part["group"].to_numpy()),
            }
        )
    return pd.DataFrame(found)


def error_histogram(rows: ErrorRows, bins: int = HISTOGRAM_BINS) -> pd.DataFrame:
    """Return the number of rows `n` whose error is from `low` to `high`, in `bins` equal parts around zero."""
    error = rows.frame["error"].to_numpy()
    reach = float(np.abs(error).max()) or 1.0
    counts, edges = np.histogram(error, bins=bins, range=(-reach, reach))
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "n": counts})
