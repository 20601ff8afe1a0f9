"""The node cache: files that all processes of a machine share, made once, within a size limit."""

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from data_prep.errors import InputError
from data_prep.store.files import PARTIAL, copy_folder, expand_home, fingerprint, is_folder
from data_prep.store.weight_folders import backbone_slug

CACHE_VARIABLE = "BLENDFOLD_CACHE"
LIMIT_VARIABLE = "BLENDFOLD_CACHE_GB"
GIGABYTES = 50.0
"""Size limit of the cache where `$BLENDFOLD_CACHE_GB` is not set (10^9 bytes)."""
LOCKS = "locks"


class NodeCache:
    """A folder of files and folders for all processes of a machine; the first process that needs one makes it.

    Locks (`flock`) end with their process, however it ends. When an entry is made, those used longest ago are removed
    until all fit the limit; entries in use stay, so the limit may be exceeded by their size.

    Raises:
        InputError: `$BLENDFOLD_CACHE_GB` is not a number.
    """

    def __init__(self, folder: Path | None = None, *, gigabytes: float | None = None) -> None:
        self.folder = folder or default_cache()
        self._limit = (default_limit() if gigabytes is None else gigabytes) * 1e9

    @contextmanager
    def use(self, name: str, make: Callable[[Path], None]) -> Iterator[Path]:
        """Yield a file or folder of the cache, which is not removed inside the `with` block.

        A name must always mean the same content; one process at a time runs `make`, at a path that does not exist yet.

        Raises:
            OSError: the cache cannot be written.
        """
        path = self.folder / name
        with ExitStack() as stack:
            try:
                lock = stack.enter_context(self._lock(name))
            except OSError:
                if not path.exists():
                    raise
                yield path  # this process may only read the cache
                return
            fcntl.flock(lock, fcntl.LOCK_SH)
            while not path.exists():  # between two locks it may be removed again
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not path.exists():
                    self._make(path, make)
                fcntl.flock(lock, fcntl.LOCK_SH)
            with suppress(PermissionError):  # another user made it
                os.utime(path)
            yield path

    def discard(self, name: str) -> None:
        """Remove a damaged entry as soon as nothing uses it."""
        with self._lock(name) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _remove(self.folder / name)

    @contextmanager
    def _lock(self, name: str) -> Iterator[TextIO]:
        locks = self.folder / LOCKS
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / name).open("a", encoding="ascii") as lock:
            yield lock

    def _make(self, path: Path, make: Callable[[Path], None]) -> None:
        for unfinished in self.folder.glob(f"{path.name}.*{PARTIAL}"):
            _remove(unfinished)
        partial = self.folder / f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}{PARTIAL}"
        try:
            make(partial)
            partial.rename(path)
        except BaseException:
            _remove(partial)
            raise
        self._shrink(path)

    def _shrink(self, newest: Path) -> None:
        """Remove the entries used longest ago until the rest fits the limit; only entries with a lock here count."""
        made = [self.folder / lock.name for lock in (self.folder / LOCKS).iterdir()]
        sizes = {path: _size(path) for path in made}
        excess = sum(sizes.values()) - self._limit
        for path in sorted(sizes, key=_used):
            if excess <= 0:
                return
            if sizes[path] and path != newest and self._remove_unused(path):
                excess -= sizes[path]

    def _remove_unused(self, path: Path) -> bool:
        with self._lock(path.name) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            _remove(path)
            return True


def default_cache() -> Path:
    """Return `$BLENDFOLD_CACHE`, else `~/.cache/blendfold`."""
    return Path(expand_home(os.environ.get(CACHE_VARIABLE) or "~/.cache/blendfold"))


def default_limit() -> float:
    """Return `$BLENDFOLD_CACHE_GB`, else `GIGABYTES`."""
    text = os.environ.get(LIMIT_VARIABLE, "")
    try:
        limit = float(text or GIGABYTES)
    except ValueError:
        limit = -1.0
    if not limit >= 0:
        raise InputError(f"{LIMIT_VARIABLE}={text}: must be a number of gigabytes (10^9 bytes), such as 50")
    return limit


_fetched: tuple[str, Path, ExitStack] | None = None
"""The folder that this process fetched last; it is in use until the process fetches another."""


def fetch_folder(uri: str) -> Path:
    """Return a copy on this machine of a folder in an object store, made by the first process that needs it.

    A changed folder is copied again. The copy is not removed until this process fetches another folder.

    Raises:
        InputError: no such folder.
        OSError: the cache cannot be written.
    """
    global _fetched  # noqa: PLW0603 - what a process uses is the process's own
    if not is_folder(uri):
        raise InputError(f"{uri}: no such folder")
    name = f"{backbone_slug(uri)}-{hashlib.sha256(fingerprint(uri).encode()).hexdigest()[:16]}"
    if _fetched is not None and _fetched[0] == name:
        return _fetched[1]
    if _fetched is not None:
        _fetched[2].close()
        _fetched = None
    cache, stack = NodeCache(), ExitStack()
    path = stack.enter_context(cache.use(name, lambda path: copy_folder(uri, path)))
    _fetched = (name, path, stack)
    return path


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    """Return the bytes of a file or of all files in a folder; 0 if it was just removed."""
    files = path.rglob("*") if path.is_dir() else [path]
    try:
        return sum(file.stat().st_size for file in files if file.is_file())
    except FileNotFoundError:
        return 0


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
