"""What a long search says in a notebook: its latest lines, in one place that is written again and again."""

import importlib
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from data_prep.console import PLAIN_WIDTH, console

LATEST = 20
"""Lines that are shown."""
ORDERS = re.compile(r"(\x1b\[1A|\r|\n)")
"""What a live display writes to take back what it has written: one line up, back to the line's begin; it always erases
the line where it then is."""
STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""Colors and other orders to a terminal."""


class LatestLines(io.TextIOBase):
    """A text file whose latest lines stand in one place of a notebook's output."""

    def __init__(self, shown: Any) -> None:
        self._shown = shown
        """The handle of what is displayed."""
        self._lines = [""]

    def write(self, text: str) -> int:
        """Show the latest lines with this text at the end."""
        for part in ORDERS.split(text):
            if part == "\n":
                self._lines = [*self._lines[-LATEST:], ""]
            elif part == "\x1b[1A":
                self._lines = [*self._lines[:-2], ""]
            elif part == "\r":
                self._lines[-1] = ""
            else:
                self._lines[-1] += STYLE.sub("", part)
        self._shown.update({"text/plain": "\n".join(line for line in self._lines if line.strip())}, raw=True)
        return len(text)


@contextmanager
def without_wish_for_widgets() -> Iterator[None]:
    """Keep tqdm, which some library imports in the block, from asking a notebook for widgets."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")
        yield


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
        with without_wish_for_widgets():
            yield
    finally:
        console.is_jupyter, console.file, console.width = True, before, width
