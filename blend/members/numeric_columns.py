"""Numeric columns: columns of numbers that both prepared tables have and the task does not use itself."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from blend.members.member_predictions import NumericColumns
from blend.members.row_alignment import ExpectedRowSets
from data_prep.prepared import Prepared, fold_columns
from data_prep.scoring.combination import Floats
from data_prep.store.tables import one_array
from data_prep.wording import count


def numeric_columns(data: Prepared, row_sets: ExpectedRowSets) -> tuple[NumericColumns, list[str]]:
    """Return the numeric columns for the rows of a prepared folder, and a sentence for each that is left out."""
    task = data.task
    used = {
        *task.reserved_columns,
        *fold_columns(data.manifest.repeats),
        *task.text_columns,
        task.id_column,
        *task.target_columns,
        task.group_column,
    }
    kinds: tuple[dict[str, Floats], ...] = ({}, {}, {})
    left_out = []
    for name in data.train.column_names:
        if name in used or not (_is_numeric(data.train, name) and _is_numeric(data.test, name)):
            continue
        found = (
            _values(data.train, name, row_sets.oof.ids),
            _values(data.test, name, row_sets.test.ids),
            _values(data.train, name, row_sets.holdout.ids),
        )
        missing = sum(int((~np.isfinite(values)).sum()) for values in found)
        if missing:
            left_out.append(f"column {name}: {count(missing, 'row')} have no finite number in it")
            continue
        for columns, values in zip(kinds, found, strict=True):
            columns[name] = values
    return NumericColumns(*kinds), left_out


def _is_numeric(table: pa.Table, name: str) -> bool:
    kind = table.schema.field(name).type if name in table.column_names else pa.null()
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _values(table: pa.Table, name: str, ids: pa.Array) -> Floats:
    rows = pc.index_in(ids, value_set=one_array(table["id"]))
    return np.asarray(pc.cast(table[name], pa.float64()).take(rows).to_numpy(zero_copy_only=False))
