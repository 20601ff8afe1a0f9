"""Match the rows of a foreign file to the prepared tables, and refuse what does not fit."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from blend.imports.column_roles import TARGET_TOLERANCE, TRUTH, is_target, roles_by_content, same_parts
from blend.imports.foreign_columns import ForeignTable, as_whole_numbers
from blend.members.row_alignment import SHOWN_IDS, list_ids
from data_prep.errors import InputError
from data_prep.prepare.folds import MOST_FOLDS, number_by_appearance
from data_prep.prepared import Prepared
from data_prep.scoring.combination import Floats
from data_prep.scoring.metrics import DEAD_BELOW, METRICS, Metric
from data_prep.store.tables import HOLDOUT_FOLD, one_array
from data_prep.wording import count

CHANCE = 3.09
"""Standard normal quantile of 99.9 %."""


@dataclass(frozen=True)
class PreparedRows:
    """Rows of a prepared folder that a foreign file may have."""

    noun: str
    ids: pa.Array
    wanted: NDArray[np.bool_]
    """[rows]: the file must have these rows; of the others, the holdout rows, all or none."""
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
    """A file's predictions in the order of the prepared rows."""

    columns: dict[str, Floats]
    """[prepared rows] by column name; NaN on holdout rows that the file does not have."""
    others: dict[str, str]
    """What each column is that is no model's predictions."""
    fold: NDArray[np.int8] | None
    """[prepared rows]: the file's folds, numbered by first appearance, -1 on holdout rows; None if it has none."""
    as_numbers: bool
    """Ids were matched as numbers: `7.0` with `7`."""
    order_checked: bool
    """The rows have no ids, and the targets confirm their order."""


def match_rows(
    table: ForeignTable,
    rows: PreparedRows,
    *,
    metric: Metric,
    trust_row_order: bool,
    check_fold: bool,
    needs_fold: bool = False,
    all_models: bool = False,
) -> MatchedPredictions:
    """Bring a file's predictions into the order of the prepared rows; `all_models` if all columns were asked for.

    Without ids, the order must be trusted; the metric then checks it against the targets.

    Raises:
        InputError: faults of rows, values, columns, targets, folds, or an order that targets contradict; all at once.
    """
    as_numbers = table.ids is not None and _match_as_numbers(table.ids, rows.ids)
    if table.ids is None:
        position = _by_order(table, rows, trusted=trust_row_order)
    elif as_numbers:
        position = _by_id(table, as_whole_numbers(table.ids), rows, as_whole_numbers(rows.ids))
    else:
        position = _by_id(table, table.ids, rows, rows.ids)
    faults = _target_faults(table, rows, position)
    fold = None
    if table.fold is not None and rows.fold is not None:
        fold, unusable = _number_folds(table.fold, rows, position)
        if unusable and needs_fold:
            faults.append(f"{table.path}: {unusable}")
        if check_fold and not (fold is not None and same_parts(fold[rows.wanted], rows.fold[rows.wanted])):
            faults.append(
                f"{table.path}: its folds are not those of --split; name the folder that they used, or leave --split "
                "out (--fold-column takes the file's own)"
            )
    if faults:
        raise InputError(*faults)
    others = _others(table, rows, position, fold, all_models=all_models)
    columns = {name: column for name, column in table.predictions.items() if name not in others}
    if not columns:
        raise InputError(
            *(f"{table.path}, column {name}: is {role}, not a prediction" for name, role in others.items())
        )
    faults = [fault for name, column in columns.items() for fault in _value_faults(table, name, column, rows, position)]
    if table.ids is None and rows.target is not None and not faults:
        faults = [
            fault
            for name, column in columns.items()
            for fault in _order_faults(table, name, column, rows.target[position], metric)
        ]
    if faults:
        raise InputError(*faults)
    return MatchedPredictions(
        columns={name: _scatter(column, position, len(rows.ids)) for name, column in columns.items()},
        others={**table.others, **others},
        fold=fold,
        as_numbers=as_numbers,
        order_checked=table.ids is None and rows.target is not None,
    )


def _match_as_numbers(ids: pa.Array, expected: pa.Array) -> bool:
    """Tell whether ids are unknown as they are spelled, and known if `7`, `007` and `7.0` are the same."""
    if pc.all(pc.is_in(ids, value_set=expected)).as_py():
        return False
    spelled = as_whole_numbers(expected)
    is_unique = pc.count_distinct(spelled).as_py() == len(expected)
    return bool(is_unique and pc.any(pc.is_in(as_whole_numbers(ids), value_set=spelled)).as_py())


def _number_folds(
    fold: pa.Array, rows: PreparedRows, position: NDArray[np.intp]
) -> tuple[NDArray[np.int8] | None, str]:
    """Return the file's folds [prepared rows], numbered by first appearance, the holdout's as -1; or why not."""
    wanted = rows.wanted[position]
    lacking = wanted & fold.is_null().to_numpy(zero_copy_only=False)
    if lacking.any():
        ids = _show_at(rows, position, lacking)
        return None, f"{int(lacking.sum())} of {int(wanted.sum())} rows have no fold (ids {ids})"
    placed = np.full(len(rows.ids), HOLDOUT_FOLD, dtype=np.int64)
    placed[position] = fold.dictionary_encode().indices.fill_null(-1).to_numpy()
    number = number_by_appearance(placed[rows.wanted])
    if not 2 <= (n_folds := int(number.max()) + 1) <= MOST_FOLDS:
        return None, f"its fold column holds {count(n_folds, 'fold')}, which must be from 2 to {MOST_FOLDS}"
    placed[:] = HOLDOUT_FOLD
    placed[rows.wanted] = number
    return placed.astype(np.int8), ""


