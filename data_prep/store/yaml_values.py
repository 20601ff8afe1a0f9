"""`parse_yaml`: the value that YAML or JSON text spells, by the core schema of YAML 1.2."""

import re
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

import yaml

from data_prep.errors import InputError, quote

DEEPEST = 50
"""Levels of nesting that a document may have, aliases followed."""
MOST_VALUES = 5_000_000
"""Values that it may have, aliases followed."""
MOST_DIGITS = 18
"""Digits of a whole number, which fits into 64 bits then."""
PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MERGE_KEY = "<<"
Event = Any
"""An event of PyYAML; its stubs lack the attributes."""


def parse_yaml(text: str, *, where: str) -> Any:
    """Return the value that the text spells; None if it is empty.

    Only what YAML 1.2 calls a number, truth or null is one: `1:30`, `on` and `2024-01-31` are text, `010` is ten.
    Of YAML 1.1, `<<` merges mappings. Tags (`!!int`) are not read.

    Raises:
        InputError: not one YAML document, a key or anchor that stands twice (every one), too deep, too large.
    """
    try:
        events = iter(yaml.parse(text, Loader=PARSER))
        next(events)
        builder = _Builder(events)
        content = builder.document()
    except yaml.YAMLError as error:
        raise InputError(f"{where}: not a YAML file: {error}") from error
    except _FaultyValueError as error:
        raise InputError(f"{where}: {error}") from error
    if builder.repeated:
        raise InputError(*(f"{where}: {fault}" for fault in builder.repeated))
    return content


class _FaultyValueError(ValueError):
    """What no file of settings needs."""

    def __init__(self, event: Event, fault: str) -> None:
        super().__init__(f"line {event.start_mark.line + 1}: {fault}")


class _Part(NamedTuple):
    """A value with its extent."""

    value: Any
    size: int = 1
    """Values in it, itself included."""
    levels: int = 1


class _Builder:
    """Builds a value from the events of a parser."""

    def __init__(self, events: Iterator[Event]) -> None:
        self._events = events
        self._anchors: dict[str, _Part | None] = {}
        """None: what it names has not ended."""
        self.repeated: list[str] = []

    def document(self) -> Any:
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        content = self._build(next(self._events), 1).value
        next(self._events)
        if not isinstance(event := next(self._events), yaml.StreamEndEvent):
            raise _FaultyValueError(event, "a second document begins; a file holds one")
        return content

    def _build(self, event: Event, level: int) -> _Part:
        part = self._named(event) if isinstance(event, yaml.AliasEvent) else self._new(event, level)
        if level + part.levels > DEEPEST + 1 or part.size > MOST_VALUES:
            raise _FaultyValueError(event, f"more than {DEEPEST} levels of nesting, or {MOST_VALUES:,} values")
        return part

    def _named(self, event: Event) -> _Part:
        part = self._anchors.get(event.anchor)
        if part is None:
            raise _FaultyValueError(event, f"*{event.anchor} needs a value that ends before it, named &{event.anchor}")
        return part

    def _new(self, event: Event, level: int) -> _Part:
        if level > DEEPEST:
            raise _FaultyValueError(event, f"more than {DEEPEST} levels of nesting")
        if event.tag not in (None, "!"):
            raise _FaultyValueError(event, f"the tag {event.tag!r} is not read; remove it, or quote a text")
        if event.anchor in self._anchors:
            raise _FaultyValueError(event, f"&{event.anchor} already names another value")
        if event.anchor:
            self._anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            part = _Part(_plain(event) if event.implicit[0] else event.value)
        elif isinstance(event, yaml.SequenceStartEvent):
            part = self._sequence(level)
        else:
            part = self._mapping(level)
        if event.anchor:
            self._anchors[event.anchor] = part
        return part

    def _sequence(self, level: int) -> _Part:
        parts = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            parts.append(self._build(event, level + 1))
        return _composite([part.value for part in parts], parts)

    def _mapping(self, level: int) -> _Part:
        own: dict[Hashable, Any] = {}
        merged: dict[Hashable, Any] = {}
        lines: dict[Hashable, int] = {}
        parts: list[_Part] = []
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key, value = self._build(event, level + 1), self._build(next(self._events), level + 1)
            parts += [key, value]
            line = event.start_mark.line + 1
            if not isinstance(key.value, Hashable):
                raise _FaultyValueError(event, "a key must be a text or a number")
            if key.value in lines:
                both = f"line {line}" if lines[key.value] == line else f"lines {lines[key.value]} and {line}"
                self.repeated.append(f"{both}: the key {quote(str(key.value))} stands twice; keep one")
            lines[key.value] = line
            if key.value == MERGE_KEY and event.implicit[0]:
                merged |= _merged(value.value, event)
            else:
                own[key.value] = value.value
        return _composite({**merged, **own}, parts)


def _composite(value: Any, parts: list[_Part]) -> _Part:
    size, levels = sum(part.size for part in parts), max((part.levels for part in parts), default=0)
    return _Part(value, 1 + size, 1 + levels)


def _merged(value: Any, event: Event) -> dict[Hashable, Any]:
    """Return the content of a mapping, or of a list of them, of which the first that has a key gives its value."""
    mappings = value if isinstance(value, list) else [value]
    if not all(isinstance(mapping, dict) for mapping in mappings):
        raise _FaultyValueError(event, f"{MERGE_KEY} takes mappings, such as `{MERGE_KEY}: *shared`")
    return {key: content for mapping in reversed(mappings) for key, content in mapping.items()}


def _plain(event: Event) -> Any:
    """Return what a text without quotes means."""
    text = event.value
    read = next((read for pattern, read in PLAIN.items() if pattern.fullmatch(text)), str)
    try:
        return read(text)
    except ValueError as error:
        raise _FaultyValueError(event, str(error)) from error


def _whole_number(text: str) -> int:
    base = BASES.get(text[:2], 10)
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a whole number has at most {MOST_DIGITS} digits, found {quote(text)}")
    return int(text, base)


BASES = {"0o": 8, "0x": 16}
PLAIN: dict[re.Pattern[str], Callable[[str], Any]] = {
    re.compile(r"~|null|Null|NULL|"): lambda _: None,
    re.compile(r"true|True|TRUE"): lambda _: True,
    re.compile(r"false|False|FALSE"): lambda _: False,
    re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"): _whole_number,
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"): float,
    re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"): lambda text: float(text.replace(".", "")),
}
"""The core schema of YAML 1.2, first match first; a text that fits none of these is text."""
