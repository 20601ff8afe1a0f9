"""Sealed records: files of settings and results that carry a checksum of their own content.

A seal is one more key, `seal`, with the sha256 of all other content. It says nothing about spelling (spaces, order of
keys), and a record without one was written by an older version, or edited on purpose: it is read unchecked.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from data_prep.errors import InputError
from data_prep.store.files import open_file, write_json

SEAL = "seal"
MALFORMED = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, yaml.YAMLError)
"""What parsing and decoding raise for content that no writer of ours would write."""

Record = TypeVar("Record")


def seal(content: Mapping[str, Any], name: str = "") -> dict[str, Any]:
    """Return content with its seal, which comes first; with `name` it holds only for the record of that name."""
    text = json.dumps([name, content], sort_keys=True)
    return {SEAL: hashlib.sha256(text.encode()).hexdigest(), **content}


def unseal(content: Any, name: str = "") -> dict[str, Any]:
    """Return content without its seal.

    Raises:
        TypeError: not a mapping.
        ValueError: its seal is not that of its content or name.
    """
    if not isinstance(content, dict):
        raise TypeError(f"it holds {type(content).__name__}, not names with values")
    if SEAL not in content:
        return content
    opened = {key: value for key, value in content.items() if key != SEAL}
    if seal(opened, name)[SEAL] != content[SEAL]:
        raise ValueError("its content does not match its seal: it was changed after it was written")
    return opened


def write_record(content: Mapping[str, Any], path: str | Path, *, name: str = "") -> None:
    """Write a sealed JSON file, whole or not at all."""
    write_json(seal(content, name), path)


def read_record(path: str | Path, decode: Callable[[dict[str, Any]], Record], *, remedy: str, name: str = "") -> Record:
    """Read a JSON record as `open_record` does; InputError if there is no such file, too."""
    try:
        with open_file(path) as file:
            content = file.read()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; {remedy}") from error
    return open_record(content, path, decode, remedy=remedy, name=name)


def open_record(
    content: bytes,
    path: str | Path,
    decode: Callable[[dict[str, Any]], Record],
    *,
    remedy: str,
    name: str = "",
    parse: Callable[[bytes], Any] = json.loads,
) -> Record:
    """Parse the content of a record, check its seal, and decode it; `remedy` says what to do about a damaged one.

    Raises:
        InputError: it is not what was written; says where, why and the remedy.
    """
    try:
        return decode(unseal(parse(content), name))
    except MALFORMED as error:
        raise InputError(f"{path}: is not what this version of blendfold writes ({_why(error)}); {remedy}") from error


def _why(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return ": ".join([".".join(map(str, first["loc"])), first["msg"]]).removeprefix(": ")
    return f"no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
