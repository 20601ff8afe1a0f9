"""`RowSource`: the rows of a file of some format, as strings in blocks, with the place of each for error messages."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

BLOCK_ROWS = 8_192


@dataclass
class LineIndex:
    """Row number -> line in the file; stores only the rows that do not begin on the next line."""

    rows: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)

    def note(self, row: int, line: int) -> None:
        """Record that `row` (0-based, ascending) begins on `line` (1-based)."""
        if not self.rows or line != self.of(row):
            self.rows.append(row)
            self.lines.append(line)

    def of(self, row: int) -> int:
        """Return the line on which `row` begins."""
        at = bisect_right(self.rows, row) - 1
        return self.lines[at] + row - self.rows[at]


class RowSource(Protocol):
    """Reads an open file of one format; its faults go to the `InputFaults` that it was made with."""

    columns: list[str]
    """Names as they stand in the file; some may repeat."""
    origin: str
    """Where the names stand, for messages: `line 1`."""

    def blocks(self, places: Sequence[int]) -> Iterator[pa.RecordBatch]:
        """Yield the columns at `places` [columns] as strings, unchanged; a missing value is an empty string."""

    def place(self, row: int) -> str:
        """Return where a row stands that was yielded, 0-based: `line 7`, or `row 6` where a file has no lines."""
