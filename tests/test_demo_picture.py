"""The picture of the demo in the README shows what a terminal shows."""

import io
import re
import runpy
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console
from rich.live import Live

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def draw_demo() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "draw_demo.py"))


def test_only_the_last_state_of_a_live_block_stays(draw_demo: dict[str, Any]) -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=80, highlight=False)
    console.print("before")
    with Live("0 of 3\nnothing yet", console=console, auto_refresh=False) as block:
        for done in (1, 2, 3):
            block.update(f"{done} of 3\nlast: {done}", refresh=True)
            console.print(f"line {done}")
    console.print("after")
    shown = draw_demo["screen"](written.getvalue().replace("\n", "\r\n"))
    assert shown == ["before", "line 1", "line 2", "line 3", "3 of 3", "last: 3", "after"]


def test_a_command_sees_a_terminal(draw_demo: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    assert draw_demo["screen"](draw_demo["record"](["sh", "-c", "test -t 1 && tput cols"])) == ["110"]
    capfd.readouterr()


def test_colors_and_long_lines_are_drawn_without_fonts_from_elsewhere(draw_demo: dict[str, Any]) -> None:
    drawing = draw_demo["draw"](["\x1b[31mred\x1b[0m", "word " * 40])
    assert {"red", *re.findall("word", drawing)} == {"red", "word"}
    texts = [
        "".join(each.itertext()) for each in ElementTree.fromstring(drawing).iter("{http://www.w3.org/2000/svg}text")
    ]
    assert sum(text.count("word") for text in texts) == 40
    assert not re.findall(r"url\(\W*http", drawing)
