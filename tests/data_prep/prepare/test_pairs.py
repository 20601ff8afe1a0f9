import gzip
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data_prep.errors import InputError, InputFaults
from data_prep.prepare.prepare_folder import prepare
from data_prep.store.table_records import read_records

Spoil = Callable[..., None]


def cell(rows: str, row: int, column: int, text: str) -> Spoil:
    """Return a change of one cell of `inputs.train` or `inputs.test`; row 0 is line 2."""

    def spoil(inputs) -> None:
        getattr(inputs, rows)[row][column] = text

    return spoil


CELL_FAULTS = {
    "score missing": (cell("train", 3, 4, ""), r"train\.csv, column score: may not be missing; found 1: line 5$"),
    "score a word": (cell("train", 3, 4, "high"), r"train\.csv, column score: must be a number.*line 5 'high'"),
    "score a comma": (cell("train", 3, 4, "0,5"), r"column score: must be a number, with a point.*line 5 '0,5'"),
    "score NaN": (cell("train", 0, 4, "nan"), r"column score: must be a number.*line 2 'nan'"),
    "score infinite": (cell("train", 0, 4, "inf"), r"column score: must be a number.*line 2 'inf'"),
    "score with underscore": (cell("train", 0, 4, "1_0"), r"column score: must be a number.*line 2 '1_0'"),
    "score not legal": (cell("train", 119, 4, "0.3"), r"must be one of 0, 0\.25, 0\.5, 0\.75, 1; .*line 121 '0\.3'"),
    "empty anchor": (cell("train", 1, 1, ""), r"train\.csv, column anchor: may not be empty or blank.*line 3"),
    "blank target": (cell("test", 1, 2, " \t"), r"test\.csv, column target: may not be empty or blank.*line 3"),
    "empty id": (cell("test", 2, 0, ""), r"test\.csv, column id: may not be empty or blank.*line 4"),
    "unknown code": (cell("test", 2, 3, "Z99"), r"test\.csv, column context: must be a known CPC.*line 4 'Z99'"),
    "code in small letters": (cell("train", 2, 3, "a47"), r"train\.csv, column context: must be a known.*'a47'"),
    "duplicate id": (cell("train", 7, 0, "tr0-0"), r"train\.csv, column id: an id may not repeat.*line 9 'tr0-0'"),
    "duplicate test id": (cell("test", 7, 0, "te0-0"), r"test\.csv, column id: an id may not repeat.*line 9 'te0-0'"),
    "NUL": (cell("train", 4, 2, "a\0b"), r"train\.csv, column target: no text may hold a NUL.*line 6 'a\\x00b'"),
}


@pytest.mark.parametrize("name", CELL_FAULTS)
def test_a_bad_cell_is_named_with_file_line_and_column(name, inputs, prepare_inputs, tmp_path):
    spoil, message = CELL_FAULTS[name]
    spoil(inputs)
    with pytest.raises(InputError, match=message) as error:
        prepare_inputs(inputs)
    assert len(error.value.faults) == 1
    assert not (tmp_path / "out").exists()


def test_all_faults_of_both_files_come_at_once(inputs, prepare_inputs):
    for spoil, _ in CELL_FAULTS.values():
        spoil(inputs)
    with pytest.raises(InputError) as error:
        prepare_inputs(inputs, n_folds=50)
    text = str(error.value)
    for part in ("train.csv, column score", "test.csv, column target", "test.csv, column context", "NUL", "50 folds"):
        assert part in text
    assert len(error.value.faults) >= 10


def test_many_faults_of_a_kind_are_counted_and_a_few_shown(inputs, prepare_inputs):
    for row in inputs.train:
        row[4] = "2"
    with pytest.raises(InputError, match=r"found 120: line 2 '2', .* and 100 more$") as error:
        prepare_inputs(inputs)
    assert len(re.findall(r"line \d+", str(error.value))) == 20


