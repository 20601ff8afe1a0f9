import errno
import os

import pytest

from data_prep.console import PLAIN_WIDTH, console, new_app, run_app
from data_prep.errors import STORAGE_FAULTS, InputError


def exit_of(error):
    app = new_app("A command line that fails.")

    @app.command()
    def fail() -> None:
        """Fail. Example: `fail`."""
        raise error

    with pytest.raises(SystemExit) as ended:
        run_app(app, [])
    return ended.value.code


def test_a_fault_of_the_user_is_a_message_without_a_traceback(capsys):
    assert exit_of(InputError("train.csv: missing columns: 'score'", "test.csv: is empty")) == 2
    shown = capsys.readouterr()
    assert shown.err == "error: train.csv: missing columns: 'score'\ntest.csv: is empty\n"
    assert shown.out == ""


@pytest.mark.parametrize("code", STORAGE_FAULTS, ids=errno.errorcode.get)
def test_a_full_or_forbidden_disk_is_reported_with_what_to_do(code, capsys):
    assert exit_of(OSError(code, os.strerror(code), "runs/demo/oof")) == 2
    shown = capsys.readouterr().err
    assert os.strerror(code) in shown
    assert "'runs/demo/oof'; check free space and permissions" in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize("error", [KeyError("ours"), OSError("no errno"), FileNotFoundError(errno.ENOENT, "ours")])
def test_our_own_faults_keep_their_traceback(error):
    app = new_app("A command line that fails.")

    @app.command()
    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        run_app(app, [])


@pytest.mark.parametrize(("columns", "width"), [(None, PLAIN_WIDTH), ("50", 50)])
def test_a_pipe_gets_lines_of_a_readable_width_and_columns_is_respected(columns, width, monkeypatch, capsys):
    monkeypatch.setattr(console, "_width", None)
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    app = new_app("A command line that draws a line.")

    @app.command()
    def draw() -> None:
        """Draw. Example: `draw`."""
        console.rule(characters="-")

    with pytest.raises(SystemExit):
        run_app(app, [])
    assert capsys.readouterr().out == "-" * width + "\n"
