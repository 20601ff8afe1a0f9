"""The shared face of the four command lines: one console, one way to fail."""

import sys
from typing import NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from data_prep.errors import InputError

EXIT_USER_FAULT = 2

console = Console()
error_console = Console(stderr=True)


def new_app(help_text: str) -> typer.Typer:
    """Return a typer application with the house settings; verbs are added with `@app.command()`."""
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        add_completion=False,
    )


def run_app(app: typer.Typer) -> NoReturn:
    """Run the command line and exit: 0 done, 2 the user's fault (message only), 1 ours (traceback)."""
    try:
        app()
    except InputError as error:
        error_console.print("[bold red]error:[/] " + escape(str(error)), highlight=False, soft_wrap=True)
        sys.exit(EXIT_USER_FAULT)
    sys.exit(0)
