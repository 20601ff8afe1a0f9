"""Files of predictions that others made: finding them, and reading their columns unchanged."""

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.feather as pa_feather
import pyarrow.parquet as pa_parquet

from blend.imports.column_roles import INDEX_COLUMN, TARGET, role_by_name
from data_prep.errors import InputError, quote
from data_prep.scoring.combination import Floats
from data_prep.store.csv_records import separator_hint
from data_prep.store.file_starts import start_says
from data_prep.store.files import base_name, exists, join, list_names, locate, read_bytes
from data_prep.store.object_store import split_options
from data_prep.task import RESERVED_COLUMNS, Task

FOLD_SUFFIX = re.compile(r"(?:(.+?)[ ._-]+)?k?fold[ ._-]*(\d+)", re.IGNORECASE)
"""A name that ends with the number of a fold, as `oof_x_fold0`."""
FOLD_COLUMNS = ("fold", "kfold")
NAME_FROM = ("star", "file", "folder")
"""What names a model: the text that the stars of a pattern stand for, a file's name, or that of the folder it is in."""
AS_ASKED = "excluded as asked"


@dataclass(frozen=True)
class FoundFiles:
    """The files that a path, folder or pattern matches."""

    paths: dict[str, tuple[str, ...]]
    """By model name (see `NAME_FROM`). Several files: one for each fold."""
    is_single: bool
    """The path names one file, or the files of the folds of one model."""
    passed_over: tuple[str, ...] = ()
    """Files of a folder or pattern in an unknown format."""


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
        return (self.task.id_column, "id") if self.id_column is None else (self.id_column,)


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


def find_files(where: str, flag: str, name_from: str | None = None) -> FoundFiles:
    """Return the files that `where` matches: one file, a folder, or a pattern with a `*` in one part or several.

    Files whose names differ only in the number of a fold at the end (`oof_x_fold0.csv`) are those of one model.

    Raises:
        InputError: there is no file of a known format, or two have the same name.
    """
    if name_from not in (None, *NAME_FROM):
        raise InputError(f"--name-from {name_from}: must be one of {', '.join(NAME_FROM)}")
    if names := list_names(where):
        models = {join(where, name): _stem(name) for name in names}
    elif "*" in where:
        models = _matches(where)
    elif exists(where):
        name = _folder_of(where) if name_from == "folder" else _stem(base_name(where))
        return FoundFiles({name: (where,)}, is_single=True)
    else:
        raise InputError(f"{flag} {where}: no such file or folder")
    known = {path: name for path, name in models.items() if _suffix(path) in READERS}
    if name_from in ("file", "folder"):
        known = {path: _stem(base_name(path)) for path in known}
    paths: dict[str, dict[int, str]] = {}
    faults: list[str] = []
    for path, (model, fold) in _name_folds(known, by_folder=name_from == "folder").items():
        files = paths.setdefault(model, {})
        if fold in files:
            faults.append(
                f"{flag} {where}: {files[fold]} and {path} are both called {model!r}; rename one, or choose --name-from"
            )
        files[fold] = path
    if not paths:
        faults.append(f"{flag} {where}: no file with one of the suffixes {', '.join(READERS)}")
    if faults:
        raise InputError(*faults)
    ordered = {model: tuple(files[fold] for fold in sorted(files)) for model, files in paths.items()}
    return FoundFiles(
        ordered, is_single=list(paths) == [""], passed_over=tuple(path for path in models if path not in known)
    )


def _name_folds(names: dict[str, str], *, by_folder: bool) -> dict[str, tuple[str, int]]:
    """Return model and fold of each path; a name with a fold's number that stands alone is a model's own."""
    places = {path: _folder_of(path) if by_folder else "" for path in names}
    numbered = {path: match for path, name in names.items() if (match := FOLD_SUFFIX.fullmatch(name))}
    stems = [(places[path], match[1]) for path, match in numbered.items()]
    found = {
        path: (number[1] or "", int(number[2]))
        if (number := numbered.get(path)) and stems.count((places[path], number[1])) > 1
        else (name, 0)
        for path, name in names.items()
    }
    return {path: (places[path] if by_folder else name, fold) for path, (name, fold) in found.items()}


def _folder_of(path: str) -> str:
    return base_name(locate(path)[1].rpartition("/")[0])


def _matches(where: str) -> dict[str, str]:
    """Return the name of each path that a pattern matches: the texts that its stars stand for, joined by dashes."""
    place, options = split_options(where)
    parts = place.split("/")
    first = next(number for number, part in enumerate(parts) if "*" in part)
    start = "/".join(parts[:first]) or ("/" if first else ".")
    found: dict[str, tuple[str, ...]] = {start + options: ()}
    for part in parts[first:]:
        found = {path: names for folder, before in found.items() for path, names in _step(folder, part, before).items()}
    return {path: "-".join(names) for path, names in found.items()}


