"""What a long search says in a notebook: its latest lines, in one place that is written again and again."""

import importlib
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from data_prep.console import PLAIN_WIDTH, console

LATEST = 15
"""Lines that are shown."""
STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""Colors and other orders to a terminal."""


class LatestLines(io.TextIOBase):
    """A text file whose latest lines stand in one place of a notebook's output."""

    def __init__(self, shown: Any) -> None:
        self._shown = shown
        """The handle of what is displayed."""
        self._text = ""

    def write(self, text: str) -> int:
        """Show the latest lines with this text at the end."""
        self._text = "".join([*self._text.splitlines(keepends=True)[-LATEST:], STYLE.sub("", text)])
        lines = [line for line in self._text.splitlines() if line.strip()]
        self._shown.update({"text/plain": "\n".join(lines[-LATEST:])}, raw=True)
        return len(text)


@contextmanager
def in_one_place() -> Iterator[None]:
    """Let the console print into one place of a notebook's output while the block lasts; elsewhere change nothing."""
    if not console.is_jupyter:
        yield
        return
    display: Any = importlib.import_module("IPython.display").display
    before, width = console.file, console.width
    shown = display({"text/plain": "starting"}, raw=True, display_id=True)
    console.is_jupyter, console.file, console.width = False, LatestLines(shown), PLAIN_WIDTH  # type: ignore[assignment]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "IProgress not found")  # of tqdm, which some library imports
            yield
    finally:
        console.is_jupyter, console.file, console.width = True, before, width
