"""How texts and numbers appear on the page: nothing in them is markup, and nothing is invisible."""

import html
import json
import math
from typing import Any

from blendfold.report.page.blocks import Column, Value
from data_prep.credentials import mask_credentials
from data_prep.wording import visible

LONGEST = 240
"""Signs of a text that are shown at once; the rest unfolds."""
ABSENT = "–"
MINUS = "\u2212"


def plain(text: str) -> str:
    """Return a text with what does not print written out and credentials masked."""
    return visible(mask_credentials(text))


def figure_text(text: str) -> str:
    """Return a text for a figure, where Plotly would take `<b>` and `<a>` for markup."""
    return html.escape(plain(text), quote=False)


def script_json(content: Any) -> str:
    """Return JSON that can stand in a script element: no `<`, no line separators of JavaScript, no NaN."""
    text = json.dumps(_finite(content), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in ("<", ">", "&", "\u2028", "\u2029"):
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _finite(content: Any) -> Any:
    """Return plain values with null in place of what is not finite."""
    if isinstance(content, dict):
        return {str(key): _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content


def number(value: float, digits: int, *, signed: bool = False) -> str:
    """Return a number as people read it, such as `1,234`, `0.7421` or `−0.0031`."""
    text = f"{value:+,.{digits}f}" if signed else f"{value:,.{digits}f}"
    return text.replace("-", MINUS)


def shown(value: Value, column: Column) -> str:
    """Return what a cell shows."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if column.digits is None:
        return f"{value:.4g}".replace("-", MINUS) if isinstance(value, float) else str(value)
    if column.percent:
        return number(100 * value, column.digits, signed=column.signed) + " %"
    return number(value, column.digits, signed=column.signed)


def in_full(value: Value) -> str:
    """Return a number in full precision, as it stands in the files; empty for none."""
    if value is None or isinstance(value, str) or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return repr(float(value)) if isinstance(value, float) else str(int(value))
