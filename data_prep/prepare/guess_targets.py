"""Guesses of what is to be predicted, from the files alone: one number, several numbers, classes or shares of them."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_prep.errors import InputError
from data_prep.store.table_records import listed_columns
from data_prep.targets.classes import ROUNDING
from data_prep.task import MOST_CLASSES, MOST_TARGETS

ID_NAME = re.compile(r"(.*_)?id|.*Id|ID|index|idx", re.ASCII)
SCORE_NAME = re.compile(r".*(score|target|label|similarity|grade|rating|toxic|relevan|quality).*|y", re.IGNORECASE)
CLASS_NAME = re.compile(r".*(label|class|categor|target|sentiment|emotion|mood|intent|topic|author|winner).*|y", re.I)
MOST_LEVELS = 12
"""Different scores, at most, that are taken for levels."""
LEAST_ALIKE = 0.25
"""Two columns are targets of one kind where both cover this share of their common range."""
PAGE = "the competition's page says which metric it really is"


@dataclass(frozen=True)
class TargetGuess:
    """The columns to predict, and what a task file says of them."""

    columns: tuple[str, ...]
    settings: dict[str, Any]
    reasons: dict[str, str]


def guess_targets(
    columns: Mapping[str, pa.ChunkedArray],
    id_column: str | None,
    in_test: Sequence[str] | None,
    in_sample: Sequence[str] | None,
) -> TargetGuess:
    """Guess the targets among the columns of train, by their content and by what test and sample submission have.

    Raises:
        InputError: no column can be one.
    """
    numbers = [name for name in columns if _is_number(columns[name]) and name != id_column]
    texts = [name for name in columns if name != id_column and _is_class_column(columns[name])]
    sample = in_sample or ()
    lacking = [name for name in columns if in_test is not None and name not in in_test]
    ways = {
        "the sample submission has it": [name for name in (*numbers, *texts) if name in sample],
        "the sample submission has a column for each of its texts": [
            name for name in texts if set(pc.unique(columns[name]).to_pylist()) <= {*sample}
        ],
        "numbers under such a name, and test lacks it": _named(numbers, SCORE_NAME, lacking),
        "few different texts under such a name, and test lacks it": _named(texts, CLASS_NAME, lacking),
        "numbers that test lacks": [name for name in numbers if name in lacking],
        "few different texts, and test lacks it": [name for name in texts if name in lacking],
        "numbers under such a name": _named(numbers, SCORE_NAME, columns),
        "few different texts under such a name": _named(texts, CLASS_NAME, columns),
        "the last column of numbers": numbers[-1:],
        "the last column with few different texts": texts[-1:],
    }
    for reason, found in ways.items():
        if found and found[0] in texts:
            return _classes(found, columns, sample, reason + _others(found[1:]))
        if found:
            told = found[0] in sample
            pool = [name for name in numbers if name in (found if told else lacking)]
            alike = _alike(found[0], pool, columns, told=told)
            if len(alike) > 1:
                return _several(alike, columns, reason)
            return _one_number(found[0], columns, reason + _others(found[1:]))
    raise InputError(
        f"train has no column of numbers that could be the score, and none with few different texts that could be "
        f"classes; it has {listed_columns(list(columns))}"
    )


def _named(names: Sequence[str], pattern: re.Pattern[str], among: Sequence[str] | Mapping[str, Any]) -> list[str]:
    return [name for name in names if pattern.fullmatch(name) and name in among]


def _others(names: Sequence[str]) -> str:
    return f"; others that fit: {', '.join(names)}" if names else ""


def _is_number(values: pa.ChunkedArray) -> bool:
    """Tell whether a column has numbers, not all the same."""
    is_number = pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
    return bool(is_number and pc.count_distinct(values).as_py() > 1)


def _is_class_column(values: pa.ChunkedArray) -> bool:
    """Tell whether a column has few different texts, each of which could be the name of a class."""
    if not pa.types.is_string(values.type) or not 2 <= pc.count_distinct(values).as_py() <= MOST_CLASSES:
        return False
    names = pc.unique(values).to_pylist()
    return len(names) <= len(values) / 2 and all(name.strip() == name and name and name.isprintable() for name in names)


def _numbers(values: pa.ChunkedArray) -> NDArray[np.float64]:
    """Return a column's numbers [rows]; NaN where missing."""
    return np.asarray(values.cast(pa.float64()).to_numpy(), dtype=np.float64)


