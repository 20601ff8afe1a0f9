"""Check a table of predictions against the rows that it must cover, and align it with them."""

import itertools
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from blend.members.member_predictions import Floats32
from data_prep.errors import LONGEST_QUOTE, InputError
from data_prep.prepared import Prepared
from data_prep.scoring.combination import Floats
from data_prep.store.tables import HOLDOUT_FOLD, one_array

SHOWN_IDS = 5


@dataclass(frozen=True)
class ExpectedRows:
    """Rows that a column of predictions must cover, each exactly once."""

    noun: str
    ids: pa.Array
    target: Floats | None
    fold: NDArray[np.int8] | None


@dataclass(frozen=True)
class ExpectedRowSets:
    """The rows of a prepared folder by use: out-of-fold, test and holdout."""

    oof: ExpectedRows
    """Sorted by fold; once in every repeat."""
    row: NDArray[np.intp] | None
    """Places of the rows of `oof` in the prepared table; None: there is one repeat."""
    group: NDArray[np.int32]
    """Of the rows of `oof`."""
    by_fold: tuple[ExpectedRows, ...]
    """`oof`, split by fold."""
    test: ExpectedRows
    holdout: ExpectedRows

    @classmethod
    def of(cls, data: Prepared) -> "ExpectedRowSets":
        """Return the rows of a prepared folder."""
        row, fold = out_of_fold(data)
        rows, ids = pa.array(row), one_array(data.train["id"])
        target = data.train["score"].to_numpy().astype(np.float64)
        held = data.in_fold(HOLDOUT_FOLD)
        oof = ExpectedRows("out-of-fold", ids.take(rows), target[row], fold)
        ends = np.searchsorted(fold, np.arange(data.manifest.n_folds + 1))
        return cls(
            oof=oof,
            row=row if data.manifest.repeats > 1 else None,
            group=data.train["group"].to_numpy()[row],
            by_fold=tuple(
                ExpectedRows("out-of-fold", oof.ids[start:end], target[row[start:end]], fold[start:end])
                for start, end in itertools.pairwise(ends.tolist())
            ),
            test=ExpectedRows("test", one_array(data.test["id"]), None, None),
            holdout=ExpectedRows("holdout", ids.filter(pa.array(held)), target[held], None),
        )


def out_of_fold(data: Prepared) -> tuple[NDArray[np.intp], NDArray[np.int8]]:
    """Return the place in train and the fold of each row outside the holdout, once in every repeat.

    They are sorted by fold, inside a fold in prepared order.
    """
    fold = data.folds.ravel()
    order = np.argsort(fold, kind="stable")
    order = order[fold[order] != HOLDOUT_FOLD]
    return order % data.train.num_rows, fold[order]


def row_keys(ids: pa.Array, fold: NDArray[np.int8]) -> pa.Array:
    """Return a text for each row, of its id and fold, which tells its repeats apart."""
    return pc.binary_join_element_wise(ids, pa.array(fold).cast(pa.string()), " ")


class MissingRowsError(InputError):
    """Rows without a prediction; every other check passed."""


def has_ids(table: pa.Table, rows: ExpectedRows) -> bool:
    """Tell whether a table has exactly these rows, in this order."""
    return bool(one_array(table["id"]).equals(rows.ids))


def values_of(table: pa.Table) -> Floats32:
    """Return a table's predictions, without copying where they are contiguous in the file."""
    return np.asarray(one_array(table["prediction"]).to_numpy())


def check_values(table: pa.Table, rows: ExpectedRows, path: str, candidate: str) -> list[str]:
    """Return the faults of the rows of a table; missing rows are not checked here."""
    remedy = f"the file does not belong to this data; leave the candidate out with --exclude {candidate}"
    ids = one_array(table["id"])
    if has_ids(table, rows):
        known, place = np.ones(len(ids), dtype=np.bool_), np.arange(len(ids))
    else:
        position = pc.index_in(ids, value_set=rows.ids)
        known = position.is_valid().to_numpy(zero_copy_only=False)
        place = position.fill_null(0).to_numpy()
    prediction = table["prediction"].to_numpy()
    wrong = {
        f"are not {rows.noun} rows of the prepared data; {remedy}": ~known,
        f"have a prediction that is NaN or infinite; leave the candidate out with --exclude {candidate}": ~np.isfinite(
            prediction
        ),
    }
    if rows.target is not None:
        wrong[f"have another score than the prepared data; {remedy}"] = known & (
            table["score"].to_numpy() != rows.target[place].astype(np.float32)
        )
    if rows.fold is not None:
        wrong[f"are in another fold than in the prepared data; {remedy}"] = known & (
            table["fold"].to_numpy() != rows.fold[place]
        )
    return [
        f"{path}: candidate {candidate}: {int(mask.sum())} of {len(ids)} rows {what} (ids {list_ids(ids, mask)})"
        for what, mask in wrong.items()
        if mask.any()
    ]


def align(table: pa.Table, rows: ExpectedRows, path: str, candidate: str) -> NDArray[np.intp]:
    """Return the place in the table of each expected row; every row must be there exactly once."""
    position = pc.index_in(one_array(table["id"]), value_set=rows.ids).to_numpy()
    times = np.bincount(position, minlength=len(rows.ids))
    if (times > 1).any():
        raise InputError(
            f"{path}: candidate {candidate}: {int((times > 1).sum())} ids have two or more {rows.noun} predictions "
            f"(ids {list_ids(rows.ids, times > 1)}); leave the candidate out with --exclude {candidate}"
        )
    if (times == 0).any():
        raise MissingRowsError(
            f"{path}: candidate {candidate}: {int((times == 0).sum())} of {len(rows.ids)} rows have no {rows.noun} "
            f"prediction (ids {list_ids(rows.ids, times == 0)}); leave the candidate out with --exclude {candidate}"
        )
    return np.argsort(position)


def list_ids(ids: pa.Array, mask: NDArray[np.bool_]) -> str:
    """Return the first of the ids where `mask` is set, for a message."""
    found = [str(value) for value in ids.filter(pa.array(mask)).slice(0, SHOWN_IDS).to_pylist()]
    shown = [name if len(name) <= LONGEST_QUOTE else f"{name[:LONGEST_QUOTE]}..." for name in found]
    return ", ".join(shown) + (", ..." if mask.sum() > SHOWN_IDS else "")
