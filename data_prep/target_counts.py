"""`TargetCounts`: what each of several targets, or each class, is on average; there are none of one number."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from data_prep.console import new_table
from data_prep.frozen_record import FrozenRecord
from data_prep.prepared import Prepared


class TargetCounts(FrozenRecord):
    """One of several targets, or one class, over all train rows with the holdout."""

    name: str
    mean: float
    """Of a class: its share of the rows."""
    least: float
    """The least mean of a fold."""
    greatest: float
    """The greatest mean of a fold."""
    missing: int
    """Rows without this target."""


def count_targets(data: Prepared) -> tuple[TargetCounts, ...]:
    """Count each of several targets, or each class."""
    names, folds = data.task.target.names, [data.in_fold(fold) for fold in np.unique(data.folds).tolist()]
    columns = data.targets.T.astype(np.float64) if names else ()
    return tuple(_count(name, column, folds) for name, column in zip(names, columns, strict=True))


def _count(name: str, column: NDArray[np.float64], folds: Sequence[NDArray[np.bool_]]) -> TargetCounts:
    means = [float(np.nanmean(column[rows])) for rows in folds]
    missing = int(np.isnan(column).sum())
    return TargetCounts(
        name=name, mean=float(np.nanmean(column)), least=min(means), greatest=max(means), missing=missing
    )


def targets_table(counts: tuple[TargetCounts, ...], **options: Any) -> Table:
    """Return counts as a table; the mean of a class is its share of the rows."""
    table = new_table("Targets", "name", "mean", "least in a fold", "greatest in a fold", "missing", **options)
    for one in counts:
        numbers = (f"{value:.4f}" for value in (one.mean, one.least, one.greatest))
        table.add_row(one.name, *numbers, f"{one.missing:,}")
    return table
