"""The columns of a file of predictions that others made, unchanged, sorted by their roles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from blend.imports.column_roles import INDEX_COLUMN, TARGET, role_by_name
from blend.imports.file_formats import listed, read_file, separator_hint
from data_prep.errors import InputError, quote
from data_prep.scoring.combination import Floats
from data_prep.task import RESERVED_COLUMNS, Task

FOLD_COLUMNS = ("fold", "kfold")
AS_ASKED = "excluded as asked"


@dataclass(frozen=True)
class ForeignColumns:
    """Which columns of a file are ids, predictions and targets."""

    task: Task
    id_column: str | None = None
    """None: the task's name for it, else `id`."""
    predictions: Sequence[str] = ()
    """Empty: every numeric column without another role."""
    fold: str | None = None
    """The column with the folds that the models were trained on; None: one of `FOLD_COLUMNS` is only compared."""
    exclude: Mapping[str, str] = field(default_factory=dict)
    """Columns to leave out, and why."""

    @property
    def id_names(self) -> tuple[str, ...]:
        """The names that the id column may have, the most likely first."""
        return (self.task.submission_id, "id") if self.id_column is None else (self.id_column,)


@dataclass(frozen=True)
class ForeignTable:
    """The columns of one file, rows in the file's order."""

    path: str
    n_rows: int
    content: bytes
    ids: pa.Array | None
    """None: the file has no ids."""
    predictions: dict[str, Floats]
    """[rows] by column name; NaN where the file has no value."""
    fold: pa.Array | None
    """The name of each row's fold, null where it has none."""
    target: Floats | None
    fold_name: str = FOLD_COLUMNS[0]
    others: dict[str, str] = field(default_factory=dict)
    """What each column is that is none of these and not the task's, by its name."""


def read_foreign(path: str, columns: ForeignColumns, *, is_test: bool) -> ForeignTable:
    """Read a file and sort its columns by role.

    The task's score column is the target beside other numeric columns, but the prediction (a submission) if alone.

    Raises:
        InputError: the file cannot be read, has no prediction column, or has one that is partly text; all its faults.
    """
    content, table = read_file(path, columns.id_names)
    names = table.column_names
    id_name = _id_column(path, names, columns)
    numbers, faults = _numbers(table, path, id_name, columns)
    others = _others(names, numbers, id_name, columns)
    chosen, truth = _choose(list(numbers), others, columns, is_test=is_test)
    missing = [name for name in columns.predictions if name not in names]
    if not is_test and missing:
        faults.append(
            f"{path}: has no column {listed(missing)}, which --prediction-column names; it has {listed(names)}"
        )
    elif not chosen and not faults:
        faults.append(f"{path}: has no numeric prediction column; it has {listed(names)}{separator_hint(names)}")
    if faults:
        raise InputError(*faults)
    fold_names = FOLD_COLUMNS if columns.fold is None else (columns.fold,)
    fold_name = next((name for name in fold_names if name in names and name not in chosen), None)
    return ForeignTable(
        path=path,
        n_rows=table.num_rows,
        content=content,
        ids=None if id_name is None else read_ids(table[id_name], path, id_name),
        predictions={name: numbers[name] for name in chosen},
        fold=None if fold_name is None else as_whole_numbers(_as_text(table[fold_name], path, fold_name)),
        target=None if truth is None else numbers[truth],
        fold_name=fold_name or FOLD_COLUMNS[0],
        others={name: role for name, role in others.items() if name not in {*chosen, fold_name, truth}},
    )


def join_tables(tables: Sequence[ForeignTable]) -> ForeignTable:
    """Return the out-of-fold rows in the files of one model's folds as one table.

    Raises:
        InputError: they differ in their columns, or have no ids.
    """
    first, *others = tables
    if not others:
        return first
    faults = [
        f"{table.path}: has the predictions {listed(list(table.predictions))}, but {first.path} has "
        f"{listed(list(first.predictions))}"
        for table in others
        if set(table.predictions) != set(first.predictions)
    ]
    if without := [table.path for table in tables if table.ids is None]:
        faults.append(
            f"{', '.join(without)}: has no id column, which files of single folds need; name it with --id-column"
        )
    if faults:
        raise InputError(*faults)
    numbers = [pa.array([str(number)] * table.n_rows) for number, table in enumerate(tables)]
    folds = [number if table.fold is None else table.fold for table, number in zip(tables, numbers, strict=True)]
    targets = [table.target for table in tables if table.target is not None]
    return ForeignTable(
        path=f"{first.path} (and {len(others)} more)",
        n_rows=sum(table.n_rows for table in tables),
        content=b"".join(table.content for table in tables),
        ids=pa.concat_arrays([table.ids for table in tables]),
        predictions={name: np.concatenate([table.predictions[name] for table in tables]) for name in first.predictions},
        fold=pa.concat_arrays(folds),
        target=np.concatenate(targets) if len(targets) == len(tables) else None,
        others={name: role for table in tables for name, role in table.others.items()},
    )


