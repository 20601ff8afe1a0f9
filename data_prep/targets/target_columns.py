"""The columns of prepared and prediction tables that hold targets and predictions, one for each number."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_prep.store.tables import Quantity, column_names, predicted_names


def numbers_of(table: pa.Table, quantity: Quantity, names: Sequence[str] | None = None) -> NDArray[np.float32]:
    """Return a table's targets or predictions: [rows] of one number, else [rows, numbers]; NaN where missing.

    `names` are those of the target kind; None: those of the table's predictions.
    """
    columns = column_names(quantity, predicted_names(table.column_names) if names is None else names)
    numbers = [np.asarray(table[name].to_numpy(), dtype=np.float32) for name in columns]
    return numbers[0] if columns == [quantity] else np.column_stack(numbers)


def with_numbers(table: pa.Table, quantity: Quantity, values: NDArray[np.floating], names: Sequence[str]) -> pa.Table:
    """Return a table with targets or predictions appended, [rows] or [rows, numbers]; a NaN score is missing."""
    for name, column in zip(column_names(quantity, names), np.atleast_2d(values.T), strict=True):
        table = table.append_column(name, pa.array(column, pa.float32(), from_pandas=quantity == "score"))
    return table
