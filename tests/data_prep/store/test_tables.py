import itertools
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pyarrow as pa
import pytest

from data_prep.errors import InputError
from data_prep.prepared import train_schema
from data_prep.store import files, tables
from data_prep.store.files import exists, list_names, read_bytes, write_json
from data_prep.store.tables import (
    CURVES_SCHEMA,
    OOF_SCHEMA,
    TEST_SCHEMA,
    DamagedTableError,
    checksum,
    metadata_of,
    read_table,
    write_table,
)
from data_prep.task import PPPM

SCHEMAS = {"oof": OOF_SCHEMA, "test": TEST_SCHEMA, "curves": CURVES_SCHEMA, "train": train_schema(PPPM)}


def filled(schema: pa.Schema, n_rows: int = 50) -> pa.Table:
    """Return a table of any schema with texts of unequal length and numbers that repeat."""
    texts = [("é" * (row % 4)) + str(row) for row in range(n_rows)]
    columns = [texts if field.type == pa.string() else np.arange(n_rows) % 100 for field in schema]
    return pa.table([pa.array(values).cast(field.type) for values, field in zip(columns, schema, strict=True)], schema)


@pytest.mark.parametrize("n_rows", [0, 1, 50])
@pytest.mark.parametrize("name", SCHEMAS)
def test_a_table_comes_back_as_written(name, n_rows, tmp_path):
    table = filled(SCHEMAS[name], n_rows)
    stamp = write_table(table, tmp_path / "deep/er/table.arrow", schema=SCHEMAS[name], metadata={"candidate": "abc"})
    found = read_table(tmp_path / "deep/er/table.arrow", schema=SCHEMAS[name])
    assert found.equals(table)
    assert metadata_of(found) == {"candidate": "abc", "checksum": stamp}
    assert [path.name for path in (tmp_path / "deep/er").iterdir()] == ["table.arrow"]


def test_a_uri_is_as_good_as_a_path(tmp_path):
    uri = f"file://{tmp_path}/there/table.arrow"
    write_table(filled(OOF_SCHEMA), uri, schema=OOF_SCHEMA)
    assert exists(uri)
    assert read_table(uri).equals(read_table(tmp_path / "there/table.arrow"))
    assert list_names(f"file://{tmp_path}/there") == ["table.arrow"]
    assert list_names(tmp_path / "nowhere") == []


def test_a_remote_object_is_uploaded_whole(tmp_path, monkeypatch):
    store = pa.fs.SubTreeFileSystem(str(tmp_path), pa.fs.LocalFileSystem())
    for module in (files, tables):
        monkeypatch.setattr(module, "locate", lambda _: (store, "a/b.arrow"))
    write_table(filled(OOF_SCHEMA), "mem://a/b.arrow", schema=OOF_SCHEMA)
    assert read_table("mem://a/b.arrow", schema=OOF_SCHEMA).equals(filled(OOF_SCHEMA))


def test_columns_are_ordered_and_cast_to_the_schema(tmp_path):
    table = filled(OOF_SCHEMA)
    loose = table.select(["prediction", "id", "score", "fold"]).set_column(3, "fold", table["fold"].cast(pa.int64()))
    loose = loose.set_column(1, "id", loose["id"].dictionary_encode())
    stamp = write_table(loose, tmp_path / "a.arrow", schema=OOF_SCHEMA)
    assert stamp == write_table(table, tmp_path / "b.arrow", schema=OOF_SCHEMA)
    assert (tmp_path / "a.arrow").read_bytes() == (tmp_path / "b.arrow").read_bytes()


@pytest.mark.parametrize("cuts", [(0,), (1,), (7, 8), (10, 10, 49)])
def test_the_checksum_does_not_see_chunks_metadata_or_dictionaries(cuts):
    table = filled(train_schema(PPPM))
    edges = [0, *cuts, table.num_rows]
    pieces = [table.slice(start, end - start) for start, end in itertools.pairwise(edges)]
    chunked = pa.concat_tables(pieces).replace_schema_metadata({"any": "thing"})
    assert checksum(chunked) == checksum(table)
    encoded = chunked.set_column(1, "anchor", chunked["anchor"].dictionary_encode())
    assert checksum(encoded) == checksum(table)


def test_the_checksum_sees_every_single_value_name_and_type():
    table = filled(OOF_SCHEMA, 20)
    seen = {checksum(table)}
    for place, field in enumerate(table.schema):
        for row in (0, 13, 19):
            values = table[field.name].to_pylist()
            values[row] = "changed" if field.type == pa.string() else values[row] + 1
            seen.add(checksum(table.set_column(place, field, pa.array(values, field.type))))
        values = table[field.name].to_pylist()
        values[4] = None
        seen.add(checksum(table.set_column(place, field, pa.array(values, field.type))))
    seen.add(checksum(table.rename_columns(["id", "fold", "score", "guess"])))
    seen.add(checksum(table.set_column(1, "fold", table["fold"].cast(pa.int16()))))
    seen.add(checksum(table.take(np.arange(20)[::-1])))
    assert len(seen) == 1 + 4 * 4 + 3


