import csv
import io
import json
from dataclasses import dataclass, field

import numpy as np
import pytest

from data_prep.console import console
from data_prep.errors import InputError
from data_prep.export import export, plain, to_csv
from data_prep.frozen_record import FrozenRecord


class Inner(FrozenRecord):
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    name: str
    folds: tuple[int, ...] = (0, 1)
    interval: Inner = field(default_factory=lambda: Inner(low=0.25, high=float("nan")))
    scores: dict[int, np.float32] = field(default_factory=lambda: {0: np.float32(0.5)})
    is_done: bool = True


ROWS = [Row("a"), Row("b, \x1b[31m \u202e")]


def test_json_holds_every_value_and_nothing_else_is_printed(capsys):
    assert export({"rows": ROWS}, ROWS, as_json=True, csv_file=None)
    found = json.loads(capsys.readouterr().out)
    first = {"name": "a", "folds": [0, 1], "interval": {"low": 0.25, "high": None}, "scores": {"0": 0.5}}
    assert found == {"rows": [{**first, "is_done": True}, {**first, "name": ROWS[1].name, "is_done": True}]}


def test_json_never_controls_a_terminal_and_is_json_whatever_it_can_show(monkeypatch, capsys):
    export(["\x1b[31m \u202e \U000e0001 é"], [], as_json=True, csv_file=None)
    shown = capsys.readouterr().out
    assert all(sign.isprintable() or sign == "\n" for sign in shown)
    assert json.loads(shown) == ["\x1b[31m \u202e \U000e0001 é"]
    monkeypatch.setattr(type(console), "encoding", "ascii")
    export(["é"], [], as_json=True, csv_file=None)
    assert json.loads(capsys.readouterr().out) == ["é"]


def test_csv_has_a_column_for_each_nested_value(capsys):
    assert export(None, ROWS, as_json=False, csv_file="-")
    found = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert found[0] == {
        "name": "a",
        "folds": "0 1",
        "interval_low": "0.25",
        "interval_high": "",
        "scores_0": "0.5",
        "is_done": "True",
    }
    assert found[1]["name"] == ROWS[1].name


def test_csv_goes_into_a_file_whole(tmp_path, capsys):
    path = tmp_path / "new" / "rows.csv"
    assert export(None, ROWS, as_json=False, csv_file=str(path))
    assert path.read_text() == to_csv(ROWS)[0]
    assert capsys.readouterr().out.replace("\n", "") == f"wrote {path} (2 rows)"


def test_rows_with_other_columns_share_a_header():
    text, n_rows = to_csv([{"a": 1}, {"b": {"c": 2}}])
    assert (text, n_rows) == ("a,b_c\n1,\n,2\n", 2)


def test_nothing_is_printed_where_neither_is_asked_for(capsys):
    assert not export({}, [], as_json=False, csv_file=None)
    assert capsys.readouterr().out == ""


def test_both_at_once_are_refused():
    with pytest.raises(InputError, match=r"--json and --csv: give one of them"):
        export({}, [], as_json=True, csv_file="-")


def test_credentials_are_masked_and_leave_the_cells_around_them_whole():
    assert plain(["s3://key:secret@host/runs", "me@host"]) == ["s3://***@host/runs", "me@host"]
