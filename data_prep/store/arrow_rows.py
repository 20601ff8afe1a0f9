"""`ArrowRows`: the rows of a Parquet or an Arrow file, whatever the types of its columns."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data_prep.store.row_source import BLOCK_ROWS

PARQUET_START = b"PAR1"
ARROW_START = b"ARROW1"
STREAM_START = b"\xff\xff\xff\xff"


class ArrowRows:
    """Reads a Parquet or an Arrow file (or stream): numbers are spelled as short as they can be, lists as JSON."""

    origin = "the file"

    def __init__(self, content: pa.NativeFile, start: bytes) -> None:
        self._content, self._start = content, start
        if start.startswith(PARQUET_START):
            import pyarrow.parquet as pq  # noqa: PLC0415 - few need it

            self._parquet = pq.ParquetFile(content)
            self.columns = list(self._parquet.schema_arrow.names)
        else:
            self.columns = list(self._open().schema.names)

    def place(self, row: int) -> str:
        """Return the number of a row, from 1."""
        return f"row {row + 1}"

    def blocks(self, places: Sequence[int]) -> Iterator[pa.RecordBatch]:
        """Yield the columns at `places`."""
        names = [self.columns[place] for place in places]
        for batch in self._batches(names):
            batch.validate(full=True)
            for start in range(0, batch.num_rows, BLOCK_ROWS):
                part = batch.slice(start, BLOCK_ROWS)
                yield pa.record_batch([_texts(part.column(part.schema.names.index(name))) for name in names], names)

    def _batches(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        if self._start.startswith(PARQUET_START):
            yield from self._parquet.iter_batches(BLOCK_ROWS, columns=names)
            return
        reader = self._open()
        if isinstance(reader, pa.ipc.RecordBatchFileReader):
            yield from (reader.get_batch(number) for number in range(reader.num_record_batches))
        else:
            yield from reader

    def _open(self) -> Any:
        self._content.seek(0)
        is_file = self._start.startswith(ARROW_START)
        return (pa.ipc.open_file if is_file else pa.ipc.open_stream)(self._content)


def _texts(column: pa.Array) -> pa.Array:
    """Return a column as strings; what is missing, NaN included, is empty."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _texts(column.dictionary_decode())
    if pa.types.is_nested(kind):
        values = [
            None if one is None else json.dumps(one, ensure_ascii=False, default=str) for one in column.to_pylist()
        ]
        return pa.array(values, pa.string()).fill_null("")
    if pa.types.is_float16(kind):
        return _texts(column.cast(pa.float32()))
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), None, column)
    if pa.types.is_null(kind):
        return pa.array([""] * len(column), pa.string())
    return column.cast(pa.string()).fill_null("")