def test_the_checksum_tells_texts_that_only_join_to_the_same():
    one, other = (pa.table({"id": texts}) for texts in (["ab", "c", ""], ["a", "bc", ""]))
    assert checksum(one) != checksum(other)
    assert checksum(pa.table({"id": pa.array(["", None])})) != checksum(pa.table({"id": pa.array([None, ""])}))


def test_a_large_table_is_written_in_batches(tmp_path):
    table = filled(OOF_SCHEMA, 95)
    whole = write_table(table, tmp_path / "whole.arrow", schema=OOF_SCHEMA)
    assert checksum(table, block_rows=7) == whole
    assert write_table(table, tmp_path / "parts.arrow", schema=OOF_SCHEMA, batch_rows=10) == whole
    assert read_table(tmp_path / "parts.arrow").equals(table)


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_truncation_is_noticed(name, tmp_path):
    path = tmp_path / "table.arrow"
    write_table(filled(SCHEMAS[name]), path, schema=SCHEMAS[name])
    content = path.read_bytes()
    lengths = [*range(0, len(content), 97), len(content) - 1]
    for length in lengths:
        path.write_bytes(content[:length])
        with pytest.raises(DamagedTableError, match=r"table\.arrow"):
            read_table(path)
    assert len(lengths) > 10


def test_an_altered_byte_never_gives_other_values(tmp_path):
    """Bytes of padding may change unseen; no change may alter what is read."""
    path = tmp_path / "table.arrow"
    table = filled(OOF_SCHEMA)
    write_table(table, path, schema=OOF_SCHEMA)
    content = path.read_bytes()
    noticed = 0
    for place in range(0, len(content), 5):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        try:
            found = read_table(path, schema=OOF_SCHEMA)
        except DamagedTableError:
            noticed += 1
        else:
            assert found.equals(table)
    assert noticed > 150


def test_a_table_of_other_columns_is_refused(tmp_path):
    write_table(filled(TEST_SCHEMA), tmp_path / "table.arrow", schema=TEST_SCHEMA)
    with pytest.raises(DamagedTableError, match="columns are id string, fold int8, prediction float, expected id"):
        read_table(tmp_path / "table.arrow", schema=OOF_SCHEMA)


def test_a_missing_file_is_an_input_error_and_not_damage(tmp_path):
    for read in (read_table, read_bytes):
        with pytest.raises(InputError, match="no such file") as error:
            read(tmp_path / "nowhere.arrow")
        assert not isinstance(error.value, DamagedTableError)


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "table.arrow"
    write_table(filled(OOF_SCHEMA), path, schema=OOF_SCHEMA)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_table(filled(OOF_SCHEMA, 3), path, schema=OOF_SCHEMA)
    with pytest.raises(OSError, match="No space left"):
        write_json({"a": 1}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_between_batches_leaves_nothing(tmp_path, monkeypatch):
    real = pa.ipc.new_file

    class Writer:
        def __init__(self, *arguments: object) -> None:
            self.writer = real(*arguments)
            self.written = 0

        def __enter__(self) -> "Writer":
            return self

        def __exit__(self, *arguments: object) -> None:
            self.writer.close()

        def write_table(self, part: pa.Table) -> None:
            self.written += 1
            if self.written == 3:
                raise OSError(5, "Input/output error")
            self.writer.write_table(part)

    monkeypatch.setattr(pa.ipc, "new_file", Writer)
    with pytest.raises(OSError, match="Input/output"):
        write_table(filled(OOF_SCHEMA), tmp_path / "table.arrow", schema=OOF_SCHEMA, batch_rows=10)
    assert list(tmp_path.iterdir()) == []


def test_a_kill_while_writing_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "table.arrow"
    write_table(filled(OOF_SCHEMA), path, schema=OOF_SCHEMA)
    program = textwrap.dedent(f"""
        import os, signal
        import pyarrow as pa
        from data_prep.store.tables import OOF_SCHEMA, read_table, write_table
        os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
        write_table(read_table({str(path)!r}).slice(0, 3), {str(path)!r}, schema=OOF_SCHEMA)
    """)
    killed = subprocess.run([sys.executable, "-c", program], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert read_table(path).equals(filled(OOF_SCHEMA))
    partial = [other for other in tmp_path.iterdir() if other != path]
    assert [other.suffix for other in partial] == [".partial"]