def file_faults() -> dict[str, tuple[Callable[[bytes], bytes], str]]:
    """Return changes of train.csv's bytes and what must be said of each."""
    return {
        "empty": (lambda _: b"", r"train\.csv: the file is empty"),
        "header only": (lambda data: data.splitlines()[0] + b"\n", r"has a header line but no rows"),
        "header without end": (lambda data: data.splitlines()[0], r"has a header line but no rows"),
        "only a mark": (lambda _: b"\xef\xbb\xbf", r"missing columns: 'id', 'anchor'"),
        "blank": (lambda _: b"\n\n", r"missing columns: 'id', 'anchor'"),
        "column missing": (
            lambda data: data.replace(b"target,", b"goal,", 1),
            r"missing columns: 'target'; line 1 has 'id', 'anchor', 'goal'",
        ),
        "column twice": (
            lambda data: data.replace(b"anchor,", b"anchor,anchor,", 1).replace(b"\n", b",x\n").replace(b",x", b"", 1),
            r"columns named more than once in line 1: 'anchor'",
        ),
        "utf-16": (
            lambda data: data.decode().encode("utf-16"),
            r"expected a table .*found UTF-16 text; save it as UTF-8, or add --encoding utf-16",
        ),
        "zip": (lambda data: b"PK\x03\x04" + data, r"found a zip archive \(.*\); unpack it first"),
        "pointer": (
            lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
            r"found a git-LFS pointer; fetch the file .* `git lfs pull`",
        ),
        "parquet": (lambda _: b"PAR1\x15\x04", r"cannot be read as a table \(Parquet .*damaged or cut off"),
        "arrow": (lambda _: b"ARROW1\0\0\x15", r"cannot be read as a table .*damaged or cut off"),
        "gzip": (lambda data: gzip.compress(data)[:-40], r"cannot be read as a table \(Compressed file ended before"),
        "JSON list": (lambda _: b'[{"id": 1}]', r"found a JSON list; write each of its objects on a line of its own"),
        "web page": (lambda _: b"<!DOCTYPE html><html>", r"found a web page"),
        "endless text": (
            lambda data: data.replace(b"target 11 8", b"x" * 10_000_001, 1),
            r"a text has at most 10,000,000 characters .*line 120",
        ),
        "latin-1": (
            lambda data: data.replace(b"target 0 3", b"caf\xe9", 1),
            r"target: must be UTF-8 text; .* add .*--encoding windows-1252\); found 1: line 5 'caf\\\\xe9'",
        ),
        "field too many": (
            lambda data: data.replace(b"target 0 3", b"a,b", 1),
            r"every row must have the 5 fields of line 1.*line 5 '6 fields'",
        ),
        "field too few": (lambda data: data + b"x,y\n", r"must have the 5 fields.*line 122 '2 fields'"),
        "blank line": (
            lambda data: data.replace(b"\n", b"\n\n", 2),
            r"no line between rows may be blank.*found 2: line 2, line 4",
        ),
        "open quote": (
            lambda data: data.replace(b"target 11 8", b'"target 11 8', 1),
            r"the quote opened here is never closed; found 1: line 120",
        ),
        "text after quote": (
            lambda data: data.replace(b"target 0 3", b'"target" 0 3', 1),
            r"a quoted text must be followed by a comma.*line 5",
        ),
    }


@pytest.mark.parametrize("name", file_faults())
def test_a_bad_file_is_described(name, inputs, tmp_path):
    spoil, message = file_faults()[name]
    train, test = inputs.write()
    train.write_bytes(spoil(train.read_bytes()))
    with pytest.raises(InputError, match=message):
        prepare(train=train, test=test, out=tmp_path / "out", n_folds=4)
    assert not (tmp_path / "out").exists()


def test_a_long_text_is_a_text(inputs, prepare_inputs):
    inputs.train[7][2] = "word, " * 50_000
    assert prepare_inputs(inputs).train["target"][7].as_py() == inputs.train[7][2]


def test_an_open_quote_does_not_hide_the_faults_of_the_other_file(inputs, tmp_path):
    inputs.test[0][3] = "Q00"
    train, test = inputs.write()
    train.write_bytes(train.read_bytes().replace(b"target 0 3", b'"target 0 3', 1))
    with pytest.raises(InputError, match=r"line 5(.|\n)*test\.csv, column context.*'Q00'"):
        prepare(train=train, test=test, out=tmp_path / "out", n_folds=4)


@pytest.mark.parametrize("missing", ["train", "test"])
def test_a_missing_file_is_an_input_error(missing, inputs, tmp_path):
    paths = dict(zip(("train", "test"), inputs.write(), strict=True)) | {missing: tmp_path / "nowhere.csv"}
    with pytest.raises(InputError, match=r"nowhere\.csv: cannot be read \(No such file"):
        prepare(**paths, out=tmp_path / "out")