def _alike(first: str, pool: Sequence[str], columns: Mapping[str, pa.ChunkedArray], *, told: bool) -> list[str]:
    """Return the columns of `pool` that, unless all are `told`, have numbers like the first."""
    low, high = (pick(_numbers(columns[first])) for pick in (np.nanmin, np.nanmax))
    found = []
    for name in pool:
        least, greatest = (pick(_numbers(columns[name])) for pick in (np.nanmin, np.nanmax))
        shared, whole = min(high, greatest) - max(low, least), max(high, greatest) - min(low, least)
        is_like = told or (shared >= LEAST_ALIKE * whole and not ID_NAME.fullmatch(name))
        if is_like:
            found.append(name)
    return found[:MOST_TARGETS]


def _classes(
    names: Sequence[str], columns: Mapping[str, pa.ChunkedArray], sample: Sequence[str], reason: str
) -> TargetGuess:
    """Return a guess that the first of some columns names the class of a row."""
    there = sorted(pc.unique(columns[names[0]]).to_pylist())
    classes = [name for name in sample if name in there] if set(there) <= {*sample} else there
    return TargetGuess(
        (names[0],),
        {"score_column": names[0], "classes": classes, "metric": "multiclass_log_loss"},
        {
            "score_column": reason,
            "classes": f"the {len(classes)} different texts in train",
            "metric": f"classes; {PAGE}",
        },
    )


def _several(names: list[str], columns: Mapping[str, pa.ChunkedArray], reason: str) -> TargetGuess:
    """Return a guess that all of some columns of numbers are to be predicted."""
    table = np.column_stack([_numbers(columns[name]) for name in names])
    reasons = {"score_columns": f"{re.sub('it$', 'them', reason)}; {len(names)} with numbers of one kind"}
    if table.min() >= 0 and np.all(np.abs(table.sum(axis=1) - 1) <= ROUNDING):
        prefix = re.sub(r"[^\W_]*$", "", os.path.commonprefix(names))  # noqa: RUF071 - they are no paths
        classes = [name.removeprefix(prefix) for name in names]
        reasons |= {"classes": "the columns sum to 1 in each row: shares", "metric": f"shares of classes; {PAGE}"}
        settings = {"score_columns": names, "classes": classes, "metric": "multiclass_log_loss"}
        return TargetGuess(tuple(names), settings, reasons)
    levels = np.unique(table[~np.isnan(table)]).tolist()
    legal, why = _legal(levels)
    metric = "auc" if levels == [0, 1] else "rmse"
    reasons |= why | {
        "metric": f"{'numbers 0 or 1' if metric == 'auc' else 'several numbers'}, its mean over them; {PAGE}"
    }
    return TargetGuess(tuple(names), {"score_columns": names, **legal, "metric": metric}, reasons)


def _one_number(name: str, columns: Mapping[str, pa.ChunkedArray], reason: str) -> TargetGuess:
    levels = np.unique(_numbers(columns[name].drop_null())).tolist()
    legal, why = _legal(levels)
    metric, kind = _metric(levels)
    reasons = {"score_column": reason, **why, "metric": f"{kind}; {PAGE}"}
    return TargetGuess((name,), {"score_column": name, **legal, "metric": metric}, reasons)


def _legal(levels: list[float]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the legal scores, and why."""
    if 2 <= len(levels) <= MOST_LEVELS:
        return {"score_levels": levels}, {"score_levels": f"the {len(levels)} different scores in train"}
    reason = "least and greatest in train; widen it if more is legal"
    return {"score_range": [min(levels), max(levels)]}, {"score_range": reason}


def _metric(levels: list[float]) -> tuple[str, str]:
    """Return the metric of one number, and why."""
    if len(levels) == 2:
        return "auc", "two levels"
    if len(levels) <= MOST_LEVELS and all(level == int(level) for level in levels):
        return "qwk", "whole levels (without an order they would be classes)"
    return "rmse" if min(levels) < 0 else "pearson", "scores on a scale"
