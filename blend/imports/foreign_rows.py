"""The rows of a foreign file, found in the prepared tables; whatever does not fit is refused."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from blend.imports.foreign_files import ForeignTable
from data_prep.errors import InputError
from data_prep.prepared import Prepared
from data_prep.scoring.combination import Floats
from data_prep.scoring.metrics import DEAD_BELOW, METRICS, Metric
from data_prep.store.tables import HOLDOUT_FOLD, one_array

SHOWN_IDS = 5
CHANCE = 3.09
"""Standard normal quantile of 99.9 %."""
TARGET_TOLERANCE = 1e-6


@dataclass(frozen=True)
class PreparedRows:
    """Rows of a prepared folder that a file may speak of."""

    noun: str
    ids: pa.Array
    wanted: NDArray[np.bool_]
    """[rows]: must be there; of the others, the holdout's, all or none."""
    fold: NDArray[np.int8] | None
    target: Floats | None

    @classmethod
    def of_train(cls, data: Prepared) -> "PreparedRows":
        """Return the rows of out-of-fold predictions."""
        fold = data.train["fold"].to_numpy()
        target = data.train["score"].to_numpy().astype(np.float64)
        return cls("out-of-fold", one_array(data.train["id"]), fold != HOLDOUT_FOLD, fold, target)

    @classmethod
    def of_test(cls, data: Prepared) -> "PreparedRows":
        """Return the test rows."""
        ids = one_array(data.test["id"])
        return cls("test", ids, np.ones(len(ids), bool), None, None)


@dataclass(frozen=True)
class MatchedPredictions:
    """A file's predictions in the order of a pool."""

    columns: dict[str, Floats]
    """[rows of the pool] by column name; NaN on holdout rows that the file does not have."""
    truths: tuple[str, ...]
    """Columns that are the score itself, which are left out of `columns`."""
    has_own_folds: bool
    """The file tells folds, and they are the pool's."""
    order_checked: bool
    """The rows stood in row order, and the scores bear it out."""


def place(
    table: ForeignTable, pool: PreparedRows, *, metric: Metric, trust_row_order: bool, check_fold: bool
) -> MatchedPredictions:
    """Bring a file's predictions into the order of the pool.

    Args:
        table: the file.
        pool: where its rows belong.
        metric: of the task; a file in row order is checked by it.
        trust_row_order: a file without ids has the rows of the pool, or those that are wanted, in their order.
        check_fold: the file's folds, if it tells any, must be the pool's.

    Raises:
        InputError: rows missing, unknown or repeated, values that are not finite, constant columns, scores or folds
            other than the pool's, a row order that the scores deny; all faults.
    """
    position = _by_order(table, pool, trusted=trust_row_order) if table.ids is None else _by_id(table, table.ids, pool)
    if faults := [*_target_faults(table, pool, position), *(_fold_faults(table, pool, position) if check_fold else [])]:
        raise InputError(*faults)
    truths = _truths(table, pool, position)
    columns = {name: column for name, column in table.predictions.items() if name not in truths}
    if not columns:
        raise InputError(f"{table.path}, column {truths[0]}: is the true score, row by row, and no prediction")
    faults = [fault for name, column in columns.items() for fault in _value_faults(table, name, column, pool, position)]
    if table.ids is None and pool.target is not None and not faults:
        faults = [
            fault
            for name, column in columns.items()
            for fault in _order_faults(table, name, column, pool.target[position], metric)
        ]
    if faults:
        raise InputError(*faults)
    return MatchedPredictions(
        columns={name: _scatter(column, position, len(pool.ids)) for name, column in columns.items()},
        truths=truths,
        has_own_folds=table.fold is not None and pool.fold is not None and _matches_folds(table, pool, position),
        order_checked=table.ids is None and pool.target is not None,
    )


def _matches_folds(table: ForeignTable, pool: PreparedRows, position: NDArray[np.intp]) -> bool:
    """Tell whether the file's folds part the wanted rows as the pool's do, whatever the folds are called."""
    assert table.fold is not None
    assert pool.fold is not None
    wanted = pool.wanted[position]
    pairs = {
        (theirs, ours)
        for theirs, ours, is_wanted in zip(table.fold, pool.fold[position], wanted, strict=True)
        if is_wanted
    }
    return len(pairs) == len({theirs for theirs, _ in pairs}) == len({ours for _, ours in pairs})


def _by_order(table: ForeignTable, pool: PreparedRows, *, trusted: bool) -> NDArray[np.intp]:
    if not trusted:
        raise InputError(
            f"{table.path}: has no column of ids; name it with --id-column, or, if its rows stand in the order of the "
            "file that was prepared, say so with --trust-row-order"
        )
    n_wanted = int(pool.wanted.sum())
    if table.n_rows == len(pool.ids):
        return np.arange(len(pool.ids))
    if table.n_rows == n_wanted:
        return np.flatnonzero(pool.wanted)
    counts = f"{n_wanted}" + (f" (or {len(pool.ids)} with the holdout)" if n_wanted < len(pool.ids) else "")
    raise InputError(f"{table.path}: {table.n_rows} rows without ids, expected {counts} {pool.noun} rows")


