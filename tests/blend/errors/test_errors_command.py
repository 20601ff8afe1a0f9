import csv
import io
import json

import pytest
from typer.testing import CliRunner

from blend.__main__ import app
from blend.errors import TABLES
from blend.errors.error_rows import load_error_rows
from blend.errors.errors_report import errors_report, records
from data_prep.console import EscapingConsole
from data_prep.errors import InputError


@pytest.fixture
def fitted(full_run):
    app(["fit", full_run.path, "--method", "ridge+line", "--name", "first"], standalone_mode=False)
    return full_run


def errors(*arguments):
    done = CliRunner().invoke(app, ["errors", *map(str, arguments)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_json_holds_every_table_as_the_functions_give_it(fitted):
    found = json.loads(errors(fitted.path, "--worst", 3, "--json"))
    rows = load_error_rows(fitted.path)
    report = errors_report(rows, n=3)
    assert (found["source"], found["kind"]) == ("blend first", "nested")
    assert found["members"] == dict(rows.members)
    for name in TABLES:
        assert len(found[name]) == len(report.tables[name])
    assert [row["id"] for row in found["worst"]] == list(report.worst["id"])
    assert [row["rmse"] for row in found["slices"]] == pytest.approx(list(report.slices["rmse"]))


def test_csv_holds_the_worst_rows_or_the_table_asked_for(fitted, tmp_path):
    rows = load_error_rows(fitted.path)
    found = list(csv.DictReader(io.StringIO(errors(fitted.path, "--worst", 5, "--csv", "-"))))
    assert [row["id"] for row in found] == [row["id"] for row in records(errors_report(rows, n=5).worst)]
    assert found[0].keys() >= {"left", "score", "prediction", "error", *rows.members}
    errors(fitted.path, "--table", "slices", "--by", "fold", "--csv", tmp_path / "slices.csv")
    with (tmp_path / "slices.csv").open() as file:
        assert [row["value"] for row in csv.DictReader(file)] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("width", [80, 120])
def test_the_console_shows_every_table_within_its_width(fitted, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("blend.errors.errors_command.console", EscapingConsole(width=width))
    shown = errors(fitted.path, "--worst", 2)
    for title in ("worst rows", "by fold", "by score", "calibration", "errors", "where members disagree most"):
        assert f"\n{title}" in shown
    tables = shown[shown.index("worst rows") : shown.index("contradictions: nothing to show")]
    assert max(map(len, tables.splitlines())) <= width
    worst = errors_report(load_error_rows(fitted.path), n=2).worst
    assert all(name in shown for name in worst["id"])


def test_rows_of_each_value_are_asked_for_with_by(fitted):
    shown = errors(fitted.path, "--by", "fold", "--table", "worst")
    assert "worst rows, one of each fold" in shown
    worst = errors_report(load_error_rows(fitted.path), by="fold").worst
    assert sorted(worst["fold"]) == [0, 1, 2, 3]
    assert all(name in shown for name in worst["id"])


def test_an_unknown_table_is_refused(fitted):
    with pytest.raises(InputError, match=r"--table best: no such table; known: worst, slices"):
        errors(fitted.path, "--table", "best")
