"""Files at a local path or any `pyarrow.fs` URI (`s3://...`), written whole or not at all."""

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
from typing import BinaryIO, cast

import pyarrow as pa
from pyarrow import fs

from data_prep.errors import InputError, StoreError
from data_prep.store.object_store import is_uri, open_uri, retry_read, split_options, store_errors

PARTIAL = ".partial"
"""Suffix of a file that is being written."""
SPOOL_BYTES = 2**24
"""Objects larger than this pass through an unnamed temporary file instead of memory."""


def locate(path: str | Path) -> tuple[fs.FileSystem, str]:
    """Return the filesystem and the path inside it for a local path or a `pyarrow.fs` URI.

    Raises:
        InputError: not a URI that can be opened.
        StoreError: the object store does not answer, or does not accept these credentials.
    """
    if is_uri(path):
        return open_uri(str(path))
    return fs.LocalFileSystem(), absolute(path)


def absolute(path: str | Path) -> str:
    """Return a path that means the same in every working directory and for every user; a URI already does."""
    text = str(path)
    return text if is_uri(text) or text.startswith("/") else str(Path(expand_home(text)).absolute())


def expand_home(path: str) -> str:
    """Return a path whose leading `~` stands for the home folder, which a shell expands only where it is not quoted."""
    return os.path.expanduser(path)  # noqa: PTH111 - that of pathlib fails where there is no home


def join(path: str | Path, *parts: str) -> str:
    """Append path parts to a local path or URI, before the options of the URI."""
    place, options = split_options(path)
    return "/".join([place.rstrip("/"), *parts]) + options


def base_name(path: str | Path) -> str:
    """Return the last part of a path or URI."""
    return split_options(path)[0].rstrip("/").rsplit("/", 1)[-1]


def file_info(path: str | Path) -> fs.FileInfo:
    """Return kind, size and modification time of a file or folder, which need not be there."""
    filesystem, inner = locate(path)
    with store_errors(path):
        return filesystem.get_file_info(inner)


def exists(path: str | Path) -> bool:
    """Tell whether a file or folder is there."""
    return bool(file_info(path).type != fs.FileType.NotFound)


def is_file(path: str | Path) -> bool:
    """Tell whether a file is there."""
    return bool(file_info(path).is_file)


def is_folder(path: str | Path) -> bool:
    """Tell whether a folder is there; in an object store, whether an object lies under it."""
    return bool(file_info(path).type == fs.FileType.Directory)


def list_names(folder: str | Path) -> list[str]:
    """Return the sorted names in a folder; empty when there is no such folder."""
    return sorted(info.base_name for info in _listing(folder))


def list_sizes(folder: str | Path) -> dict[str, int]:
    """Return the bytes of every file below a folder, by its path from there; one request lists a thousand objects."""
    _, inner = locate(folder)
    files = [info for info in _listing(folder, recursive=True) if info.is_file]
    return {info.path[len(inner) :].lstrip("/"): info.size for info in files}


def _listing(folder: str | Path, *, recursive: bool = False) -> list[fs.FileInfo]:
    filesystem, inner = locate(folder)
    selector = fs.FileSelector(inner, recursive=recursive, allow_not_found=True)
    with store_errors(folder):
        try:
            found: list[fs.FileInfo] = filesystem.get_file_info(selector)
        except NotADirectoryError:
            return []
        return found


def fingerprint(folder: str | Path) -> str:
    """Return a hash of the names, sizes and modification times of all files in a folder; no file is opened."""
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
    """Remove a file if it is there."""
    filesystem, inner = locate(path)
    with store_errors(path), suppress(FileNotFoundError):
        filesystem.delete_file(inner)


def remove_folder(folder: str | Path) -> None:
    """Remove a folder and everything in it, if it is there."""
    filesystem, inner = locate(folder)
    with store_errors(folder), suppress(FileNotFoundError):
        filesystem.delete_dir(inner)


def move(source: str | Path, target: str | Path) -> None:
    """Move a file within one filesystem; an object is copied, then removed."""
    filesystem, inner = locate(source)
    _, new = locate(target)
    with store_errors(source):
        if isinstance(filesystem, fs.LocalFileSystem):
            Path(new).parent.mkdir(parents=True, exist_ok=True)
            Path(inner).replace(new)
            return
        _make_parent(filesystem, new)
        filesystem.copy_file(inner, new)
        filesystem.delete_file(inner)


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file, for writing and reading back, that appears whole or not at all: by rename or checked upload."""
    filesystem, inner = locate(path)
    if not isinstance(filesystem, fs.LocalFileSystem):
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as content:
            yield cast(BinaryIO, content)
            with store_errors(path):
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
    if filesystem.type_name != "s3":
        filesystem.create_dir(inner.rsplit("/", 1)[0], recursive=True)


def _upload(
    content: "tempfile.SpooledTemporaryFile[bytes]", filesystem: fs.FileSystem, inner: str, path: str | Path
) -> None:
    size = content.seek(0, io.SEEK_END)
    content.seek(0)
    with filesystem.open_output_stream(inner, compression=None) as stream:
        while block := content.read(SPOOL_BYTES):
            stream.write(block)
    found = filesystem.get_file_info(inner).size
    if found != size:
        raise StoreError(
            errno.EIO, f"{path}: the store holds {found} bytes of it, but {size} were sent; run the same command again"
        )


@contextmanager
def open_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file for random access; an object is copied to this machine while it is open.

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
            with store_errors(path), filesystem.open_input_file(inner) as stream:
                while block := retry_read(partial(stream.read, SPOOL_BYTES)):
                    content.write(block)
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
        content.seek(0)
        yield cast(BinaryIO, content)


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
        with store_errors(path), filesystem.open_input_file(inner) as stream:
            return bytes(retry_read(stream.read))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputError(f"{path}: no such file") from error


def write_json(content: object, path: str | Path) -> None:
    """Write `content` as indented JSON with sorted keys, whole or not at all."""
    write_bytes((json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode(), path)
