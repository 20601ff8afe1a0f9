"""CSV files read as strings, exactly as they are, with the line of every row for error messages."""

import csv
import tempfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import pyarrow as pa
import pyarrow.compute as pc

from data_prep.errors import InputFaults, quote
from data_prep.store.file_starts import START_BYTES, start_says
from data_prep.store.files import open_file, open_text

BLOCK_ROWS = 8_192
LONGEST_TEXT = 10_000_000
"""Characters of one field."""


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


@dataclass(frozen=True)
class CsvRecords:
    """The required columns of a CSV file, as strings, unchanged."""

    path: str
    table: pa.Table
    """Mapped from a temporary file that has no name any more, so that it takes no memory that others need."""
    lines: LineIndex


def read_records(
    path: str | Path, *, required: Sequence[str], optional: Sequence[str] = (), closed: bool = True, faults: InputFaults
) -> CsvRecords | None:
    """Read columns of a UTF-8 CSV file in blocks; None where it cannot be read as a table at all.

    Nothing is interpreted: "NA", leading zeros and surrounding spaces stay. Quoted texts may hold line breaks. Blank
    lines are faults unless they end the file. `required` columns that are missing are left out, `optional` ones are
    ignored; if `closed`, any other column is a fault.
    """
    start = _first_bytes(path, faults)
    if start is None:
        return None
    with open_text(path) as file:
        numbered = _numbered_records(file, str(path), faults)
        _, header = next(numbered, (1, []))
        places = _places(header, str(path), required, optional, closed=closed, faults=faults)
        if not places:
            return None
        return _read_body(numbered, str(path), len(header), places, faults)


def read_header(path: str | Path, faults: InputFaults) -> list[str] | None:
    """Return the column names of a UTF-8 CSV file; None (with a fault added) if it cannot be CSV text.

    A byte that is not UTF-8 is read as a surrogate; only `read_records` adds faults of line 1.
    """
    if _first_bytes(path, faults) is None:
        return None
    with open_text(path) as file:
        return next(_numbered_records(file, str(path), InputFaults()), (1, []))[1]


def _first_bytes(path: str | Path, faults: InputFaults) -> bytes | None:
    """Return the file's first bytes, or None (with a fault added) if it cannot be CSV text."""
    try:
        with open_file(path) as file:
            start = file.read(START_BYTES)
    except OSError as error:
        faults.add(str(path), f"cannot be read ({error.strerror}); check the path")
        return None
    if not start:
        faults.add(str(path), "the file is empty; expected a header line and rows")
        return None
    if what := start_says(start):
        faults.add(str(path), f"expected UTF-8 CSV text, found {what}")
        return None
    return start


def _numbered_records(file: TextIO, path: str, faults: InputFaults) -> Iterator[tuple[int, list[str]]]:
    """Yield every record with the line on which it begins; blank lines at the end are ignored."""
    csv.field_size_limit(LONGEST_TEXT)
    reader = csv.reader(file, strict=True)
    blank: list[int] = []
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            faults.add(path, f"{_csv_rule(error)}", line=line)
            continue
        if not record:
            blank.append(line)
            continue
        for number in blank:
            faults.add(path, "no line between rows may be blank; remove it", line=number)
        blank.clear()
        yield line, record


def _csv_rule(error: csv.Error) -> str:
    """Return what a csv.Error means for someone who looks at the file."""
    text = str(error)
    if "field larger than" in text:
        return f"a text has at most {LONGEST_TEXT:,} characters (or does the quote that begins it never close?)"
    if "unexpected end of data" in text:
        return "a text that begins with a quote must end with one; the quote opened here is never closed"
    return f"a quoted text must be followed by a comma or the line's end, quotes inside it doubled ({text})"


