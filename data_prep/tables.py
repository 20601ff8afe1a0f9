"""Arrow tables that cross a border: their schemas, and how a table reaches a file and comes back.

A path may be a local path or any `pyarrow.fs` URI (`s3://...`). A file is written whole or not at all, carries a
checksum of its content, and is checked against it when read. What a store's
refusals mean says `data_prep.object_store`.
"""

import errno
import hashlib
import io
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, TextIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from data_prep.errors import InputError, StoreError
from data_prep.object_store import is_uri, open_uri, patiently, refusals, split_options
from data_prep.task import Task

CHECKSUM_KEY = "checksum"
HOLDOUT_FOLD = -1
PARTIAL = ".partial"
"""How the name of a file that is being written ends."""
SPOOL_BYTES = 2**24
"""What of an object is held in memory at most; larger ones pass through an unnamed temporary file."""
BLOCK_ROWS = 65_536
BATCH_ROWS = 1_048_576

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
    """Return the filesystem and the path inside it for a local path or a `pyarrow.fs` URI.

    Raises:
        InputError: not a URI that can be opened.
        StoreError: the object store is not there, or not for these credentials.
    """
    text = str(path)
    if is_uri(text):
        return open_uri(text)
    return fs.LocalFileSystem(), text if text.startswith("/") else str(Path(text).absolute())


def absolute(path: str | Path) -> str:
    """Return a path that means the same in every working directory; a URI already does."""
    return str(path) if is_uri(path) else str(Path(path).absolute())


def join(path: str | Path, *parts: str) -> str:
    """Append path parts to a local path or URI, before the URI's options where it has any."""
    place, options = split_options(path)
    return "/".join([place.rstrip("/"), *parts]) + options


def base_name(path: str | Path) -> str:
    """Return the last part of a path or URI."""
    return split_options(path)[0].rstrip("/").rsplit("/", 1)[-1]


def exists(path: str | Path) -> bool:
    """Tell whether a file or folder is there."""
    filesystem, inner = locate(path)
    with refusals(path):
        return bool(filesystem.get_file_info(inner).type != fs.FileType.NotFound)


def is_file(path: str | Path) -> bool:
    """Tell whether a file is there."""
    filesystem, inner = locate(path)
    with refusals(path):
        return bool(filesystem.get_file_info(inner).is_file)


def is_folder(path: str | Path) -> bool:
    """Tell whether a folder is there; an object store has those that hold an object."""
    filesystem, inner = locate(path)
    with refusals(path):
        return bool(filesystem.get_file_info(inner).type == fs.FileType.Directory)


def list_names(folder: str | Path) -> list[str]:
    """Return the sorted names in a folder; empty when there is no such folder."""
    return sorted(info.base_name for info in _listing(folder))


def list_sizes(folder: str | Path) -> dict[str, int]:
    """Return the size in bytes of every file in a folder and its subfolders, by its path from there.

    No file is opened: one request tells of a thousand objects.
    """
    _, inner = locate(folder)
    files = [info for info in _listing(folder, recursive=True) if info.is_file]
    return {info.path[len(inner) :].lstrip("/"): info.size for info in files}


def _listing(folder: str | Path, *, recursive: bool = False) -> list[fs.FileInfo]:
    filesystem, inner = locate(folder)
    selector = fs.FileSelector(inner, recursive=recursive, allow_not_found=True)
    with refusals(folder):
        try:
            found: list[fs.FileInfo] = filesystem.get_file_info(selector)
        except NotADirectoryError:
            return []
        return found


def fingerprint(folder: str | Path) -> str:
    """Return what changes when a file in a folder does: names, sizes and times of writing; no file is opened."""
    files = sorted((info.path, info.size, info.mtime_ns) for info in _listing(folder, recursive=True) if info.is_file)
    return hashlib.sha256(json.dumps([str(folder), files]).encode()).hexdigest()


def copy_folder(source: str | Path, target: Path) -> None:
    """Copy all files of a folder, local or a URI, into a new folder of this machine."""
    for name in list_sizes(source):
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_file(join(source, name)) as file, path.open("wb") as copy:
            shutil.copyfileobj(file, copy, SPOOL_BYTES)


def remove(path: str | Path) -> None:
    """Remove a file, where there is one."""
    filesystem, inner = locate(path)
    with refusals(path), suppress(FileNotFoundError):
        filesystem.delete_file(inner)


def remove_folder(folder: str | Path) -> None:
    """Remove a folder with all that is in it, where there is one."""
    filesystem, inner = locate(folder)
    with refusals(folder), suppress(FileNotFoundError):
        filesystem.delete_dir(inner)


def move(source: str | Path, target: str | Path) -> None:
    """Move a file within one filesystem; an object is copied, then removed."""
    filesystem, inner = locate(source)
    _, new = locate(target)
    with refusals(source):
        if isinstance(filesystem, fs.LocalFileSystem):
            Path(new).parent.mkdir(parents=True, exist_ok=True)
            Path(inner).replace(new)
            return
        _make_parent(filesystem, new)
        filesystem.copy_file(inner, new)
        filesystem.delete_file(inner)


def checksum(table: pa.Table) -> str:
    """Return the sha256 (hex) of a table's column names, types and values.

    Chunking, dictionary encoding, metadata and the Arrow version do not count; nothing is copied but blocks.
    """
    digest = hashlib.sha256()
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        digest.update(f"{name}\0{kind}\0{len(column)}\0".encode())
        for part in _column_digests(column):
            digest.update(part.digest())
    return digest.hexdigest()


def _column_digests(column: pa.ChunkedArray) -> "list[hashlib._Hash]":
    """Return digests of a column's missing rows, of its text lengths, and of its values."""
    missing, lengths, values = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    first = 0
    for block in _blocks(column):
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
    """Return the texts of a block, one after the other."""
    _, offsets, data = block.buffers()
    if data is None:
        return b""
    ends = np.frombuffer(offsets, np.int32)
    return data[int(ends[block.offset]) : int(ends[block.offset + len(block)])]


