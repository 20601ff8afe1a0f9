"""`JsonLines`: the rows of a file with one JSON object a line."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa

from data_prep.errors import InputFaults
from data_prep.store.row_source import BLOCK_ROWS, LineIndex
from data_prep.store.separated_text import open_lines
from data_prep.store.text_encodings import UTF8
from data_prep.store.utf8_texts import Utf8Texts, readable

RULE = 'every line must be one JSON object, such as {"id": 1, "text": "a"}'


class JsonLines:
    """Reads JSON lines: the columns are all keys that occur; numbers stay as they are spelled, lists become JSON."""

    origin = "the file"

    def __init__(self, file: BinaryIO, path: str, faults: InputFaults, *, encoding: str = UTF8) -> None:
        self._file, self._path, self._encoding, self._faults = file, path, encoding, faults
        self._lines = LineIndex()
        self._utf8 = Utf8Texts(path, encoding, faults)
        found: dict[str, None] = {}
        for _, row in self._rows(InputFaults()):
            found.update(dict.fromkeys(row))
        self.columns = list(found)
        if not found:  # nothing is read then, so that this is where its faults are named
            list(self._rows(faults))

    def place(self, row: int) -> str:
        """Return the line of a row."""
        return f"line {self._lines.of(row)}"

    def blocks(self, places: Sequence[int]) -> Iterator[pa.RecordBatch]:
        """Yield the columns at `places`."""
        block: list[dict[str, Any]] = []
        for row, (line, values) in enumerate(self._rows(self._faults)):
            self._lines.note(row, line)
            block.append(values)
            if len(block) == BLOCK_ROWS:
                yield self._batch(block, row + 1 - len(block), places)
                block = []
        if block:
            yield self._batch(block, row + 1 - len(block), places)

    def _batch(self, block: list[dict[str, Any]], first: int, places: Sequence[int]) -> pa.RecordBatch:
        """Return a block of rows, the first of number `first`."""
        names = [self.columns[place] for place in places]
        columns = [
            self._utf8.array([spelled(row.get(name)) for row in block], name, lambda number: self.place(first + number))
            for name in names
        ]
        return pa.record_batch(columns, names=[readable(name) for name in names])

    def _rows(self, faults: InputFaults) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield every row with its line; blank lines at the end are ignored."""
        blank: list[int] = []
        with open_lines(self._file, self._encoding) as text:
            for number, line in enumerate(text, 1):
                if not line.strip():
                    blank.append(number)
                    continue
                for earlier in blank:
                    faults.add(self._path, "no line between rows may be blank; remove it", place=f"line {earlier}")
                blank.clear()
                if (row := self._row(line, number, faults)) is not None:
                    yield number, row

    def _row(self, line: str, number: int, faults: InputFaults) -> dict[str, Any] | None:
        try:
            row = json.loads(line, parse_float=str, parse_int=str, parse_constant=str)
        except (ValueError, RecursionError) as error:
            faults.add(self._path, RULE, place=f"line {number}", found=str(error))
            return None
        if not isinstance(row, dict):
            faults.add(self._path, RULE, place=f"line {number}", found=readable(line.strip()))
            return None
        return row


def spelled(value: Any) -> str:
    """Return a JSON value as text; a missing one is empty."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