def _places(
    header: list[str],
    path: str,
    required: Sequence[str],
    optional: Sequence[str],
    *,
    closed: bool,
    faults: InputFaults,
) -> dict[str, int]:
    """Return the position of each required column, and add a fault for missing, repeated and extra columns."""
    if missing := [name for name in required if name not in header]:
        hint = separator_hint(header)
        faults.add(path, f"missing columns: {_names(missing)}; line 1 has {_names(header)}{hint}")
        if hint:
            return {}
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        faults.add(path, f"columns named more than once on line 1: {_names(repeated)}")
    extra = [name for name in dict.fromkeys(header) if name not in {*required, *optional}]
    if closed and extra:
        faults.add(path, f"extra columns: {_names(extra)}; remove them or name them in a task file (--task)")
    return {name: header.index(name) for name in required if name in header}


def separator_hint(header: Sequence[str]) -> str:
    """Return what a message about a header says if the file seems to have another separator; else nothing."""
    mark = next((mark for mark in ("\t", ";", "|") if len(header) == 1 and mark in header[0]), None)
    return f" (is it separated by {mark!r} instead of commas?)" if mark else ""


def _names(names: Sequence[str]) -> str:
    return ", ".join(quote(name) for name in names)


def _read_body(
    numbered: Iterator[tuple[int, list[str]]], path: str, width: int, places: dict[str, int], faults: InputFaults
) -> CsvRecords:
    schema = pa.schema([(name, pa.string()) for name in places])
    lines = LineIndex()
    row = 0
    with tempfile.NamedTemporaryFile(prefix="blendfold-", suffix=".arrow") as spool:
        with pa.ipc.new_file(spool.file, schema) as writer:
            for block in _blocks(numbered, path, width, lines, faults):
                writer.write_batch(_batch(block, row, path=path, places=places, lines=lines, faults=faults))
                row += len(block)
        spool.flush()
        table = pa.ipc.open_file(pa.memory_map(spool.name)).read_all()
    if row == 0:
        faults.add(path, "has a header line but no rows that can be read")
    return CsvRecords(path, table, lines)


def _blocks(
    numbered: Iterator[tuple[int, list[str]]], path: str, width: int, lines: LineIndex, faults: InputFaults
) -> Iterator[list[list[str]]]:
    """Yield the records that have `width` fields in blocks, and note their lines."""
    block: list[list[str]] = []
    row = 0
    for line, record in numbered:
        if len(record) != width:
            rule = f"every row must have the {width} fields of line 1; quote texts that hold commas"
            faults.add(path, rule, line=line, found=f"{len(record)} fields")
            continue
        lines.note(row, line)
        block.append(record)
        row += 1
        if len(block) == BLOCK_ROWS:
            yield block
            block = []
    if block:
        yield block


def _batch(
    block: list[list[str]], first: int, *, path: str, places: dict[str, int], lines: LineIndex, faults: InputFaults
) -> pa.RecordBatch:
    """Turn a block of records, whose first is row `first`, into Arrow columns."""
    arrays = []
    for name, place in places.items():
        where = f"{path}, column {name}"
        values = [record[place] for record in block]
        try:
            array = pa.array(values, pa.string())
        except UnicodeEncodeError:
            array = pa.array(_mark_undecodable(values, first, where, lines, faults), pa.string())
        for offset in pc.indices_nonzero(pc.match_substring(array, "\0")).to_pylist():
            faults.add(where, "no text may hold a NUL byte", line=lines.of(first + offset), found=values[offset])
        arrays.append(array)
    return pa.record_batch(arrays, names=list(places))


def _mark_undecodable(values: list[str], first: int, where: str, lines: LineIndex, faults: InputFaults) -> list[str]:
    """Add a fault for every text with bytes that are not UTF-8, and return the texts with these bytes escaped."""
    marked = [value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for value in values]
    for offset, (value, readable) in enumerate(zip(values, marked, strict=True)):
        if value != readable:
            rule = "must be UTF-8 text; save the file as UTF-8 (it may be Windows-1252 or Latin-1)"
            faults.add(where, rule, line=lines.of(first + offset), found=readable)
    return marked
