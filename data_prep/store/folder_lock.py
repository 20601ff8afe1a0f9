"""`folder_lock`: one process at a time may change a folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyarrow import fs

from data_prep.store.files import locate


@contextmanager
def folder_lock(folder: str | Path) -> Iterator[None]:
    """Keep other processes of this machine, and other threads, out of the same block; makes the folder.

    The lock ends with its process, however it ends. Object stores and some network file systems have no locks.
    """
    filesystem, inner = locate(folder)
    if not isinstance(filesystem, fs.LocalFileSystem):
        yield
        return
    Path(inner).mkdir(parents=True, exist_ok=True)
    handle = os.open(inner, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
