import ast
import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace

import pytest

from data_prep.__main__ import _show
from data_prep.wording import command, count, visible
from own_source import modules_of

PRINTED_COMMANDS = re.compile(r"(python -m|\bray (up|down|exec|job|start)|tensorboard --|mlflow ui) [^`]*$")
"""Ends in the middle of a command, so that the value that follows is one of its words."""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcode 漢字 ±→", "plain ünïcode 漢字 ±→"),
        ("lines\nand\ttabs stay", "lines\nand\ttabs stay"),
        ("\x1b[31mred\x1b]0;title\x07", r"\x1b[31mred\x1b]0;title\x07"),
        ("over\rwritten \x9b2J \x7f", r"over\rwritten \x9b2J \x7f"),
        ("turned \u202eround \u200b", r"turned \u202eround \u200b"),
        ("a path of other bytes \udcff", r"a path of other bytes \udcff"),
    ],
)
def test_what_does_not_print_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert shown.encode()


def test_one_is_singular() -> None:
    assert [count(number, "candidate") for number in (0, 1, 2, 2000)] == [
        "0 candidates",
        "1 candidate",
        "2 candidates",
        "2,000 candidates",
    ]
    assert (count(1, "backbone family", "backbone families"), count(3, "family", "families")) == (
        "1 backbone family",
        "3 families",
    )


PLURALS = re.compile(r" (fold run|event file|candidate|model|member|submission|backbone|worker|order of arrival)s\b")


def neighbours_in_texts() -> Iterator[tuple[str, ast.expr, ast.expr]]:
    """Yield a place in our code and two parts of an f-string that follow each other there."""
    for path, tree in modules_of("data_prep", "models", "search", "blend", "blendfold"):
        for text in ast.walk(tree):
            if isinstance(text, ast.JoinedStr):
                for before, after in itertools.pairwise(text.values):
                    yield f"{path}:{text.lineno}", before, after


def test_no_number_is_printed_with_a_noun_that_is_always_plural() -> None:
    """`count` knows one from many; a number of folds is at least two."""
    found = [
        f"{place}: {ast.unparse(value)}{after.value}"
        for place, value, after in neighbours_in_texts()
        if isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant) and PLURALS.match(str(after.value))
    ]
    assert found == []


@pytest.mark.parametrize(("rule", "titled"), [({"score_levels": [0, 1]}, True), ({"score_range": [0, 1]}, False)])
def test_a_title_promises_shares_only_where_there_are_levels(rule, titled, prepared_tiny, capsys) -> None:
    task = prepared_tiny.task.model_copy(update={"score_levels": None, "score_range": None, **rule})
    manifest = prepared_tiny.manifest.model_copy(update={"task": task})
    _show(replace(prepared_tiny, manifest=manifest))
    assert ("share of each score" in capsys.readouterr().out) == titled


def test_a_shell_reads_the_same_words_from_a_printed_command() -> None:
    words = ["runs/it's here", "$(reboot)", "plain"]
    options = {
        "--data": "a b",
        "--only": None,
        "--clip": True,
        "--force": False,
        "--fold": 0,
        "--exclude": ["x", "y z"],
    }
    printed = command("python -m blend fit", *words, options=options)
    given = ["--data", "a b", "--clip", "--fold", "0", "--exclude", "x", "--exclude", "y z"]
    assert shlex.split(printed) == ["python", "-m", "blend", "fit", *words, *given]
    assert command("ray up", "cluster.yaml") == "ray up cluster.yaml"


def test_no_command_is_printed_with_unquoted_words() -> None:
    """A value inside a command in an f-string must itself be made by `command`."""
    found = [
        f"{place}: {before.value}"
        for place, before, value in neighbours_in_texts()
        if isinstance(before, ast.Constant)
        and isinstance(value, ast.FormattedValue)
        and PRINTED_COMMANDS.search(str(before.value))
    ]
    assert found == []