def test_a_score_in_the_test_file_is_left_out(inputs, tmp_path):
    train, _ = inputs.write()
    other, said = Path(tmp_path / "other.csv"), []
    other.write_text("id,anchor,target,context,score\nq,w,e,A47,1\n")
    prepared = prepare(train=train, test=other, out=tmp_path / "out", n_folds=4, say=said.append)
    assert prepared.test.column_names == ["id", "anchor", "target", "context", "context_text"]
    assert said == [f"{other}: column 'score' is not used there; it is left out"]


STRANGE = [
    "NA",
    "null",
    "None",
    "007",
    "1e5",
    " padded ",
    "tab\there",
    'say "hi"',
    "two\nlines",
    "a,b",
    "ünï ©",
]


def test_texts_come_through_exactly_as_they_stand(inputs, prepare_inputs):
    for row, text in zip(inputs.train, STRANGE, strict=False):
        row[2] = text
    inputs.train[20][0] = "00012"
    prepared = prepare_inputs(inputs)
    assert prepared.train["target"].to_pylist()[: len(STRANGE)] == STRANGE
    assert prepared.train["id"].to_pylist()[20] == "00012"
    expected = [float(row[4]) for row in inputs.train]
    np.testing.assert_array_equal(prepared.train["score"].to_numpy(), np.float32(expected))


def test_lines_count_the_breaks_inside_quoted_texts(inputs, prepare_inputs):
    inputs.train[0][2] = "one\ntwo\nthree"
    inputs.train[2][2] = "one\ntwo"
    for row in (0, 1, 2, 3):
        inputs.train[row][4] = "9"
    with pytest.raises(InputError, match="line 2 '9', line 5 '9', line 6 '9', line 8 '9'"):
        prepare_inputs(inputs)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("tail", [b"", b"\n\n"])
def test_line_ends_byte_order_mark_and_trailing_lines_change_nothing(end, mark, tail, inputs, tmp_path):
    train, test = inputs.write()
    plain = prepare(train=train, test=test, out=tmp_path / "plain", n_folds=4)
    for path in (train, test):
        path.write_bytes(mark + path.read_bytes().replace(b"\n", end.encode()) + tail)
    other = prepare(train=train, test=test, out=tmp_path / "other", n_folds=4)
    assert other.manifest.data_hash == plain.manifest.data_hash
    assert other.manifest.split_hash == plain.manifest.split_hash


def test_column_order_changes_nothing(inputs, tmp_path):
    train, test = inputs.write()
    plain = prepare(train=train, test=test, out=tmp_path / "plain", n_folds=4)
    lines = [line.split(",") for line in train.read_text().splitlines()]
    train.write_text("\n".join(",".join(reversed(line)) for line in lines) + "\n")
    assert prepare(train=train, test=test, out=tmp_path / "other", n_folds=4).manifest.data_hash == (
        plain.manifest.data_hash
    )


def test_blocks_do_not_show(inputs, prepare_inputs, monkeypatch, tmp_path):
    whole = prepare_inputs(inputs)
    monkeypatch.setattr("data_prep.store.separated_text.BLOCK_ROWS", 7)
    blocks = prepare_inputs(inputs, out=tmp_path / "blocks")
    assert blocks.train.equals(whole.train)
    assert (tmp_path / "blocks/train.arrow").read_bytes() == (tmp_path / "out/train.arrow").read_bytes()
    inputs.train[50][4], inputs.train[51][1], inputs.train[60][0] = "7", "", "tr0-0"
    with pytest.raises(InputError, match=r"line 52 '7'(.|\n)*line 62 'tr0-0'(.|\n)*line 53"):
        prepare_inputs(inputs, out=tmp_path / "third")


def test_the_rows_of_a_file_are_mapped_and_not_held(tmp_path):
    n_rows = 40_000
    (tmp_path / "rows.csv").write_text("id,text\n" + "".join(f"r{row},{'x' * 100}\n" for row in range(n_rows)))
    before = pa.total_allocated_bytes()
    records = read_records(tmp_path / "rows.csv", required=("id", "text"), faults=InputFaults())
    assert records.table.num_rows == n_rows
    assert records.table["id"][n_rows - 1].as_py() == f"r{n_rows - 1}"
    assert records.table.nbytes > 100 * n_rows
    assert pa.total_allocated_bytes() - before < 10 * n_rows