def _blocks(column: pa.ChunkedArray) -> Iterator[pa.Array]:
    """Yield the non-empty parts of a column, dictionaries decoded."""
    for chunk in column.chunks:
        for start in range(0, len(chunk), BLOCK_ROWS):
            block = chunk[start : start + BLOCK_ROWS]
            yield block.dictionary_decode() if pa.types.is_dictionary(block.type) else block


def write_table(table: pa.Table, path: str | Path, *, schema: pa.Schema, metadata: dict[str, str] | None = None) -> str:
    """Write an uncompressed Arrow IPC file, whole or not at all, and return the checksum stored in it.

    Args:
        table: must have exactly the columns of `schema`, in any order.
        path: local path or URI; missing folders are made.
        schema: names and types to write.
        metadata: strings kept in the file's schema metadata.
    """
    ordered = pa.table([_cast(table[field.name], field.type) for field in schema], names=schema.names)
    stamp = checksum(ordered)
    stamped = schema.with_metadata({**(metadata or {}), CHECKSUM_KEY: stamp})
    with whole_file(path) as sink, pa.ipc.new_file(sink, stamped) as writer:
        for start in range(0, ordered.num_rows, BATCH_ROWS):
            writer.write_table(ordered.slice(start, BATCH_ROWS).cast(stamped).combine_chunks())
    return stamp


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Return the column as `kind`; a dictionary of it may stay one until it is written."""
    same = pa.types.is_dictionary(column.type) and column.type.value_type == kind
    return column if same else column.cast(kind)


def read_table(path: str | Path, *, schema: pa.Schema | None = None) -> pa.Table:
    """Read an Arrow IPC file (memory-mapped where local) and verify its checksum.

    Raises:
        InputError: no such file.
        DamagedTableError: not an Arrow file, another schema than `schema`, or content that its checksum denies.
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


def _source(path: str | Path) -> pa.NativeFile:
    """Open a file, mapped where it is local; an object comes whole, in one request instead of one for each piece."""
    filesystem, inner = locate(path)
    if isinstance(filesystem, fs.LocalFileSystem):
        return pa.memory_map(inner)
    with refusals(path), filesystem.open_input_file(inner) as file:
        return pa.BufferReader(patiently(file.read_buffer))


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """Return a column in one piece; it stays in the mapped file where it lies there so (`combine_chunks` copies it)."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


def metadata_of(table: pa.Table) -> dict[str, str]:
    """Return a table's metadata as strings."""
    return {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file, for writing and reading back, that appears whole or not at all.

    Locally by rename. As an object by an upload at the end, which the store makes visible at once when all of it is
    there; then its size is asked for.
    """
    filesystem, inner = locate(path)
    if not isinstance(filesystem, fs.LocalFileSystem):
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as content:
            yield cast(BinaryIO, content)
            with refusals(path):
                _make_parent(filesystem, inner)
                _upload(content, filesystem, inner, path)
        return
    partial = Path(f"{inner}.{os.getpid()}-{secrets.token_hex(4)}{PARTIAL}")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(inner)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename is None:
            error.filename = inner
        raise


def _make_parent(filesystem: fs.FileSystem, inner: str) -> None:
    """Make the folder of a file, where a filesystem has folders."""
    if filesystem.type_name != "s3":
        filesystem.create_dir(inner.rsplit("/", 1)[0], recursive=True)


def _upload(
    content: "tempfile.SpooledTemporaryFile[bytes]", filesystem: fs.FileSystem, inner: str, path: str | Path
) -> None:
    size = content.seek(0, io.SEEK_END)
    content.seek(0)
    with filesystem.open_output_stream(inner) as stream:
        while block := content.read(SPOOL_BYTES):
            stream.write(block)
    found = filesystem.get_file_info(inner).size
    if found != size:
        raise StoreError(
            errno.EIO, f"{path}: the store holds {found} bytes of it, {size} were sent; give the same command again"
        )


@contextmanager
def open_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file for reading anywhere in it; an object is copied to this machine for as long as it is open.

    Raises:
        FileNotFoundError: no such file.
    """
    filesystem, inner = locate(path)
    if isinstance(filesystem, fs.LocalFileSystem):
        with Path(inner).open("rb") as file:
            yield file
        return
    with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as content:
        try:
            with refusals(path), filesystem.open_input_file(inner) as stream:
                while block := patiently(partial(stream.read, SPOOL_BYTES)):
                    content.write(block)
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
        content.seek(0)
        yield cast(BinaryIO, content)


@contextmanager
def open_text(path: str | Path, *, encoding: str = "utf-8-sig", errors: str = "surrogateescape") -> Iterator[TextIO]:
    """Open a text file for reading, its line ends as they are.

    Raises:
        FileNotFoundError: no such file.
    """
    with open_file(path) as file, io.TextIOWrapper(file, encoding, errors, newline="") as text:
        yield text


def write_bytes(data: "bytes | pa.Buffer", path: str | Path) -> None:
    """Write a file whole or not at all."""
    with whole_file(path) as sink:
        sink.write(data)


def read_bytes(path: str | Path) -> bytes:
    """Read a whole file.

    Raises:
        InputError: no such file.
    """
    filesystem, inner = locate(path)
    try:
        with refusals(path), filesystem.open_input_file(inner) as stream:
            return bytes(patiently(stream.read))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputError(f"{path}: no such file") from error


def write_json(content: object, path: str | Path) -> None:
    """Write `content` as indented JSON with sorted keys, whole or not at all."""
    write_bytes((json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode(), path)
