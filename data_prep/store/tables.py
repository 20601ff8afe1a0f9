"""Arrow tables as files: schemas, writing, and reading with a checksum, which every read verifies."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from data_prep.errors import InputError, StoreError
from data_prep.store.files import locate, whole_file
from data_prep.store.object_store import retry_read, store_errors

CHECKSUM_KEY = "checksum"
HOLDOUT_FOLD = -1
BLOCK_ROWS = 65_536
BATCH_ROWS = 1_048_576

Quantity = Literal["score", "prediction"]
QUANTITIES: tuple[Quantity, ...] = ("score", "prediction")
ROW_FIELDS = [("id", pa.string()), ("fold", pa.int8())]


def oof_schema(names: Sequence[str] = ()) -> pa.Schema:
    """Return the schema of predictions beside their targets; `names` are those of the numbers predicted for a row."""
    columns = [*column_names("score", names), *column_names("prediction", names)]
    return pa.schema([*ROW_FIELDS, *((name, pa.float32()) for name in columns)])


def prediction_schema(names: Sequence[str] = ()) -> pa.Schema:
    """Return the schema of predictions for rows without targets."""
    return pa.schema([*ROW_FIELDS, *((name, pa.float32()) for name in column_names("prediction", names))])


def predicted_names(columns: Sequence[str]) -> list[str]:
    """Return the names of the numbers predicted for a row, from a prediction table's columns; none: there is one."""
    return [name.removeprefix("prediction_") for name in columns if name.startswith("prediction_")]


def column_names(quantity: Quantity, names: Sequence[str]) -> list[str]:
    """Return the columns of a quantity: the quantity alone where one number is predicted, else `<quantity>_<name>`."""
    return [f"{quantity}_{name}" for name in names] or [quantity]


OOF_SCHEMA = oof_schema()
"""Where one number is predicted for a row, which needs no name."""
TEST_SCHEMA = prediction_schema()
CURVES_SCHEMA = pa.schema(
    [
        ("candidate", pa.string()),
        ("fold", pa.int8()),
        ("progress", pa.float64()),
        ("epoch", pa.float64()),
        ("metric", pa.float64()),
        ("seconds", pa.float64()),
    ]
)


class DamagedTableError(InputError):
    """A table file that is there but is not what was written: truncated, altered or of another schema."""


def checksum(table: pa.Table, *, block_rows: int = BLOCK_ROWS) -> str:
    """Return the sha256 (hex) of column names, types, values; not of chunks, dictionaries, metadata, Arrow version."""
    digest = hashlib.sha256()
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        digest.update(f"{name}\0{kind}\0{len(column)}\0".encode())
        for part in _column_digests(column, block_rows):
            digest.update(part.digest())
    return digest.hexdigest()


def _column_digests(column: pa.ChunkedArray, block_rows: int) -> "list[hashlib._Hash]":
    """Return digests of a column's missing rows, of its text lengths, and of its values."""
    missing, lengths, values = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    first = 0
    for block in _blocks(column, block_rows):
        filled = block.fill_null("" if pa.types.is_string(block.type) else 0) if block.null_count else block
        if block.null_count:
            missing.update((first + np.flatnonzero(block.is_null().to_numpy(zero_copy_only=False))).tobytes())
        if pa.types.is_string(block.type):
            lengths.update(pc.binary_length(filled).to_numpy())
            values.update(_text_bytes(filled))
        else:
            values.update(filled.to_numpy())
        first += len(block)
    return [missing, lengths, values]


def _text_bytes(block: pa.StringArray) -> "pa.Buffer | bytes":
    _, offsets, data = block.buffers()
    if data is None:
        return b""
    ends = np.frombuffer(offsets, np.int32)
    return data[int(ends[block.offset]) : int(ends[block.offset + len(block)])]


def _blocks(column: pa.ChunkedArray, n_rows: int) -> Iterator[pa.Array]:
    """Yield the non-empty parts of a column, at most `n_rows` each, dictionaries decoded."""
    for chunk in column.chunks:
        for start in range(0, len(chunk), n_rows):
            block = chunk[start : start + n_rows]
            yield block.dictionary_decode() if pa.types.is_dictionary(block.type) else block


def write_table(
    table: pa.Table,
    path: str | Path,
    *,
    schema: pa.Schema,
    metadata: dict[str, str] | None = None,
    batch_rows: int = BATCH_ROWS,
) -> str:
    """Write an uncompressed Arrow IPC file, whole or not at all, and return the checksum stored in it.

    `table` has exactly the columns of `schema`, in any order. Missing folders are made.
    """
    ordered = pa.table([_cast(table[field.name], field.type) for field in schema], names=schema.names)
    stamp = checksum(ordered)
    stamped = schema.with_metadata({**(metadata or {}), CHECKSUM_KEY: stamp})
    with whole_file(path) as sink, pa.ipc.new_file(sink, stamped) as writer:
        for start in range(0, ordered.num_rows, batch_rows):
            writer.write_table(ordered.slice(start, batch_rows).cast(stamped).combine_chunks())
    return stamp


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Return the column as `kind`; a dictionary of that type stays one until it is written."""
    same = pa.types.is_dictionary(column.type) and column.type.value_type == kind
    return column if same else column.cast(kind)


def read_table(path: str | Path, *, schema: pa.Schema | None = None) -> pa.Table:
    """Read an Arrow IPC file (memory-mapped where local) and verify its checksum.

    Raises:
        InputError: no such file.
        DamagedTableError: not an Arrow file, not the schema `schema`, or content that does not match its checksum.
    """
    try:
        source = _source(path)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputError(f"{path}: no such file") from error
    except StoreError:
        raise
    except OSError as error:
        raise DamagedTableError(f"{path}: cannot be opened ({error})") from error
    try:
        table = pa.ipc.open_file(source).read_all()
        table.validate(full=True)
        intact = checksum(table) == metadata_of(table).get(CHECKSUM_KEY)
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise DamagedTableError(f"{path}: not a whole Arrow table ({error})") from error
    if not intact:
        raise DamagedTableError(
            f"{path}: content does not match its checksum; the file was altered after it was written"
        )
    if schema is not None:
        check_schema(table, path, schema)
    return table


def check_schema(table: pa.Table, path: str | Path, schema: pa.Schema) -> None:
    """Refuse a table of another schema; DamagedTableError."""
    if not table.schema.equals(schema, check_metadata=False):
        raise DamagedTableError(f"{path}: columns are {_columns(table.schema)}, expected {_columns(schema)}")


def _source(path: str | Path) -> pa.NativeFile:
    """Open a file, memory-mapped if it is local; an object is read whole, in one request instead of one per piece."""
    filesystem, inner = locate(path)
    if isinstance(filesystem, fs.LocalFileSystem):
        return pa.memory_map(inner)
    with store_errors(path), filesystem.open_input_file(inner) as file:
        return pa.BufferReader(retry_read(file.read_buffer))


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array, without copying a column that is one chunk already (`combine_chunks` would)."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


def metadata_of(table: pa.Table) -> dict[str, str]:
    """Return a table's metadata as strings."""
    return {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}


def read_metadata(path: str | Path) -> dict[str, str] | None:
    """Return the metadata of a table file alone, unchecked; None if there is none or it cannot be read."""
    try:
        return metadata_of(pa.ipc.open_file(_source(path)).schema.empty_table())
    except StoreError:
        raise
    except (pa.ArrowException, OSError, ValueError):
        return None
