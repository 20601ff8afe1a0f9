"""Whatever the format of a file, its rows are read as the same texts, and its faults are named with their place."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.errors import InputError, InputFaults
from data_prep.store.table_records import read_records
from data_prep.store.text_encodings import known_encoding, likely_encoding

ROWS = [
    {"id": 7, "text": "one, two; three", "score": 0.5},
    {"id": 8, "text": 'a "quoted"\tword | bar', "score": 0.25},
    {"id": 9, "text": "caf\u00e9 \u6f22", "score": 1e-07},
]
AS_TEXTS = [{"id": str(row["id"]), "text": row["text"], "score": f"{row['score']:g}"} for row in ROWS]


def separated(sign: str) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(ROWS[0]), delimiter=sign, lineterminator="\n")
    writer.writeheader()
    writer.writerows(AS_TEXTS)
    return text.getvalue().encode()


def as_parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), sink)
    return sink.getvalue()


def as_arrow(new: Callable[..., object]) -> bytes:
    sink, table = io.BytesIO(), pa.Table.from_pylist(ROWS)
    table = table.set_column(1, "text", table["text"].dictionary_encode())
    with new(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


FORMATS = {
    "commas": separated(","),
    "tabs": separated("\t"),
    "semicolons": separated(";"),
    "bars": separated("|"),
    "JSON lines": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode(),
    "Parquet": as_parquet(),
    "Arrow": as_arrow(pa.ipc.new_file),
    "Arrow stream": as_arrow(pa.ipc.new_stream),
}
PACKED = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstd": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
}


def read(path: Path, content: bytes, *columns: str, **options: object) -> list[dict[str, str]]:
    path.write_bytes(content)
    faults = InputFaults()
    records = read_records(path, required=columns or ("id", "text", "score"), faults=faults, **options)
    faults.raise_all()
    return records.table.to_pylist()


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_texts(name: str, packed: str, tmp_path: Path) -> None:
    found = read(tmp_path / "rows", PACKED[packed](FORMATS[name]))
    assert [{**row, "score": f"{float(row['score']):g}"} for row in found] == AS_TEXTS


def test_an_object_of_a_store_is_read_like_a_file(store, tmp_path: Path) -> None:
    from data_prep.store.files import join, write_bytes

    uri = join(store.uri, "rows.parquet.gz")
    write_bytes(gzip.compress(FORMATS["Parquet"]), uri)
    records = read_records(uri, required=("id", "text", "score"), faults=InputFaults())
    assert [row["text"] for row in records.table.to_pylist()] == [row["text"] for row in ROWS]


def test_numbers_are_spelled_as_short_as_their_type_can_tell(tmp_path: Path) -> None:
    table = pa.table({"id": pa.array([1, 2, None]), "score": pa.array([0.8, 0.1, float("nan")], pa.float32())})
    pq.write_table(table, tmp_path / "table")
    assert read(tmp_path / "rows", (tmp_path / "table").read_bytes(), "id", "score") == [
        {"id": "1", "score": "0.8"},
        {"id": "2", "score": "0.1"},
        {"id": "", "score": ""},
    ]


def test_quotes_in_a_file_with_tabs_may_be_plain_signs(tmp_path: Path) -> None:
    plain = 'id\ttext\n1\t"open\n2\tand "inside"\n3\t"whole"\n'
    assert [row["text"] for row in read(tmp_path / "rows", plain.encode(), "id", "text")] == [
        '"open',
        'and "inside"',
        '"whole"',
    ]
    quoted = 'id\ttext\n1\t"a\ttab"\n2\t"whole"\n'
    assert [row["text"] for row in read(tmp_path / "rows", quoted.encode(), "id", "text")] == ["a\ttab", "whole"]


FAULTS = {
    "bad JSON": (b'{"id": 1}\n{"id": \n', r"rows: every line must be one JSON object, .* found 1: line 2 "),
    "not an object": (b'{"id": 1}\n[2]\n', r"every line must be one JSON object, .* line 2 '\[2\]'"),
    "blank line": (b'{"id": 1}\n\n{"id": 2}\n', r"no line between rows may be blank; remove it; found 1: line 2"),
    "column missing": (b'{"key": 1}\n', r"missing columns: 'id'; the file has 'key'"),
    "NUL": (b'{"id": "a\\u0000"}\n', r"column id: no text may hold a NUL byte; found 1: line 1"),
    "not UTF-8": (b'{"id": "caf\xe9 au lait"}\n', r"column id: must be UTF-8 text; .*--encoding windows-1252\)"),
    "half a pair": (b'{"id": "\\ud800"}\n', r"column id: must be UTF-8 text; .* line 1 '\\\\ud800'"),
    "cut Parquet": (as_parquet()[:-9], r"cannot be read as a table .*damaged or cut off"),
    "cut zstd": (PACKED["zstd"](separated(","))[:-9], r"cannot be read as a table|must be UTF-8|fields of line 1"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named(name: str, tmp_path: Path) -> None:
    content, message = FAULTS[name]
    with pytest.raises(InputError, match=message):
        read(tmp_path / "rows", content, "id", closed=False)


def test_a_fault_in_a_file_without_lines_is_named_by_its_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a", "b\0"]}), tmp_path / "table")
    with pytest.raises(InputError, match=r"column id: no text may hold a NUL byte; found 1: row 2 'b\\x00'"):
        read(tmp_path / "rows", (tmp_path / "table").read_bytes(), "id")


LANGUAGES = {
    "windows-1252": "Die Stra\u00dfe f\u00fchrt \u00fcber caf\u00e9 na\u00efve \u2019quoted\u2019",
    "windows-1251": "\u041f\u0440\u0438\u0432\u0435\u0442 \u043a\u0430\u043a \u0434\u0435\u043b\u0430",
    "shift_jis": "\u3053\u308c\u306f\u65e5\u672c\u8a9e\u306e\u6587\u7ae0\u3067\u3059",
    "gb18030": "\u8fd9\u662f\u4e00\u4e2a\u4e2d\u6587\u53e5\u5b50",
    "euc_kr": "\uc774\uac83\uc740 \ud55c\uad6d\uc5b4 \ubb38\uc7a5\uc785\ub2c8\ub2e4",
}


@pytest.mark.parametrize("name", LANGUAGES)
def test_another_encoding_is_guessed_and_read_when_it_is_named(name: str, tmp_path: Path) -> None:
    text = LANGUAGES[name]
    content = f"id,text\n1,x\n2,{text}\n".encode(name)
    assert likely_encoding(text.encode(name)) == name
    with pytest.raises(InputError, match=rf"must be UTF-8 text; .* --encoding {name}\); found 1: line 3"):
        read(tmp_path / "rows", content, "id", "text")
    found = read(tmp_path / "rows", content, "id", "text", encoding=known_encoding(name))
    assert found[1] == {"id": "2", "text": text}


def test_utf_16_is_read_when_it_is_named(tmp_path: Path) -> None:
    content = separated("\t").decode().encode("utf-16")
    with pytest.raises(InputError, match="found UTF-16 text; save it as UTF-8, or add --encoding utf-16"):
        read(tmp_path / "rows", content)
    assert read(tmp_path / "rows", content, encoding=known_encoding("utf-16")) == AS_TEXTS


@pytest.mark.parametrize("name", ["klingon", "base64", "a\0b"])
def test_an_unknown_encoding_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"unknown text encoding .*; examples: windows-1252"):
        known_encoding(name)