def _id_column(path: str, names: Sequence[str], columns: ForeignColumns) -> str | None:
    if columns.id_column is not None and columns.id_column not in names:
        raise InputError(
            f"{path}: has no column {columns.id_column!r}, which --id-column names; it has {listed(names)}"
        )
    return next((name for name in columns.id_names if name in names), None)


def _numbers(
    table: pa.Table, path: str, id_name: str | None, columns: ForeignColumns
) -> tuple[dict[str, Floats], list[str]]:
    """Return every column that may hold predictions or targets, and a fault for each that is partly text."""
    import pandas as pd  # noqa: PLC0415 - slow to import

    numbers: dict[str, Floats] = {}
    faults: list[str] = []
    reserved = {*_reserved(columns), id_name}
    for name in table.column_names:
        if name in reserved or (INDEX_COLUMN.fullmatch(name) and name not in columns.predictions):
            continue
        column = table[name]
        if _is_numeric(column.type):
            try:
                numbers[name] = column.cast(pa.float64()).to_numpy().astype(np.float64)
            except pa.ArrowInvalid:
                faults.append(
                    f"{path}, column {name}: has whole numbers above 2^53, which no prediction is; remove it, "
                    "or name it with --id-column"
                )
        elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            values = column.to_pandas()
            parsed = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64)
            is_text = np.isnan(parsed)
            if not is_text.any():
                numbers[name] = parsed
            elif name in columns.predictions or is_text.mean() < 0.5:
                row = int(np.argmax(is_text))
                faults.append(
                    f"{path}, column {name}: {int(is_text.sum())} of {len(values)} values are not numbers, the first "
                    f"is {quote(str(values.iloc[row]))} in data row {row + 1}; fix them or remove the column"
                )
    return numbers, faults


def _reserved(columns: ForeignColumns) -> set[str | None]:
    """Return names of columns that are never predictions, unless --prediction-column names them."""
    task = columns.task
    names = {*RESERVED_COLUMNS, *FOLD_COLUMNS, *task.text_columns, task.group_column, columns.fold}
    return {*(names - {"score", "prediction", *columns.predictions}), *columns.exclude}


def _others(
    names: Sequence[str], numbers: dict[str, Floats], id_name: str | None, columns: ForeignColumns
) -> dict[str, str]:
    """Return what columns are, by their names, that are no predictions; the task's own are not worth a word."""
    own = {id_name, *RESERVED_COLUMNS, *columns.task.text_columns, columns.task.group_column} - {"fold", "prediction"}
    found: dict[str, str] = {}
    for name in names:
        if name in columns.exclude:
            found[name] = columns.exclude[name]
        elif columns.predictions or (name in own and name not in numbers):
            continue
        elif role := role_by_name(name):
            found[name] = f"{role}, by its name"
        elif name not in numbers:
            found[name] = "not numbers"
    return found


def _choose(
    numeric: Sequence[str], others: dict[str, str], columns: ForeignColumns, *, is_test: bool
) -> tuple[list[str], str | None]:
    """Return the prediction columns and the target column; a test file has no target."""
    truths = [name for name in dict.fromkeys((columns.task.score_column, "score")) if name in numeric]
    named = [name for name in columns.predictions if name in numeric]
    like_targets = [name for name in numeric if role_by_name(name) == TARGET]
    chosen = named or [name for name in numeric if name not in {*truths, *others}] or truths or like_targets
    truth = next((name for name in truths if name not in chosen), None)
    return chosen, None if is_test else truth


def _is_numeric(kind: pa.DataType) -> bool:
    tests = (pa.types.is_floating, pa.types.is_integer, pa.types.is_decimal, pa.types.is_null)
    return any(test(kind) for test in tests)


def _as_text(column: pa.ChunkedArray, path: str, name: str) -> pa.Array:
    try:
        return column.cast(pa.string()).combine_chunks()
    except pa.ArrowException as error:
        raise InputError(f"{path}, column {name}: must be UTF-8 text or whole numbers ({error})") from error


def read_ids(column: pa.ChunkedArray, path: str, name: str) -> pa.Array:
    """Return ids as text; InputError if one is missing or cannot be text."""
    ids = _as_text(column, path, name)
    if ids.null_count:
        raise InputError(f"{path}, column {name}: {ids.null_count} of {len(ids)} rows have no id")
    return ids


def as_whole_numbers(texts: pa.Array) -> pa.Array:
    """Return texts with every whole number in one spelling: `7`, `007` and `7.0` are `7`."""
    return pc.replace_substring_regex(texts, r"^(-?)0*(\d+?)(\.0*)?$", r"\1\2")
