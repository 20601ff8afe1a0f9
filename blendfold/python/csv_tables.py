"""DataFrames as CSV files, for as long as code that reads files needs them."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import pandas as pd

from data_prep.errors import InputError

Table: TypeAlias = pd.DataFrame | str | Path
"""A table: a DataFrame, or the path or URI of a CSV file."""


@contextmanager
def csv_files(**tables: Table | None) -> Iterator[dict[str, str | None]]:
    """Yield the path of each table by its name; a DataFrame is written as CSV, without its index, into a file.

    The files are removed at the end. Faults that are found in them name the argument instead of the file.

    Raises:
        InputError: as the block, with `train (DataFrame)` for the file of `train`.
    """
    with tempfile.TemporaryDirectory(prefix="blendfold-") as folder:
        paths = {name: _path_of(table, f"{folder}/{name}.csv") for name, table in tables.items()}
        try:
            yield paths
        except InputError as error:
            frames = {name: table for name, table in tables.items() if isinstance(table, pd.DataFrame)}
            if not frames:
                raise
            faults = list(error.faults)
            for name in frames:
                faults = [fault.replace(f"{folder}/{name}.csv", f"{name} (DataFrame)") for fault in faults]
            raise InputError(*faults, *_missing_values(frames)) from None


def _path_of(table: Table | None, path: str) -> str | None:
    if table is None or not isinstance(table, pd.DataFrame):
        return None if table is None else str(table)
    table.to_csv(path, index=False, lineterminator="\n", float_format=_shortest)
    return path


def _shortest(number: object) -> str:
    """Return the shortest text for a number, as people write scores: `1`, not `1.0`."""
    return str(number).removesuffix(".0")


def _missing_values(frames: dict[str, pd.DataFrame]) -> list[str]:
    """Return a hint for each table in which pandas may have taken a text such as `NA` for a missing value."""
    columns = {name: [str(column) for column in frame if frame[column].isna().any()] for name, frame in frames.items()}
    return [
        f"{name} (DataFrame): has missing values in {', '.join(found)}. `pd.read_csv` takes texts like NA and null for "
        "missing; keep_default_na=False keeps them"
        for name, found in columns.items()
        if found
    ]