def _by_id(table: ForeignTable, ids: pa.Array, pool: PreparedRows) -> NDArray[np.intp]:
    found = pc.index_in(ids, value_set=pool.ids)
    unknown = found.is_null().to_numpy(zero_copy_only=False)
    position: NDArray[np.intp] = found.fill_null(0).to_numpy().astype(np.intp)
    times = np.bincount(position[~unknown], minlength=len(pool.ids))
    covered = times[~pool.wanted] > 0
    wrong = [
        ("ids that are in no row of the prepared data", ids, unknown, len(ids)),
        (f"ids with two or more {pool.noun} predictions", pool.ids, times > 1, len(pool.ids)),
        (f"rows without {pool.noun} prediction", pool.ids, pool.wanted & (times == 0), int(pool.wanted.sum())),
    ]
    if covered.any() and not covered.all():
        gap = ~pool.wanted & (times == 0)
        wrong.append(
            ("holdout rows without prediction, where others have one", pool.ids, gap, int((~pool.wanted).sum()))
        )
    faults = [
        f"{table.path}: {int(mask.sum())} of {total} {what} (ids {_show(names, mask)})"
        for what, names, mask, total in wrong
        if mask.any()
    ]
    if faults:
        raise InputError(*faults)
    return position


def _target_faults(table: ForeignTable, pool: PreparedRows, position: NDArray[np.intp]) -> list[str]:
    if table.target is None or pool.target is None:
        return []
    other = ~(np.abs(table.target - pool.target[position]) <= TARGET_TOLERANCE)
    if not other.any():
        return []
    return [
        f"{table.path}: {int(other.sum())} of {len(other)} rows have another score than the prepared data "
        f"(ids {_show_at(pool, position, other)}); rows and ids may have come apart, or the data is another"
    ]


def _fold_faults(table: ForeignTable, pool: PreparedRows, position: NDArray[np.intp]) -> list[str]:
    if table.fold is None or pool.fold is None or _matches_folds(table, pool, position):
        return []
    return [f"{table.path}: its folds are not those of --split; name the prepared folder they used, or --split unknown"]


def _truths(table: ForeignTable, pool: PreparedRows, position: NDArray[np.intp]) -> tuple[str, ...]:
    if pool.target is None:
        return ()
    target = pool.target[position]
    close = {name: np.abs(column - target) <= TARGET_TOLERANCE for name, column in table.predictions.items()}
    return tuple(name for name, mask in close.items() if mask.all())


def _value_faults(
    table: ForeignTable, name: str, column: Floats, pool: PreparedRows, position: NDArray[np.intp]
) -> list[str]:
    where = f"{table.path}, column {name}"
    with np.errstate(over="ignore"):
        stored = column.astype(np.float32)
    bad = ~np.isfinite(stored)
    if bad.any():
        ids = _show_at(pool, position, bad)
        return [f"{where}: {int(bad.sum())} of {len(bad)} predictions are missing, NaN or infinite (ids {ids})"]
    if np.ptp(stored) == 0.0:
        return [f"{where}: predicts {stored[0]:g} for all {len(stored)} rows; a constant cannot be blended"]
    return []


def _order_faults(table: ForeignTable, name: str, column: Floats, target: Floats, metric: Metric) -> list[str]:
    """Refuse an order that scores no better than a shuffled one.

    Over all orders of n rows a correlation (Pearson, or of ranks) has mean 0 and standard deviation 1 / sqrt(n - 1); a
    root mean squared error falls as Pearson rises, so Pearson judges for it.
    """
    judge = metric if metric.is_correlation else METRICS["pearson"]
    value = judge(target, column)
    bound = max(DEAD_BELOW, CHANCE / np.sqrt(len(target) - 1))
    if value > bound:
        return []
    return [
        f"{table.path}, column {name}: in the order of the prepared rows its {judge.name} is {value:.4f}, "
        f"where shuffled rows may reach {bound:.4f}: the order is another, or the model learned nothing; bring ids"
    ]


def _scatter(column: Floats, position: NDArray[np.intp], n_rows: int) -> Floats:
    placed = np.full(n_rows, np.nan)
    placed[position] = column
    return placed


def _show_at(pool: PreparedRows, position: NDArray[np.intp], mask: NDArray[np.bool_]) -> str:
    names = pool.ids.take(pa.array(position[mask][:SHOWN_IDS]))
    return ", ".join(names.to_pylist()) + (", ..." if mask.sum() > SHOWN_IDS else "")


def _show(ids: pa.Array, mask: NDArray[np.bool_]) -> str:
    shown: Sequence[str] = ids.filter(pa.array(mask)).slice(0, SHOWN_IDS).to_pylist()
    return ", ".join(shown) + (", ..." if mask.sum() > SHOWN_IDS else "")
