import ast
import errno
import os
import subprocess
import sys

import pytest
from rich.text import Text

from data_prep.console import (
    PLAIN_WIDTH,
    EscapingConsole,
    activity,
    console,
    new_app,
    new_table,
    print_line,
    run_app,
)
from data_prep.errors import STORAGE_FAULTS, InputError
from own_source import modules_of


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
    assert "'runs/demo/oof'; check the path, free space and permissions" in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("~/a", "/home/me/a"),
        ("--out=~/a", "--out=/home/me/a"),
        ("a~/b", "a~/b"),
        ("~", "~"),
        ("--note=x ~/a", "--note=x ~/a"),
    ],
)
def test_the_home_folder_is_spelled_out_in_every_argument(given, meant, monkeypatch, capsys):
    monkeypatch.setenv("HOME", "/home/me")
    app = new_app("A command line that repeats.")

    @app.command(context_settings={"ignore_unknown_options": True})
    def repeat(words: list[str]) -> None:
        """Repeat. Example: `repeat`."""
        print_line(" ".join(words))

    with pytest.raises(SystemExit):
        run_app(app, [given])
    assert capsys.readouterr().out == f"{meant}\n"


def test_a_path_outside_of_the_locale_is_a_message(tmp_path):
    (tmp_path / "donn\u00e9es").mkdir()
    run = subprocess.run(
        [sys.executable, "-m", "data_prep", "audit", str(tmp_path / "donn\u00e9es")],
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        check=False,
    )
    assert run.returncode == 2
    assert b"is not UTF-8 text; rename it, or, as this terminal's locale uses ascii, set LC_ALL=C.UTF-8" in run.stderr


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


def test_every_way_masks_a_credential(capsys):
    uri = "http://me:hidden@host/x"
    print_line(uri)
    table = new_table(uri, uri)
    table.add_row(uri)
    console.print(table)
    shown = capsys.readouterr().out
    assert "hidden" not in shown
    assert shown.count("@host/x") == 4


HOSTILE = "name[/bold] [v3] :smile: \x1b[31m \x07"
HARMLESS = r"name[/bold] [v3] :smile: \x1b[31m \x07"


def print_hostile_line() -> None:
    print_line(HOSTILE)


def print_hostile_text() -> None:
    console.print(Text(HOSTILE.removesuffix(" \x07")))  # a Text drops the bell by itself


def print_hostile_table() -> None:
    table = new_table(HOSTILE, HOSTILE, HOSTILE, caption=HOSTILE)
    table.add_row(HOSTILE, HOSTILE)
    console.print(table)


@pytest.mark.parametrize(
    ("print_it", "times"), [(print_hostile_line, 1), (print_hostile_text, 1), (print_hostile_table, 6)]
)
def test_user_text_is_never_markup_and_never_controls_the_terminal(print_it, times, monkeypatch, capsys):
    monkeypatch.setattr(console, "_width", 200)
    print_it()
    shown = capsys.readouterr().out
    assert shown.count(HARMLESS.removesuffix(r" \x07")) == times
    assert "\x1b" not in shown


def test_what_is_shown_while_work_lasts_is_never_markup(capsys):
    terminal = EscapingConsole(force_terminal=True, width=200)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_prep.console.error_console", terminal)
        with activity(HOSTILE) as show:
            show(f"{HOSTILE} again")
    shown = capsys.readouterr().out
    assert r"name[/bold] [v3] :smile: \x1b[31m" in shown
    assert "\x1b[31m" not in shown


PROGRAM = """
import sys, warnings
from data_prep.console import new_app, run_app
from data_prep.errors import InputError
app = new_app("A command line that fails.")
@app.command()
def fail(how: str, number: int = 0) -> None:
    "Fail."
    raise {"user": InputError, "ours": RuntimeError, "warning": UserWarning}[how](sys.argv[-1])
@app.command()
def warn(text: str) -> None:
    "Warn."
    warnings.warn(text)
run_app(app)
"""


@pytest.mark.parametrize(
    ("arguments", "code", "shown"),
    [
        (["fail", "user", "--number", "1", "--", HOSTILE], 2, "error: Got unexpected extra argument"),
        (["fail", HOSTILE, "--number", HOSTILE], 2, "error: Invalid value for '--number'"),
        ([HOSTILE], 2, "error: No such command"),
        (["warn", HOSTILE], 0, f"warning: {HARMLESS}"),
        (["fail", HOSTILE], 1, "KeyError"),
        (["fail", "ours"], 1, "RuntimeError: ours"),
        (["fail", "user"], 2, "error: user\n"),
    ],
)
def test_no_way_to_fail_lets_text_through(arguments, code, shown):
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    assert shown in done.stderr
    assert "\x1b" not in done.stderr
    assert ("Traceback" in done.stderr) == (code == 1)


def test_a_terminal_that_lacks_a_sign_gets_it_written_out():
    program = (
        "from data_prep.console import *; app = new_app('x')\n"
        "app.command()(lambda: print_line('é ± \\udcff')); run_app(app, [])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        encoding="latin-1",
        check=False,
    )
    assert (done.stdout, done.stderr) == ("é ± \\udcff\n", "")


SYNONYMS = {"sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__", "sys.excepthook", "logging.StreamHandler"}
CALLS = {"print", "input", "Console", "from_markup", "print_exc", "print_exception", "echo", "secho", "basicConfig"}
MODULES = {"rich", "rich.markup", "rich.status", "rich.spinner", "rich.prompt", "click"}
NEEDED = {
    "Live": ["console"],
    "Progress": ["console"],
    "TextColumn": ["markup"],
    "subprocess.run": ["stdout", "capture_output"],
    "subprocess.Popen": ["stdout"],
}
"""Calls that print past the console unless one of these arguments is given."""


def ways_to_the_terminal(tree: ast.Module):
    """Yield line and text of everything that could print past `EscapingConsole`."""
    for node in ast.walk(tree):
        text = ast.unparse(node) if isinstance(node, ast.Call | ast.Attribute | ast.ImportFrom) else ""
        found = text in SYNONYMS or (isinstance(node, ast.ImportFrom) and node.module in MODULES)
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            last = name.rsplit(".", 1)[-1]
            missing = name in NEEDED and not {word.arg for word in node.keywords} & set(NEEDED[name])
            found = name in CALLS or (last in CALLS and last != "print") or name.endswith("console.status") or missing
        if found:
            yield node.lineno, text


def test_there_is_no_other_way_to_the_terminal():
    found = [
        f"{path}:{line}: {text}; use what data_prep/console.py offers"
        for path, tree in modules_of("data_prep", "models", "search", "blend", "blendfold")
        if path != "data_prep/console.py"
        for line, text in ways_to_the_terminal(tree)
    ]
    assert found == []


@pytest.mark.parametrize(
    "way",
    [
        "print('x')",
        "Console().print('x')",
        "rich.console.Console()",
        "sys.stderr.write('x')",
        "typer.echo('x')",
        "from rich import print",
        "from rich.markup import escape",
        "Text.from_markup('x')",
        "console.status('x')",
        "Live(x)",
        "TextColumn('{task.description}')",
        "subprocess.run(['ray'])",
    ],
)
def test_another_way_to_the_terminal_would_be_found(way):
    assert len(list(ways_to_the_terminal(ast.parse(way)))) >= 1
