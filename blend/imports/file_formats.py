"""Formats of files that others made: a table from the bytes of each."""

import io
import math
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.feather as pa_feather
import pyarrow.parquet as pa_parquet

from data_prep.errors import InputError
from data_prep.store.file_starts import start_says
from data_prep.store.files import base_name, read_bytes


def read_file(path: str, id_names: Sequence[str]) -> tuple[bytes, pa.Table]:
    """Return content and table of a file; a column with one of `id_names` is text in it.

    Raises:
        InputError: its format is unknown, it cannot be read, names a column twice, or has no rows.
    """
    suffix = suffix_of(path)
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
        raise InputError(f"{path}: columns named more than once: {listed(repeated)}")
    if not table.num_rows:
        raise InputError(f"{path}: has no rows")
    return content, table


def suffix_of(path: str) -> str:
    """Return the suffix of a file's name, with its dot, in small letters."""
    last = base_name(path)
    return f".{last.rsplit('.', 1)[-1].lower()}" if "." in last else ""


def separator_hint(header: Sequence[str]) -> str:
    """Return what a message about a header says if the file seems to have another separator; else nothing."""
    mark = next((mark for mark in ("\t", ";", "|") if len(header) == 1 and mark in header[0]), None)
    return f" (is it separated by {mark!r} instead of commas?)" if mark else ""


def listed(names: Sequence[str]) -> str:
    """Return names as a message lists them, the first twenty."""
    shown = ", ".join(map(repr, names[:20]))
    return shown + (f" and {len(names) - 20} more" if len(names) > 20 else "")


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