def _others(
    table: ForeignTable,
    rows: PreparedRows,
    position: NDArray[np.intp],
    fold: NDArray[np.int8] | None,
    *,
    all_models: bool,
) -> dict[str, str]:
    """Return what columns of out-of-fold predictions are, by their content, that are no predictions."""
    if rows.target is None:
        return {}
    target = rows.target[position]
    if all_models:
        return {name: TRUTH for name, column in table.predictions.items() if is_target(column, target)}
    folds = [known[position] for known in (rows.fold, fold) if known is not None]
    return roles_by_content(table.predictions, ids=table.ids, target=target, folds=folds)


def _by_order(table: ForeignTable, rows: PreparedRows, *, trusted: bool) -> NDArray[np.intp]:
    if not trusted:
        raise InputError(
            f"{table.path}: has no id column; name it with --id-column, or, if its rows are in the order of the file "
            "that was prepared, add --trust-row-order"
        )
    n_wanted = int(rows.wanted.sum())
    if table.n_rows == len(rows.ids):
        return np.arange(len(rows.ids))
    if table.n_rows == n_wanted:
        return np.flatnonzero(rows.wanted)
    counts = f"{n_wanted}" + (f" (or {len(rows.ids)} with the holdout)" if n_wanted < len(rows.ids) else "")
    raise InputError(f"{table.path}: {table.n_rows} rows without ids, expected {counts} {rows.noun} rows")


def _by_id(table: ForeignTable, ids: pa.Array, rows: PreparedRows, expected: pa.Array) -> NDArray[np.intp]:
    found = pc.index_in(ids, value_set=expected)
    unknown = found.is_null().to_numpy(zero_copy_only=False)
    position: NDArray[np.intp] = found.fill_null(0).to_numpy().astype(np.intp)
    times = np.bincount(position[~unknown], minlength=len(rows.ids))
    covered = times[~rows.wanted] > 0
    wrong = [
        ("ids that are in no row of the prepared data", ids, unknown, len(ids)),
        (f"ids with two or more {rows.noun} predictions", rows.ids, times > 1, len(rows.ids)),
        (f"rows without {rows.noun} prediction", rows.ids, rows.wanted & (times == 0), int(rows.wanted.sum())),
    ]
    if covered.any() and not covered.all():
        gap = ~rows.wanted & (times == 0)
        wrong.append(
            ("holdout rows without prediction, where others have one", rows.ids, gap, int((~rows.wanted).sum()))
        )
    faults = [
        f"{table.path}: {int(mask.sum())} of {total} {what} (ids {list_ids(names, mask)})"
        for what, names, mask, total in wrong
        if mask.any()
    ]
    if faults:
        raise InputError(*faults)
    return position


def _target_faults(table: ForeignTable, rows: PreparedRows, position: NDArray[np.intp]) -> list[str]:
    if table.target is None or rows.target is None:
        return []
    other = ~(np.abs(table.target - rows.target[position]) <= TARGET_TOLERANCE)
    if not other.any():
        return []
    return [
        f"{table.path}: {int(other.sum())} of {len(other)} rows have another score than the prepared data "
        f"(ids {_show_at(rows, position, other)}); its ids may be shuffled, or it was made from other data"
    ]


def _value_faults(
    table: ForeignTable, name: str, column: Floats, rows: PreparedRows, position: NDArray[np.intp]
) -> list[str]:
    where = f"{table.path}, column {name}"
    with np.errstate(over="ignore"):
        stored = column.astype(np.float32)
    bad = ~np.isfinite(stored)
    if (large := bad & np.isfinite(column)).any():
        ids = _show_at(rows, position, large)
        return [f"{where}: {int(large.sum())} of {len(bad)} predictions are beyond float32, 3.4e38 (ids {ids})"]
    if bad.any():
        ids = _show_at(rows, position, bad)
        return [f"{where}: {int(bad.sum())} of {len(bad)} predictions are missing, NaN or infinite (ids {ids})"]
    if np.ptp(stored) == 0.0:
        return [f"{where}: predicts {stored[0]:g} for all {len(stored)} rows; a constant cannot be blended"]
    return []


def _order_faults(table: ForeignTable, name: str, column: Floats, target: Floats, metric: Metric) -> list[str]:
    """Refuse an order with a metric no better than that of a shuffled one.

    Over all orders of n rows a correlation has mean 0 and deviation 1 / sqrt(n - 1); Pearson stands in for rmse.
    """
    judge = metric if metric.is_correlation else METRICS["pearson"]
    value = judge(target, column)
    bound = max(DEAD_BELOW, CHANCE / np.sqrt(len(target) - 1))
    if value > bound:
        return []
    return [
        f"{table.path}, column {name}: in the order of the prepared rows its {judge.name} is {value:.4f}, "
        f"and shuffled rows may reach {bound:.4f}: the order is wrong, or the model learned nothing; add ids"
    ]


def _scatter(column: Floats, position: NDArray[np.intp], n_rows: int) -> Floats:
    placed = np.full(n_rows, np.nan)
    placed[position] = column
    return placed


def _show_at(rows: PreparedRows, position: NDArray[np.intp], mask: NDArray[np.bool_]) -> str:
    names = rows.ids.take(pa.array(position[mask][:SHOWN_IDS]))
    return ", ".join(names.to_pylist()) + (", ..." if mask.sum() > SHOWN_IDS else "")