def _step(folder: str, part: str, before: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Return what one part of a pattern matches in a folder, with the texts of its stars after those `before`."""
    if "*" not in part:
        return {join(folder, part): before} if exists(join(folder, part)) else {}
    literals = part.split("*")
    pattern = re.compile("(.+)".join(map(re.escape, literals)))
    found = {}
    for name in list_names(folder):
        if match := pattern.fullmatch(name):
            *texts, last = match.groups()
            last = last if literals[-1] else _stem(last)
            is_number = last.isdecimal() and FOLD_SUFFIX.fullmatch(f"{literals[-2]}{last}")
            found[join(folder, name)] = (*before, *texts, f"fold{last}" if is_number else last)
    return found


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
            f"{path}: has no column {_listed(missing)}, which --prediction-column names; it has {_listed(names)}"
        )
    elif not chosen and not faults:
        faults.append(f"{path}: has no numeric prediction column; it has {_listed(names)}{separator_hint(names)}")
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


def read_file(path: str, id_names: Sequence[str]) -> tuple[bytes, pa.Table]:
    """Return content and table of a file; a column with one of `id_names` is text in it.

    Raises:
        InputError: its format is unknown, it cannot be read, names a column twice, or has no rows.
    """
    suffix = _suffix(path)
    if suffix not in READERS:
        raise InputError(f"{path}: unknown format {suffix!r}; known: {', '.join(READERS)}")
    content = read_bytes(path)
    what = start_says(content)
    if what not in (None, start_says(STARTS[suffix])):
        raise InputError(f"{path}: expected a {suffix} file, found {what}")
    try:
        table = READERS[suffix](content, id_names)
    except Exception as error:  # whatever damaged files bring about: numpy lets errors of Python's tokenizer through
        first_line = content.partition(b"\n")[0].decode(errors="replace") if suffix == ".csv" else ""
        hint = separator_hint(first_line.split(","))
        raise InputError(f"{path}: cannot be read as {suffix} ({error}){hint}") from error
    names = table.column_names
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{path}: columns named more than once: {_listed(repeated)}")
    if not table.num_rows:
        raise InputError(f"{path}: has no rows")
    return content, table


def join_tables(tables: Sequence[ForeignTable]) -> ForeignTable:
    """Return the out-of-fold rows in the files of one model's folds as one table.

    Raises:
        InputError: they differ in their columns, or have no ids.
    """
    first, *others = tables
    if not others:
        return first
    faults = [
        f"{table.path}: has the predictions {_listed(list(table.predictions))}, but {first.path} has "
        f"{_listed(list(first.predictions))}"
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
            f"{path}: has no column {columns.id_column!r}, which --id-column names; it has {_listed(names)}"
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


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:20]))
    return shown + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _suffix(path: str) -> str:
    last = base_name(path)
    return f".{last.rsplit('.', 1)[-1].lower()}" if "." in last else ""


def _stem(name: str) -> str:
    return name.rsplit(".", 1)[0] if "." in name else name


def _arrow_reader(content: bytes | bytearray) -> pa.BufferReader:
    """Return a reader of a copy that is Arrow's own.

    A thread of Arrow's that lets go of Python's bytes while an error ends the process would abort it.
    """
    sink = pa.BufferOutputStream()
    sink.write(content)
    return pa.BufferReader(sink.getvalue())


def _read_csv(content: bytes, ids: Sequence[str]) -> pa.Table:
    """Read a CSV file; ids stay text (`0012`, `NA`).

    As one block: a column's type is that of all its rows, and a row is as long as it likes.
    """
    return pa_csv.read_csv(
        _arrow_reader(content),
        read_options=pa_csv.ReadOptions(use_threads=False, block_size=max(len(content), 1)),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(column_types={name: pa.string() for name in ids}),
    )


def _read_array(content: bytes, _: Sequence[str]) -> pa.Table:
    _check_size(content)
    array: np.ndarray = np.load(io.BytesIO(content), allow_pickle=False)
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2):
        raise ValueError(f"expected numbers [rows] or [rows, models], found {array.dtype} {list(array.shape)}")
    matrix = array.reshape(len(array), -1)
    names = [str(column) for column in range(matrix.shape[1])] if matrix.shape[1] > 1 else ["prediction"]
    return pa.table([pa.array(np.ascontiguousarray(column, dtype=np.float64)) for column in matrix.T], names=names)


def _check_size(content: bytes) -> None:
    """Check that an array is as long as its header says, before memory is taken for it."""
    stream = io.BytesIO(content)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(stream)
    if version not in read_header:
        raise ValueError(f"version {version} of the format; save numbers with numpy.save")
    shape, _, dtype = read_header[version](stream)
    asked, there = math.prod(shape) * dtype.itemsize, len(content) - stream.tell()
    if not dtype.hasobject and asked != there:
        raise ValueError(f"its header asks for {asked:,} bytes of numbers, the file has {there:,}")


def _read_feather(content: bytes, _: Sequence[str]) -> pa.Table:
    return pa_feather.read_table(_arrow_reader(content), use_threads=False)


READERS: dict[str, Callable[[bytes, Sequence[str]], pa.Table]] = {
    ".csv": _read_csv,
    ".parquet": lambda content, _: pa_parquet.read_table(_arrow_reader(content), use_threads=False, pre_buffer=False),
    ".npy": _read_array,
    ".arrow": _read_feather,
    ".feather": _read_feather,
}
"""By suffix: returns a table from the bytes of a file and the names that its id column may have."""
STARTS = {".csv": b"", ".parquet": b"PAR1", ".npy": b"\x93NUMPY", ".arrow": b"ARROW1", ".feather": b"ARROW1"}
"""First bytes of each."""
