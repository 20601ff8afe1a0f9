"""`SeparatedText`: the rows of a CSV file, whose fields stand between commas, tabs, semicolons or bars."""

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, BinaryIO, Literal, TextIO

import pyarrow as pa

from data_prep.errors import InputFaults
from data_prep.store.compressed_files import content_of
from data_prep.store.row_source import BLOCK_ROWS, LineIndex
from data_prep.store.text_encodings import UTF8
from data_prep.store.utf8_texts import Utf8Texts, readable

LONGEST_TEXT = 10_000_000
"""Characters of one field."""
SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
Quoting = Literal[0, 3]
"""`csv.QUOTE_MINIMAL` or `csv.QUOTE_NONE`."""


@contextmanager
def open_lines(file: BinaryIO, encoding: str) -> Iterator[TextIO]:
    """Yield an open file as text from its beginning; line ends stay, and bytes of another encoding are surrogates."""
    with content_of(file) as content:
        text = io.TextIOWrapper(content, encoding, "surrogateescape", newline="")
        try:
            yield text
        finally:
            text.detach()


class SeparatedText:
    """Reads a text file with a header line, told by it which sign separates.

    Texts that hold the separator, a quote or a line break stand in quotes, except in files separated by tabs in which
    quotes are plain signs. Blank lines are faults unless they end the file.
    """

    origin = "line 1"

    def __init__(self, file: BinaryIO, path: str, faults: InputFaults, *, encoding: str = UTF8) -> None:
        self._file, self._path, self._encoding, self._faults = file, path, encoding, faults
        self._lines = LineIndex()
        self._utf8 = Utf8Texts(path, encoding, faults)
        csv.field_size_limit(LONGEST_TEXT)
        self._separator = self._find_separator()
        self._quotes: Quoting = csv.QUOTE_MINIMAL
        if self._separator == "\t" and not self._is_even(csv.QUOTE_MINIMAL) and self._is_even(csv.QUOTE_NONE):
            self._quotes = csv.QUOTE_NONE
        with open_lines(file, encoding) as text:
            self.columns = next(self._numbered(text, InputFaults()), (1, []))[1]

    def place(self, row: int) -> str:
        """Return the line on which a row begins."""
        return f"line {self._lines.of(row)}"

    def blocks(self, places: Sequence[int]) -> Iterator[pa.RecordBatch]:
        """Yield the columns at `places`."""
        first = 0
        with open_lines(self._file, self._encoding) as text:
            numbered = self._numbered(text, self._faults)
            next(numbered, None)
            for block in self._full_rows(numbered):
                where = partial(self._place_in_block, first)
                names = [self.columns[place] for place in places]
                texts = ([record[place] for record in block] for place in places)
                arrays = [self._utf8.array(each, name, where) for each, name in zip(texts, names, strict=True)]
                yield pa.record_batch(arrays, names=[readable(name) for name in names])
                first += len(block)

    def _place_in_block(self, first: int, number: int) -> str:
        return self.place(first + number)

    def _find_separator(self) -> str:
        """Return the sign that cuts the first record into the most fields; a comma where none does."""
        counts = {}
        for sign in SEPARATORS:
            with open_lines(self._file, self._encoding) as text:
                try:
                    counts[sign] = len(next((record for record in csv.reader(text, delimiter=sign) if record), []))
                except csv.Error:
                    counts[sign] = 0
        return max(SEPARATORS, key=lambda sign: counts[sign])

    def _is_even(self, quotes: Quoting) -> bool:
        """Tell whether every row has as many fields as the first, where quotes mean what `quotes` says."""
        with open_lines(self._file, self._encoding) as text:
            try:
                return len({len(each) for each in self._reader(text, quotes) if each}) < 2
            except csv.Error:
                return False

    def _reader(self, text: TextIO, quotes: Quoting) -> Any:
        return csv.reader(text, strict=True, delimiter=self._separator, quoting=quotes)

    def _numbered(self, text: TextIO, faults: InputFaults) -> Iterator[tuple[int, list[str]]]:
        """Yield every record with the line on which it begins; blank lines at the end are ignored."""
        reader = self._reader(text, self._quotes)
        blank: list[int] = []
        while True:
            line = reader.line_num + 1
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                faults.add(self._path, self._csv_rule(error), place=f"line {line}")
                continue
            if not record:
                blank.append(line)
                continue
            for number in blank:
                faults.add(self._path, "no line between rows may be blank; remove it", place=f"line {number}")
            blank.clear()
            yield line, record

    def _csv_rule(self, error: csv.Error) -> str:
        """Return what a csv.Error means for someone who looks at the file."""
        text = str(error)
        if "field larger than" in text:
            return f"a text has at most {LONGEST_TEXT:,} characters (or does the quote that begins it never close?)"
        if "unexpected end of data" in text:
            return "a text that begins with a quote must end with one; the quote opened here is never closed"
        sign = SEPARATORS[self._separator].removesuffix("s")
        return f"a quoted text must be followed by a {sign} or the line's end, quotes inside it doubled ({text})"

    def _full_rows(self, numbered: Iterator[tuple[int, list[str]]]) -> Iterator[list[list[str]]]:
        """Yield the records that have as many fields as the header in blocks, and note their lines."""
        width, row = len(self.columns), 0
        block: list[list[str]] = []
        for line, record in numbered:
            if len(record) != width:
                rule = (
                    f"every row must have the {width} fields of line 1; quote texts that hold "
                    f"{SEPARATORS[self._separator]}"
                )
                self._faults.add(self._path, rule, place=f"line {line}", found=f"{len(record)} fields")
                continue
            self._lines.note(row, line)
            block.append(record)
            row += 1
            if len(block) == BLOCK_ROWS:
                yield block
                block = []
        if block:
            yield block
