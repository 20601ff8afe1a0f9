"""Arrow tables that cross a border: their schemas, and how a table reaches a file and comes back.

A path may be a local path or any `pyarrow.fs` URI (`s3://...`). A file is written whole or not at all, carries a
checksum of its content, and is checked against it when read.
"""

import hashlib
import io
import json
import os
import secrets
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from data_prep.errors import InputError
from data_prep.task import Task

CHECKSUM_KEY = "checksum"
HOLDOUT_FOLD = -1

OOF_SCHEMA = pa.schema(
    [("id", pa.string()), ("fold", pa.int8()), ("score", pa.float32()), ("prediction", pa.float32())]
)
TEST_SCHEMA = pa.schema([("id", pa.string()), ("fold", pa.int8()), ("prediction", pa.float32())])
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


def train_schema(task: Task) -> pa.Schema:
    """Schema of `train.arrow`: id, text columns, context_text where there are CPC codes, score, group, fold."""
    return pa.schema([*_text_fields(task), ("score", pa.float32()), ("group", pa.int32()), ("fold", pa.int8())])


def test_schema(task: Task) -> pa.Schema:
    """Schema of a prepared `test.arrow`: the train schema without score, group and fold."""
    return pa.schema(_text_fields(task))


def _text_fields(task: Task) -> list[tuple[str, pa.DataType]]:
    names = ["id", *task.text_columns, *(["context_text"] if task.cpc_column else [])]
    return [(name, pa.string()) for name in names]


def locate(path: str | Path) -> tuple[fs.FileSystem, str]:
    """Return the filesystem and the path inside it for a local path or a `pyarrow.fs` URI."""
    text = str(path)
    if "://" not in text:
        return fs.LocalFileSystem(), str(Path(text).absolute())
    try:
        filesystem, inner = fs.FileSystem.from_uri(text)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{text}: not a path or URI that pyarrow.fs can open ({error})") from error
    return filesystem, inner


def join(path: str | Path, *parts: str) -> str:
    """Append path parts to a local path or URI."""
    return "/".join([str(path).rstrip("/"), *parts])


def exists(path: str | Path) -> bool:
    """Tell whether a file or folder is there."""
    filesystem, inner = locate(path)
    return bool(filesystem.get_file_info(inner).type != fs.FileType.NotFound)


def list_names(folder: str | Path) -> list[str]:
    """Return the sorted names in a folder; empty when there is no such folder."""
    filesystem, inner = locate(folder)
    found = filesystem.get_file_info(fs.FileSelector(inner, allow_not_found=True))
    return sorted(info.base_name for info in found)


def checksum(table: pa.Table) -> str:
    """Return the sha256 (hex) of a table's column names, types and values; chunking and metadata do not count."""
    digest = _HashSink()
    bare = table.replace_schema_metadata(None).combine_chunks()
    with pa.ipc.new_stream(pa.PythonFile(digest, mode="w"), bare.schema) as writer:
        writer.write_table(bare)
    return digest.sha256.hexdigest()


class _HashSink(io.RawIOBase):
    """A writable file that only hashes what it is given."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: "bytes | memoryview") -> int:  # type: ignore[override]
        self.sha256.update(data)
        return len(data)


def write_table(table: pa.Table, path: str | Path, *, schema: pa.Schema, metadata: dict[str, str] | None = None) -> str:
    """Write an uncompressed Arrow IPC file, whole or not at all, and return the checksum stored in it.

    Args:
        table: must have exactly the columns of `schema`, in any order.
        path: local path or URI; missing folders are made.
        schema: names and types to write.
        metadata: strings kept in the file's schema metadata.
    """
    typed = table.select(schema.names).cast(schema).combine_chunks()
    stamp = checksum(typed)
    typed = typed.replace_schema_metadata({**(metadata or {}), CHECKSUM_KEY: stamp})
    buffer = pa.BufferOutputStream()
    with pa.ipc.new_file(buffer, typed.schema) as writer:
        writer.write_table(typed)
    write_bytes(buffer.getvalue(), path)
    return stamp


def read_table(path: str | Path, *, schema: pa.Schema | None = None) -> pa.Table:
    """Read an Arrow IPC file (memory-mapped where local) and verify its checksum.

    Raises:
        InputError: no such file.
        DamagedTableError: not an Arrow file, another schema than `schema`, or content that its checksum denies.
    """
    filesystem, inner = locate(path)
    try:
        source = (
            pa.memory_map(inner) if isinstance(filesystem, fs.LocalFileSystem) else filesystem.open_input_file(inner)
        )
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise DamagedTableError(f"{path}: cannot be opened ({error})") from error
    try:
        table = pa.ipc.open_file(source).read_all()
        table.validate(full=True)
        stamp = (table.schema.metadata or {}).get(CHECKSUM_KEY.encode(), b"").decode()
        intact = checksum(table) == stamp
    except (pa.ArrowInvalid, pa.ArrowException, OSError) as error:
        raise DamagedTableError(f"{path}: not a whole Arrow table ({error})") from error
    if not intact:
        raise DamagedTableError(
            f"{path}: content does not match its checksum; the file was altered after it was written"
        )
    if schema is not None and not table.schema.equals(schema, check_metadata=False):
        raise DamagedTableError(f"{path}: columns are {_columns(table.schema)}, expected {_columns(schema)}")
    return table


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


def metadata_of(table: pa.Table) -> dict[str, str]:
    """Return a table's metadata as strings."""
    return {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}


def write_bytes(data: "bytes | pa.Buffer", path: str | Path) -> None:
    """Write a file whole or not at all: a local file appears by rename, an object when its upload closes."""
    filesystem, inner = locate(path)
    filesystem.create_dir(inner.rsplit("/", 1)[0], recursive=True)
    if not isinstance(filesystem, fs.LocalFileSystem):
        with filesystem.open_output_stream(inner) as stream:
            stream.write(data)
        return
    partial = Path(f"{inner}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(inner)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def read_bytes(path: str | Path) -> bytes:
    """Read a whole file.

    Raises:
        InputError: no such file.
    """
    filesystem, inner = locate(path)
    try:
        with filesystem.open_input_stream(inner) as stream:
            return bytes(stream.read())
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputError(f"{path}: no such file") from error


def write_json(content: object, path: str | Path) -> None:
    """Write `content` as indented JSON with sorted keys, whole or not at all."""
    write_bytes((json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode(), path)
