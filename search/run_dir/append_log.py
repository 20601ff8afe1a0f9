"""`AppendLog`: a list on disk; appending an entry costs the same however long the list is.

It uses two files. Most entries are in a file that is written whole (`curves.arrow`), which is what others read. The
entries since then are lines in a journal beside it (`curves.journal`), each with its number and a checksum, and each on
disk before the next. The journal is compacted into the file when it holds as much as the file, so that each entry is
written about twice, and when a search ends.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from pyarrow import fs

from data_prep.store.files import exists, locate, read_bytes, remove, write_bytes
from data_prep.store.object_store import split_options
from data_prep.store.sealed_records import MALFORMED
from data_prep.store.tables import DamagedTableError

COMPACT_AT = 500
"""Entries that a journal holds at least before it is compacted."""
DIGITS = 16
"""Hex digits kept of the sha256 of a line's number and content."""

Entry = TypeVar("Entry")


class AppendLog(Generic[Entry]):
    """Entries in order of arrival. One driver appends; anyone may read at any time.

    A line that was cut off when its driver was killed is dropped: no one has acted on it yet. `path` is that of the
    whole file, local or a URI; `write` writes it whole or not at all. A journal of fewer than `compact_at` entries
    stays.

    Raises:
        DamagedTableError: a line of the journal is not what was written, or lines are missing.
    """

    def __init__(
        self,
        path: str,
        *,
        read: Callable[[str], list[Entry]],
        write: Callable[[Sequence[Entry], str], None],
        encode: Callable[[Entry], Any],
        decode: Callable[[Any], Entry],
        compact_at: int = COMPACT_AT,
    ) -> None:
        self._path = path
        self._write = write
        self._encode = encode
        self._compact_at = compact_at
        place, options = split_options(path)
        self._journal = Journal(f"{place.rpartition('.')[0]}.journal{options}")
        lines = self._journal.read()  # before the file: a driver may compact them into it in the meantime
        self.entries = read(path) if exists(path) else []
        self._compacted = len(self.entries)
        if lines and lines[0][0] > self._compacted:
            raise DamagedTableError(
                f"{path}: holds {self._compacted} entries, but its journal starts at entry {lines[0][0]}: someone "
                f"put an older copy of the file there. Put the newer one back"
            )
        try:
            self.entries += [decode(content) for number, content in lines if number >= self._compacted]
        except MALFORMED as error:
            raise DamagedTableError(
                f"{self._journal.path}: has an entry that this version of blendfold does not write ({error}). Continue "
                f"with the version that wrote it, or put back a copy"
            ) from error

    def append(self, entry: Entry) -> None:
        """Append an entry; it is on disk when this returns."""
        self._journal.append(len(self.entries), self._encode(entry))
        self.entries.append(entry)
        if len(self.entries) - self._compacted >= max(self._compact_at, self._compacted):
            self.compact()

    def compact(self) -> None:
        """Write the whole file and start a new journal; entries that a crash leaves in both count once."""
        if len(self.entries) > self._compacted:
            self._write(self.entries, self._path)
            self._compacted = len(self.entries)
        self._journal.remove()


class Journal:
    """Numbered lines of JSON, each with a checksum. Object stores cannot append, so there the file is rewritten."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._filesystem, self._inner = locate(path)
        self._size: int | None = None
        self._whole = b""
        """All lines, if the file is rewritten each time."""

    def read(self) -> list[tuple[int, Any]]:
        """Return number and content of every line, without the last if it is torn.

        Raises:
            DamagedTableError: another line is damaged, or lines are missing.
        """
        content = read_bytes(self.path) if exists(self.path) else b""
        *lines, rest = content.split(b"\n")
        self._size = len(content) - len(rest)
        if lines and lines[-1].startswith(b"\0") and not rest:  # the machine went down: only its end reached the disk
            self._size -= len(lines.pop()) + 1
        found = [_parse(line) for line in lines]
        if _parse(rest[:-1]) is not None:  # a write that was cut off lacks its end; here the end was altered
            found.append(None)
        if not isinstance(self._filesystem, fs.LocalFileSystem):
            self._whole = content[: self._size]
        whole = [entry for entry in found if entry is not None]
        if whole != found or any(number != whole[0][0] + place for place, (number, _) in enumerate(whole)):
            raise DamagedTableError(self._complaint(found))
        return whole

    def append(self, number: int, content: Any) -> None:
        """Write a line over whatever an earlier attempt left unfinished."""
        if self._size is None:
            self.read()
        assert self._size is not None
        text = f"{number} {json.dumps(content, ensure_ascii=False)}".encode()
        line = _checksum(text) + b" " + text + b"\n"
        if isinstance(self._filesystem, fs.LocalFileSystem):
            self._append_here(line, self._size)
        else:
            write_bytes(self._whole + line, self.path)
            self._whole += line
        self._size += len(line)

    def remove(self) -> None:
        """Remove the file; the next line starts a new one."""
        remove(self.path)
        self._size, self._whole = 0, b""

    def _append_here(self, line: bytes, size: int) -> None:
        Path(self._inner).parent.mkdir(parents=True, exist_ok=True)
        with Path(self._inner).open("ab") as file:
            file.truncate(size)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def _complaint(self, found: Sequence[tuple[int, Any] | None]) -> str:
        """Return which line is the first wrong one, and what to do."""
        expected: int | None = None
        for place, entry in enumerate(found, start=1):
            if entry is None:
                what = f"line {place} does not match its checksum"
                break
            if expected is not None and entry[0] != expected:
                what = f"line {place} is entry {entry[0]} where {expected} was expected"
                break
            expected = entry[0] + 1
        return (
            f"{self.path}: {what}; the file was changed after it was written. Put back a copy, or remove the file: "
            f"the search then takes what its {len(found)} lines say from the prediction tables, or does it again"
        )


def _parse(line: bytes) -> tuple[int, Any] | None:
    """Return number and content of a line; None if it is not what was written."""
    stamp, _, text = line.partition(b" ")
    if stamp != _checksum(text):
        return None
    number, _, content = text.partition(b" ")
    return int(number), json.loads(content)


def _checksum(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:DIGITS].encode()
