"""What the command lines share: the only way to the terminal, exit codes, and how durations are printed."""

import io
import math
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NoReturn

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from data_prep.credentials import mask_credentials
from data_prep.errors import STORAGE_FAULTS, InputError, StoreError, quote
from data_prep.extras import how_to_install
from data_prep.wording import visible

EXIT_USER_FAULT = 2
PLAIN_WIDTH = 120
"""Width of output to a file, a pipe or the log of a job, which have none of their own."""


class EscapingConsole(Console):
    """Reads no markup or emoji codes in a text, writes out what does not print, and masks credentials inside URIs."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text for the layout, with the width that it will have."""
        return super().render_str(visible(mask_credentials(text)), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield what is written: everything that is printed passes here, also what was a `Text` before."""
        for segment in super().render(renderable, options):
            is_fine = segment.control or segment.text.isprintable()
            yield segment if is_fine else segment._replace(text=visible(segment.text))


console = EscapingConsole()
error_console = EscapingConsole(stderr=True)


def duration(seconds: float) -> str:
    """Return seconds as text, such as `1h05m` or `40s`."""
    if math.isnan(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def duration_range(least: float, most: float | None) -> str:
    """Return an estimate of seconds as text, such as `40s to 1h05m`; `most` is None where only the least is known."""
    if most is None:
        return f"at least {duration(least)}"
    low, high = duration(least), duration(most)
    return f"about {low}" if low == high else f"{low} to {high}"


def print_line(text: str) -> None:
    """Print a line as it is, without wrapping."""
    console.print(text, soft_wrap=True)


def print_as_is(text: str) -> None:
    """Print a text for another program: nothing is wrapped, styled or cut; a terminal gets no control characters."""
    console.file.write((visible(text) if console.is_terminal else text) + "\n")


@contextmanager
def activity(text: str) -> Iterator[Callable[[str], None]]:
    """Show on a terminal what takes long, while the block lasts; the function that it yields changes the text."""
    if error_console.is_jupyter:  # where rich would need widgets
        yield lambda _: None
        return
    with error_console.status(error_console.render_str(text)) as status:
        yield lambda text: status.update(error_console.render_str(text))


def new_table(title: str, *columns: str, n_text: int = 1, **options: Any) -> Table:
    """Return a table whose first `n_text` columns hold text and the others numbers, which are aligned at the right."""
    table = Table(title=title, **options)
    for place, name in enumerate(columns):
        table.add_column(name, justify="left" if place < n_text else "right")
    return table


def new_app(help_text: str, **options: Any) -> typer.Typer:
    """Return a typer application with our settings and `options`; verbs are added with `@app.command()`."""
    ours = {"no_args_is_help": True, "rich_markup_mode": "markdown", "pretty_exceptions_enable": False}
    return typer.Typer(help=help_text, **{"add_completion": False, **ours, **options})


def run_app(app: typer.Typer, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 2 the user's fault (message only), 1 ours (traceback)."""
    _prepare_output()
    given = sys.argv[1:] if arguments is None else arguments
    try:
        sys.exit(app([_expand(argument) for argument in given], standalone_mode=False))
    except (InputError, StoreError) as error:
        _exit_with(str(error))
    except OSError as error:
        if error.errno not in STORAGE_FAULTS:
            raise
        _exit_with(
            f"{error}; check the path, free space and permissions, then run the same command again; "
            "no file is half-written"
        )
    except UnicodeEncodeError as error:
        _exit_with(
            f"the name {quote(str(error.object))} is not UTF-8 text; rename it, or, as this terminal's locale uses "
            f"{sys.getfilesystemencoding()}, set LC_ALL=C.UTF-8, then run the same command again"
        )
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if sentence := how_to_install(package):
            _exit_with(sentence)
        if package not in ("data_prep", "models", "search", "blend") or hasattr(sys.modules.get(package), "__path__"):
            raise
        _exit_with(
            f"{getattr(sys.modules.get(package), '__file__', package)} hides blendfold's own package `{package}`: run "
            "the same verb of the command `blendfold`, which works beside it, or rename the file"
        )
    except Exception as error:
        if not hasattr(error, "format_message"):  # typer's errors about the command line have no public class
            raise
        _exit_with(_usage_fault(error))
    finally:
        sys.excepthook = _print_traceback  # typer sets its own


def _prepare_output() -> None:
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PLAIN_WIDTH
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal or file that cannot show a sign gets it written out
            stream.reconfigure(errors="backslashreplace")
    warnings.showwarning = _print_warning


def _expand(argument: str) -> str:
    """Return an argument, or `--option=argument`, with its home folder spelled out."""
    option, mark, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    home_of = os.path.expanduser  # that of pathlib fails where there is no home
    return option + mark + home_of(value) if value.startswith("~/") else argument


def _usage_fault(error: Any) -> str:
    message = error.format_message()
    return f"{message.rstrip('.')}; see `{error.ctx.command_path} --help`" if message and error.ctx else message


def _print_warning(message: Warning | str, *_: object, **__: object) -> None:
    error_console.print(f"warning: {message}", soft_wrap=True)


def _print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    error_console.print("".join(traceback.format_exception(kind, error, trace)), end="", soft_wrap=True)


def _exit_with(message: str) -> NoReturn:
    if message:  # none where the help was shown
        error_console.print(
            Text.assemble(("error:", "bold red"), " ", error_console.render_str(message)), soft_wrap=True
        )
    sys.exit(EXIT_USER_FAULT)
