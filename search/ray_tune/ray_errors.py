"""What an error of Ray says, in one sentence, and what caused it."""

import textwrap
from collections.abc import Iterator

from data_prep.credentials import mask_credentials

HEADLINE_LETTERS = 200
OUT_OF_MEMORY = ("OutOfMemoryError", "running low on memory")
"""Either of these in Ray's page of advice means that its memory monitor killed a worker."""


class NoRayError(RuntimeError):
    """Ray itself did not start, or was lost; another start may help. The text stands alone."""


def headline(error: BaseException) -> str:
    """Return what happened, in one sentence and without the traceback."""
    lines = [f"{type(cause).__name__}: {cause}" for cause in causes(error)]
    return headline_of("\n".join(reversed(lines)))  # the first cause first, as in a traceback


def headline_of(text: str) -> str:
    """Return the start of the last line of an error's text, which says what happened; empty if there is no line."""
    if any(mark in text for mark in OUT_OF_MEMORY):
        return "Ray's memory monitor killed a worker because the machine ran short of memory"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return textwrap.shorten(mask_credentials(lines[-1]), HEADLINE_LETTERS, placeholder=" ...") if lines else ""


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, then its causes back to the first."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
