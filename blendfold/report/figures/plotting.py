"""What the figures share: hover texts, axes, and colors by name."""

import math
import textwrap
from collections.abc import Iterable
from typing import Any

from blendfold.report.page.page_text import figure_text

COLORS = ("@c1", "@c2", "@c3", "@c4", "@c5", "@c6", "@c7", "@c8")
"""In the order of use; told apart by people with any kind of color vision."""
SEQUENTIAL = [[0.0, "@low"], [1.0, "@high"]]
LINE_WIDTH = 58
"""Signs of a line in a hover text."""
END = 8
"""Signs at the end of a long name that stay: a candidate's id, which tells it apart."""
PLAIN = "%{text}<extra></extra>"
"""The hover template of traces that bring their own texts."""


def hover(*lines: str) -> str:
    """Return the lines of a hover text, long ones wrapped."""
    wrapped = [part for line in lines if line for part in (textwrap.wrap(line, LINE_WIDTH) or [""])]
    return "<br>".join(figure_text(part) for part in wrapped)


def short(text: str, most: int = 34) -> str:
    """Return a text that fits beside an axis."""
    return figure_text(text if len(text) <= most else f"{text[: most - END - 1]}…{text[-END:]}")


def axis(title: str = "", **settings: Any) -> dict[str, Any]:
    """Return an axis with a title."""
    return {"title": {"text": figure_text(title)}, **settings} if title else dict(settings)


def rows_height(n_rows: int, *, each: int = 26, least: int = 220, extra: int = 90) -> int:
    """Return the height of a figure with one line for each row."""
    return max(least, n_rows * each + extra)


def rounded(values: Iterable[float], digits: int = 5) -> list[float | None]:
    """Return the values as short as a figure needs them; None for those that are not finite."""
    return [round(float(value), digits) if math.isfinite(value) else None for value in values]
