"""Slices of the rows by context, section, score, length or any column, with the error in each and its noise."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from blend.errors.error_rows import ErrorRows
from data_prep.errors import InputError
from data_prep.scoring.combination import Floats
from data_prep.scoring.group_bootstrap import GroupBootstrap, standard_error
from data_prep.scoring.metrics import Metric

FEW_ROWS = 30
"""Below so many rows, a slice says little."""
LEAST_ROWS = 3
"""Below so many rows, there is no metric."""
MOST_LEVELS = 12
"""A column of numbers with more different ones is cut into `N_BINS` parts."""
N_BINS = 5
MOST_VALUES = 200
"""A column of texts with more different ones is sliced by only where it is asked for."""
RESAMPLES = 200


def slice_columns(rows: ErrorRows) -> list[str]:
    """Return the columns worth slicing by, in the order of the table: all but ids, groups and free text."""
    frame = rows.frame
    passed_over = {"id", "context_text", "group", "prediction", "error", *rows.members, rows.task.group_column}
    columns = [name for name in frame.columns if name not in passed_over]
    return [name for name in columns if pd.api.types.is_numeric_dtype(frame[name]) or _repeats(frame[name])]


def slices(rows: ErrorRows, by: str | Sequence[str] | None = None) -> pd.DataFrame:
    """Return one row for each value of each column of `by` (None: `slice_columns`), in the order of the values.

    A number column with more than `MOST_LEVELS` different ones is cut at its quantiles. Columns of the result:

    - `column`, `value`: the slice; `n`: its rows, `groups`: how many groups they are of; `few`: n < `FEW_ROWS`
    - `metric`: the task's metric, NaN where a slice has none (a correlation inside one score level);
      `metric_error`: its standard error by a bootstrap over groups
    - `bias`: mean of prediction - score; `bias_error`: its standard error, clustered by group, NaN for a single group
    - `rmse`: root of the mean squared error

    Raises:
        InputError: no such column.
    """
    columns = slice_columns(rows) if by is None else [by] if isinstance(by, str) else list(by)
    found = [
        {"column": column, "value": value, **_measured(part, rows.metric)}
        for column in columns
        for value, part in rows.frame.groupby(slice_values(rows, column), observed=True, sort=True)
    ]
    return pd.DataFrame(found, columns=["column", "value", *_MEASURES])


def slice_values(rows: ErrorRows, column: str) -> pd.Series:
    """Return the value [rows] by which a row is sliced, as text; categories are in order.

    Raises:
        InputError: no such column.
    """
    if column not in rows.frame.columns:
        known = ", ".join(slice_columns(rows))
        raise InputError(f"no column {column!r} to slice by; known: {known}")
    values = rows.frame[column]
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        text = values.astype("string").fillna("(none)")
        return text.astype(pd.CategoricalDtype(sorted(text.unique()), ordered=True))
    numbers = values.to_numpy(dtype=np.float64) + 0.0  # no -0
    levels = np.unique(numbers[~np.isnan(numbers)])
    if len(levels) <= MOST_LEVELS:
        place = np.where(np.isnan(numbers), -1, np.searchsorted(levels, numbers))
        names = _names(levels)
    else:
        place, edges = quantile_bins(numbers, N_BINS)
        names = [" to ".join(_names(part)) for part in edges]
    kind = pd.CategoricalDtype(names, ordered=True)
    return pd.Series(pd.Categorical.from_codes(place.astype(np.intp), dtype=kind), index=values.index)


def _names(numbers: Iterable[float]) -> list[str]:
    """Return ascending numbers as texts, with as many digits as tell them apart."""
    short = [f"{number:.6g}" for number in numbers]
    return short if len(set(short)) == len(short) else [repr(float(number)) for number in numbers]


def quantile_bins(values: Floats, n_bins: int) -> tuple[NDArray[np.intp], list[tuple[float, float]]]:
    """Cut `values` [rows] at their quantiles into at most `n_bins` parts; equal values are in the same part.

    Returns:
        The number of each row's part, from 0 (-1 where the value is NaN), and the least and greatest value of each.
    """
    known = values[~np.isnan(values)]
    cuts = np.unique(np.quantile(known, np.arange(1, n_bins) / n_bins))
    number = np.where(np.isnan(values), -1, np.searchsorted(cuts, values, side="left"))
    present = np.unique(number[number >= 0])
    edges = [(float(values[number == part].min()), float(values[number == part].max())) for part in present]
    return np.where(number < 0, -1, np.searchsorted(present, number)).astype(np.intp), edges


def clustered_error(error: Floats, group: NDArray[np.int32]) -> float:
    """Return the standard error of the mean of `error` [rows], whose rows of one `group` [rows] are not independent.

    The root of G / (G - 1) times the sum over G groups of the squared sums of deviations, over n; NaN for one group.
    """
    _, number = np.unique(group, return_inverse=True)
    sums = np.bincount(number, weights=error - error.mean())
    n_groups = len(sums)
    return float(np.sqrt(n_groups / (n_groups - 1) * (sums @ sums)) / len(error)) if n_groups > 1 else float("nan")


_MEASURES = ("n", "groups", "few", "metric", "metric_error", "bias", "bias_error", "rmse")


def _has_whole_rows(part: pd.DataFrame, metric: Metric) -> bool:
    """Tell whether a slice has all classes of its rows, or there are none; a metric of classes needs whole rows."""
    _, times = np.unique(part.index.to_numpy() // metric.n_classes, return_counts=True)
    return bool((times == metric.n_classes).all())


def _measured(part: pd.DataFrame, metric: Metric) -> dict[str, float]:
    score, prediction, error = (part[name].to_numpy() for name in ("score", "prediction", "error"))
    group = part["group"].to_numpy()
    value, noise = float("nan"), float("nan")
    if _has_whole_rows(part, metric):
        value, noise = _metric_with_noise(score, prediction, group, metric)
    return {
        "n": len(part),
        "groups": len(np.unique(group)),
        "few": len(part) < FEW_ROWS,
        "metric": value,
        "metric_error": noise,
        "bias": float(error.mean()),
        "bias_error": clustered_error(error, group),
        "rmse": float(np.sqrt(np.mean(error**2))),
    }


def _metric_with_noise(
    score: Floats, prediction: Floats, group: NDArray[np.int32], metric: Metric
) -> tuple[float, float]:
    """Return the metric and its standard error; NaN where there is none."""
    value = metric(score, prediction) if len(score) >= LEAST_ROWS else float("nan")
    if np.isnan(value) or len(np.unique(group)) < 2:
        return value, float("nan")
    part = np.zeros(len(score), dtype=np.int8)
    bootstrap = GroupBootstrap(score, part, group, metric, resamples=RESAMPLES)
    drawn = bootstrap.draws(prediction[:, None])
    return value, standard_error(drawn.drawn[0], drawn.n_groups)


def _repeats(values: pd.Series) -> bool:
    return bool(values.nunique() <= MOST_VALUES)
