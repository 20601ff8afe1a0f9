"""What the four command lines share: the console, exit codes, and how durations are printed."""

import math
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from data_prep.credentials import mask_credentials
from data_prep.errors import STORAGE_FAULTS, InputError, StoreError

EXIT_USER_FAULT = 2
PLAIN_WIDTH = 120
"""Width of output to a file, a pipe or the log of a job, which have none of their own."""

console = Console()
error_console = Console(stderr=True)


def duration(seconds: float) -> str:
    """Return seconds as text, such as `1h05m` or `40s`."""
    if math.isnan(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def print_line(text: str) -> None:
    """Print a line as it is: no colors, no markup, no wrapping; credentials inside URIs are masked."""
    console.print(mask_credentials(text), highlight=False, markup=False, soft_wrap=True)


def new_table(title: str, *columns: str, n_text: int = 1, **options: Any) -> Table:
    """Return a table whose first `n_text` columns hold text and the others numbers, which are aligned at the right."""
    table = Table(title=title, **options)
    for place, name in enumerate(columns):
        table.add_column(name, justify="left" if place < n_text else "right")
    return table


def new_app(help_text: str) -> typer.Typer:
    """Return a typer application with our settings; verbs are added with `@app.command()`."""
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        add_completion=False,
    )


def run_app(app: typer.Typer, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 2 the user's fault (message only), 1 ours (traceback)."""
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PLAIN_WIDTH
    try:
        app(arguments)
    except (InputError, StoreError) as error:
        _exit_with(str(error))
    except OSError as error:
        if error.errno not in STORAGE_FAULTS:
            raise
        _exit_with(
            f"{error}; check free space and permissions, then run the same command again; no file is half-written"
        )
    sys.exit(0)


def _exit_with(message: str) -> NoReturn:
    error_console.print("[bold red]error:[/] " + escape(message), highlight=False, soft_wrap=True)
    sys.exit(EXIT_USER_FAULT)
