"""Tables of any format read as strings, exactly as they are, with the place of every row for error messages."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from data_prep.errors import InputFaults, StoreError, quote
from data_prep.store.arrow_rows import ARROW_START, PARQUET_START, STREAM_START, ArrowRows
from data_prep.store.compressed_files import UNREADABLE, content_of, seekable_content_of
from data_prep.store.file_starts import ARROW, PARQUET, START_BYTES, UTF16, start_says
from data_prep.store.files import open_file
from data_prep.store.json_lines import JsonLines
from data_prep.store.row_source import RowSource
from data_prep.store.separated_text import SeparatedText
from data_prep.store.text_encodings import UTF8
from data_prep.store.utf8_texts import readable

FORMATS = "CSV (also with tabs or semicolons), JSON lines, Parquet or Arrow"
IN_FRONT = b"\xef\xbb\xbf \t\r\n"
"""Byte order mark and space, which may stand ahead of a text."""

Chooser = Callable[[Sequence[str], str], Sequence[str]]
"""What names the columns to read of those that a file has; its second argument says where their names stand."""


@dataclass(frozen=True)
class Records:
    """Columns of a file, as strings, unchanged."""

    path: str
    table: pa.Table
    """Mapped from a temporary file that has no name any more, so that it takes no memory that others need."""
    place: Callable[[int], str]
    """Where a row (0-based) stands in the file: `line 7`, or `row 6` where it has no lines."""


def read_records(
    path: str | Path,
    *,
    required: Sequence[str],
    optional: Sequence[str] = (),
    closed: bool = True,
    faults: InputFaults,
    encoding: str = UTF8,
) -> Records | None:
    """Read columns of a file in blocks; None where it cannot be read as a table at all.

    Nothing is interpreted: "NA", leading zeros and surrounding spaces stay. `required` columns that are missing are
    left out, `optional` ones are ignored; if `closed`, any other column is a fault.
    """

    def choose(columns: Sequence[str], origin: str) -> Sequence[str]:
        check_columns(columns, origin, str(path), required, faults)
        extra = [name for name in dict.fromkeys(columns) if name not in {*required, *optional}]
        if closed and extra:
            faults.add(str(path), f"extra columns: {listed_columns(extra)}; remove them")
        return [name for name in required if name in columns]

    return read_chosen(path, choose, faults=faults, encoding=encoding)


def read_chosen(path: str | Path, choose: Chooser, *, faults: InputFaults, encoding: str = UTF8) -> Records | None:
    """Read the columns that `choose` names; None where it names none, or the file cannot be read as a table at all."""
    try:
        with _open_source(path, faults, encoding) as source:
            if source is None:
                return None
            chosen = choose(source.columns, source.origin)
            return _read_body(source, str(path), chosen, faults) if chosen else None
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        faults.add(str(path), f"cannot be read as a table ({_said(error)}); it is damaged or cut off")
        return None


def read_header(path: str | Path, faults: InputFaults) -> list[str] | None:
    """Return the column names of a file; None (with a fault added) if it cannot be read as a table.

    A byte that is not UTF-8 is read as a surrogate.
    """
    headers: list[list[str]] = []

    def keep(columns: Sequence[str], _: str) -> Sequence[str]:
        headers.append(list(columns))
        return ()

    read_chosen(path, keep, faults=faults)
    return headers[0] if headers else None


def check_columns(columns: Sequence[str], origin: str, path: str, required: Sequence[str], faults: InputFaults) -> None:
    """Add a fault for required columns that are missing, that stand there more than once, or whose name is no text."""
    if strange := [readable(name) for name in columns if readable(name) != name]:
        rule = "not text in the file's encoding; save the file as UTF-8, or name its encoding by --encoding"
        faults.add(path, f"column names in {origin}: {listed_columns(strange)}: {rule}")
    if missing := [name for name in required if name not in columns]:
        faults.add(path, f"missing columns: {listed_columns(missing)}; {origin} has {listed_columns(columns)}")
    if repeated := sorted({name for name in columns if name and columns.count(name) > 1}):
        faults.add(path, f"columns named more than once in {origin}: {listed_columns(repeated)}")


def listed_columns(names: Sequence[str]) -> str:
    """Return column names for a message."""
    return ", ".join(quote(name) for name in names)


@contextmanager
def _open_source(path: str | Path, faults: InputFaults, encoding: str) -> Iterator[RowSource | None]:
    """Yield the reader of a file's format, which its content tells; None (with a fault added) where it has none."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open_file(path))
            with content_of(file) as content:
                start = content.read(START_BYTES)
        except StoreError:
            raise
        except OSError as error:
            if error.errno is None:
                raise
            faults.add(str(path), f"cannot be read ({error.strerror}); check the path")
            yield None
            return
        yield _source_of(file, start, str(path), faults, encoding=encoding, stack=stack)


def _source_of(
    file: BinaryIO, start: bytes, path: str, faults: InputFaults, *, encoding: str, stack: ExitStack
) -> RowSource | None:
    if fault := _start_fault(start, encoding):
        faults.add(path, fault)
        return None
    if start.startswith((PARQUET_START, ARROW_START, STREAM_START)):
        return ArrowRows(stack.enter_context(seekable_content_of(file)), start)
    is_json = start.lstrip(IN_FRONT).startswith(b"{")
    return (JsonLines if is_json else SeparatedText)(file, path, faults, encoding=encoding)


def _start_fault(start: bytes, encoding: str) -> str | None:
    """Return why a file that begins like this is no table, if it is none."""
    what = start_says(start)
    if not start:
        return "the file is empty; expected a header line and rows"
    if start.lstrip(IN_FRONT).startswith(b"[{"):
        return (
            "expected JSON lines, one object a line, found a JSON list; write each of its objects on a line of its own"
        )
    if what is None or what in (PARQUET, ARROW) or (what == UTF16 and encoding != UTF8):
        return None
    advice = ", or add --encoding utf-16" if what == UTF16 else ""
    return f"expected a table ({FORMATS}), found {what}{advice}"


def _read_body(source: RowSource, path: str, chosen: Sequence[str], faults: InputFaults) -> Records:
    schema = pa.schema([(readable(name), pa.string()) for name in chosen])
    row = 0
    with tempfile.NamedTemporaryFile(prefix="blendfold-", suffix=".arrow") as spool:
        with pa.ipc.new_file(spool.file, schema) as writer:
            for batch in source.blocks([list(source.columns).index(name) for name in chosen]):
                for name, column in zip(schema.names, batch.columns, strict=True):
                    for offset in pc.indices_nonzero(pc.match_substring(column, "\0")).to_pylist():
                        where, found = f"{path}, column {name}", column[offset].as_py()
                        faults.add(where, "no text may hold a NUL byte", place=source.place(row + offset), found=found)
                writer.write_batch(pa.record_batch(batch.columns, schema=schema))
                row += batch.num_rows
        spool.flush()
        table = pa.ipc.open_file(pa.memory_map(spool.name)).read_all()
    if row == 0:
        faults.add(path, "has a header line but no rows that can be read")
    return Records(path, table, source.place)


def _said(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
