"""Row choice: the train rows that resemble the test rows, by the values of columns."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from blend.fit.blend_settings import BlendSettings
from blend.fit.tournament import units_beside, units_of
from blend.imports.file_formats import read_file
from blend.imports.foreign_columns import read_ids
from blend.members.member_predictions import MemberPredictions
from blend.members.row_alignment import list_ids
from data_prep.errors import InputError, quote
from data_prep.prepared import Prepared
from data_prep.store.tables import one_array
from data_prep.target_views import TargetView, target_views
from data_prep.wording import count

LEAST_ROWS = 3
"""Of a part that a metric is taken of, or a blend fitted on."""
SHOWN_VALUES = 12


def choose_rows(
    predictions: MemberPredictions,
    data: Prepared,
    settings: BlendSettings,
    file: str | None = None,
    view: TargetView | None = None,
) -> tuple[MemberPredictions, MemberPredictions | None]:
    """Return the rows to score, and those to fit on where they are others; columns of `file` go before the prepared.

    `predictions` are for a `view` of the data (None: for the task's first).

    Raises:
        InputError: an unknown column, a value that no row has, rows that `file` lacks, or too few rows.
    """
    if not settings.score_on and not settings.fit_on:
        if file is not None:
            raise InputError(f"--rows {file}: chooses nothing; add --score-on or --fit-on")
        return predictions, None
    view = view or target_views(data.task)[0]
    table = _columns(view.row_ids(predictions.ids), data, file)
    to_score, to_fit = (
        np.repeat(_mask(table, chosen, option), view.cells)
        for chosen, option in ((settings.score_on, "--score-on"), (settings.fit_on, "--fit-on"))
    )
    scored, fitted = predictions.take(to_score), predictions.take(to_fit)
    _check(scored, fitted)
    return scored, None if np.array_equal(to_score, to_fit) else fitted


def _columns(ids: pa.Array, data: Prepared, file: str | None) -> pa.Table:
    """Return all columns that rows can be chosen by, for `ids`."""
    table = data.train.take(pc.index_in(ids, value_set=one_array(data.train["id"])))
    if file is None:
        return table
    names = list(dict.fromkeys([data.task.submission_id, "id"]))
    _, extra = read_file(file, names)
    id_name = next((name for name in names if name in extra.column_names), None)
    if id_name is None:
        raise InputError(f"{file}: has no id column ({' or '.join(names)}); it has {', '.join(extra.column_names)}")
    known = read_ids(extra[id_name], file, id_name)
    place = pc.index_in(ids, value_set=known)
    if place.null_count:
        missing = place.is_null().to_numpy(zero_copy_only=False)
        raise InputError(
            f"{file}: {place.null_count:,} of {len(ids):,} train rows are not in it (ids {list_ids(ids, missing)})"
        )
    if len(pc.unique(known)) < len(known):
        raise InputError(f"{file}: column {id_name} repeats ids; every row needs one of its own")
    for name in extra.column_names:
        if name in table.column_names:
            table = table.drop_columns([name])
        table = table.append_column(name, extra[name].take(place))
    return table


def _mask(table: pa.Table, given: Sequence[str], option: str) -> NDArray[np.bool_]:
    """Return the rows that have, in each column, one of the values given for it."""
    found: dict[str, NDArray[np.bool_]] = {}
    faults: list[str] = []
    for text in given:
        name, sign, values = text.partition("=")
        if not (name and sign and values):
            faults.append(f"{option} {text}: must be COLUMN=VALUE, or COLUMN=VALUE,VALUE")
        elif name not in table.column_names:
            faults.append(f"{option} {text}: no column {quote(name)}; known: {', '.join(table.column_names)}")
        else:
            column = table[name]
            whole = _equal(column, values)
            parts = (
                [(values, whole)] if whole.any() else [(value, _equal(column, value)) for value in values.split(",")]
            )
            faults += [
                f"{option} {text}: no row has {name} {quote(value)}; there are {_listed(column)}"
                for value, rows in parts
                if not rows.any()
            ]
            found[name] = np.logical_or.reduce(
                [*(rows for _, rows in parts), *([found[name]] if name in found else [])]
            )
    if faults:
        raise InputError(*faults)
    return np.asarray(np.logical_and.reduce([np.ones(table.num_rows, dtype=np.bool_), *found.values()]))


def _equal(column: pa.ChunkedArray, value: str) -> NDArray[np.bool_]:
    """Tell which rows have a value, of a number whichever way it is written."""
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        try:
            return np.asarray(column.to_numpy() == float(value))
        except ValueError:
            return np.zeros(len(column), dtype=np.bool_)
    return np.asarray(pc.fill_null(pc.equal(column.cast(pa.string()), value), False).to_numpy())


def _listed(column: pa.ChunkedArray) -> str:
    values = pc.unique(column).to_pylist()
    more = f" and {len(values) - SHOWN_VALUES:,} more" if len(values) > SHOWN_VALUES else ""
    return ", ".join(quote(str(value)) for value in values[:SHOWN_VALUES]) + more


def _check(scored: MemberPredictions, fitted: MemberPredictions) -> None:
    """Check that the metric says something on the rows to score, and that each of their units can be left out."""
    faults = []
    parts = [("--score-on", f"fold {scored.fold[rows.start]}", scored.target[rows]) for rows in scored.folds]
    unit = units_of(scored.first_fold, scored.group)
    beside = units_beside(scored, fitted)
    parts += [("--fit-on", "what is left to fit on", fitted.target[beside != number]) for number in np.unique(unit)]
    for option, what, target in parts:
        if len(target) < LEAST_ROWS or target.min() == target.max():
            scores = count(len(np.unique(target)), "different score")
            faults.append(f"{option}: too few rows: {what} holds {count(len(target), 'row')} with {scores}")
    if faults:
        raise InputError(*dict.fromkeys(faults), "choose more values, or leave the option out")
