"""Draws `docs/demo.svg`: what a terminal shows when `make demo` has ended.

    make clean-demo && python docs/draw_demo.py

The command runs in a terminal of its own, so that it prints colors and redraws its progress; what stands on the
screen at the end is drawn.
"""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
COLUMNS, LINES = 110, 60
CONTROL = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|([\r\n])")
FONTS = 'ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace'


def record(command: Sequence[str]) -> str:
    """Return everything that a command writes to a terminal, paths relative to the repository.

    Raises:
        subprocess.CalledProcessError: the command fails.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    given = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    environment = {**given, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    with subprocess.Popen(command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        written = bytearray()
        while chunk := _read(ours):
            written += chunk
            sys.stdout.buffer.write(chunk)
            sys.stdout.flush()
    os.close(ours)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return written.decode().replace(f"{ROOT}/", "")


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65_536)
    except OSError:  # Linux says so when the last writer has closed the terminal
        return b""


def screen(written: str) -> list[str]:
    """Return the lines that stand on the screen at the end, with their colors, after what was redrawn is gone."""
    lines, row, end = [""], 0, 0
    for match in CONTROL.finditer(written):
        lines[row] += written[end : match.start()]
        end = match.end()
        argument, kind, moved = match.groups()
        if moved == "\n":
            row += 1
            lines.extend([""] * (row + 1 - len(lines)))
        elif kind == "A":
            row = max(row - int(argument or 1), 0)
        elif kind == "K":
            lines[row] = ""
        elif kind == "m":
            lines[row] += match.group()
    lines[row] += written[end:]
    return lines if lines[-1] else lines[:-1]


def draw(lines: Sequence[str]) -> str:
    """Return the lines as SVG, dark on light pages and on dark ones, in the reader's own font."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in lines:
        console.print(Text.from_ansi(line))
    drawn = console.export_svg(title="make demo", unique_id="demo")
    without_downloads = re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL)
    return re.sub(r"font-family: (?:Fira Code|arial)[^;]*", f"font-family: {FONTS}", without_downloads)


if __name__ == "__main__":
    (ROOT / "docs" / "demo.svg").write_text(draw(screen(record(["make", "demo"]))), encoding="utf-8")
