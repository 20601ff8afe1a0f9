"""Wording of what people read: counts with their noun, commands to paste, control characters made visible."""

import shlex
from collections.abc import Mapping


def visible(text: str) -> str:
    r"""Return `text` with what does not print written out, such as `\x1b` for a terminal's escape; lines stay lines."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in "\n\t" else _written_out(sign) for sign in text)


def _written_out(sign: str) -> str:
    return sign.encode("unicode_escape").decode()


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, such as `1 candidate` or `2,000 candidates`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def command(program: str, *words: object, options: Mapping[str, object] | None = None) -> str:
    """Return a command to paste: a program with its arguments, quoted for a shell.

    An option whose value is None or False is left out; True stands for a flag, a list repeats its option.
    """
    given = [str(word) for word in words]
    for option, value in (options or {}).items():
        if value is True:
            given.append(option)
        elif value is not None and value is not False:
            values = value if isinstance(value, list) else [value]
            given += [part for each in values for part in (option, str(each))]
    return " ".join([program, *map(shlex.quote, given)])
