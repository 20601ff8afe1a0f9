"""The content of files that may be compressed with gzip or zstd, which their first bytes tell."""

import gzip
import io
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

import pyarrow as pa

GZIP_START = b"\x1f\x8b"
ZSTD_START = b"\x28\xb5\x2f\xfd"
UNREADABLE = (pa.ArrowException, OSError, EOFError, zlib.error, ValueError)
"""What reading the content of a damaged file raises."""
COPIED_BYTES = 2**24


@contextmanager
def content_of(file: BinaryIO) -> Iterator[BinaryIO]:
    """Yield the content of an open file from its beginning; of a compressed one, it can only be read forwards."""
    file.seek(0)
    start = file.read(len(ZSTD_START))
    file.seek(0)
    if start.startswith(GZIP_START):
        with gzip.open(file) as content:
            yield cast(BinaryIO, content)
    elif start == ZSTD_START:
        with pa.CompressedInputStream(pa.PythonFile(_LeftOpen(file), mode="r"), "zstd") as stream:
            yield cast(BinaryIO, io.BufferedReader(cast(Any, _Stream(stream))))
    else:
        yield file


@contextmanager
def seekable_content_of(file: BinaryIO) -> Iterator[pa.NativeFile]:
    """Yield the content of an open file for random access; what has no path, or is compressed, is copied to a file."""
    with content_of(file) as content:
        if content is file and isinstance(path := getattr(file, "name", None), str):
            with pa.OSFile(path) as opened:
                yield opened
            return
        with tempfile.NamedTemporaryFile(prefix="blendfold-") as copy:
            shutil.copyfileobj(content, copy, COPIED_BYTES)
            copy.flush()
            with pa.OSFile(copy.name) as opened:
                yield opened


class _LeftOpen:
    """A file that pyarrow reads but does not close."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read

    def close(self) -> None:
        self.closed = True


class _Stream(io.RawIOBase):
    """A stream of pyarrow as one of Python, which a text reader can wrap."""

    def __init__(self, stream: pa.NativeFile) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
