"""The search space: domains and conditions that become a `Candidate`."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from data_prep.errors import InputError
from data_prep.store.yaml_documents import check_document
from models.candidate import Candidate

Scalar = str | int | float | bool | None

CORNER_LIMIT = 4096
"""Combinations of a space that are checked one by one before anything runs; larger spaces are checked by draws."""


class Trial(Protocol):
    """The part of an Optuna trial that a domain asks for a value."""

    def suggest_categorical(self, name: str, choices: list[Scalar]) -> Any: ...  # noqa: D102
    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float: ...  # noqa: D102
    def suggest_int(self, name: str, low: int, high: int) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    values: tuple[Scalar, ...]

    def suggest(self, trial: Trial, name: str) -> Scalar:
        """Return the trial's value; a single choice is not asked for."""
        if len(self.values) == 1:
            return self.values[0]
        value: Scalar = trial.suggest_categorical(name, list(self.values))
        return value

    def corners(self) -> tuple[Scalar, ...]:
        """Return the values to check: all of them."""
        return self.values

    def grid(self) -> tuple[Scalar, ...] | None:
        """Return every value."""
        return self.values


@dataclass(frozen=True)
class Real:
    """A real number in [low, high], uniform or uniform in its logarithm."""

    low: float
    high: float
    log: bool

    def suggest(self, trial: Trial, name: str) -> float:
        """Return the trial's value."""
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def corners(self) -> tuple[Scalar, ...]:
        """Return the values to check: both ends."""
        return (self.low, self.high)

    def grid(self) -> tuple[Scalar, ...] | None:
        """Return None: there is no list of all real numbers."""
        return None


@dataclass(frozen=True)
class Whole:
    """A whole number in [low, high]."""

    low: int
    high: int

    def suggest(self, trial: Trial, name: str) -> int:
        """Return the trial's value."""
        return trial.suggest_int(name, self.low, self.high)

    def corners(self) -> tuple[Scalar, ...]:
        """Return the values to check: both ends."""
        return (self.low, self.high)

    def grid(self) -> tuple[Scalar, ...] | None:
        """Return every value."""
        return tuple(range(self.low, self.high + 1))


Domain = Choice | Real | Whole


@dataclass(frozen=True)
class Dimension:
    """One field of `Candidate` with its domain and the condition under which it is searched."""

    name: str
    domain: Domain
    when: Mapping[str, tuple[Scalar, ...]]
    """Field -> values that switch this dimension on; all must hold. A dimension that is off keeps the default."""

    def is_active(self, settings: Mapping[str, Scalar]) -> bool:
        """Tell whether the settings chosen so far switch this dimension on."""
        return all(field in settings and settings[field] in values for field, values in self.when.items())


@dataclass(frozen=True)
class Space:
    """Dimensions, each after those that its condition names."""

    dimensions: tuple[Dimension, ...]

    def settings(self, choose: Callable[[Dimension], Scalar]) -> dict[str, Scalar]:
        """Return the settings of one candidate; `choose` gives the value of an active dimension."""
        settings: dict[str, Scalar] = {}
        for dimension in self.dimensions:
            if dimension.is_active(settings):
                settings[dimension.name] = choose(dimension)
        return settings

    def combinations(self, values: Callable[[Domain], tuple[Scalar, ...]]) -> Iterator[dict[str, Scalar]]:
        """Yield every combination of the given values of each domain that the conditions allow."""
        return self._extend({}, 0, values)

    def _extend(
        self, settings: dict[str, Scalar], position: int, values: Callable[[Domain], tuple[Scalar, ...]]
    ) -> Iterator[dict[str, Scalar]]:
        if position == len(self.dimensions):
            yield dict(settings)
            return
        dimension = self.dimensions[position]
        if not dimension.is_active(settings):
            yield from self._extend(settings, position + 1, values)
            return
        for value in values(dimension.domain):
            yield from self._extend({**settings, dimension.name: value}, position + 1, values)

    def endless(self) -> list[str]:
        """Return the dimensions that a grid cannot list."""
        return [dimension.name for dimension in self.dimensions if dimension.domain.grid() is None]

    def corners(self) -> list[dict[str, Scalar]]:
        """Return settings to check: all combinations of choices and ends, or as many random ones of a large space."""
        found = list(itertools.islice(self.combinations(lambda domain: domain.corners()), CORNER_LIMIT + 1))
        if len(found) <= CORNER_LIMIT:
            return found
        draw = np.random.default_rng(0)
        return [
            self.settings(lambda d: d.domain.corners()[int(draw.integers(len(d.domain.corners())))])
            for _ in range(CORNER_LIMIT)
        ]


def read_space(entries: Mapping[str, Any], *, where: str = "space") -> Space:
    """Turn the `space:` of a study into a checked `Space`.

    Args:
        entries: field of `Candidate` -> value, list of choices, or one of `{uniform: [a, b]}`,
            `{loguniform: [a, b]}`, `{int: [a, b]}`, `{choice: [...]}`, each with an optional `when: {field: value}`.
        where: what holds the entries, for messages.

    Raises:
        InputError: every mistake at once: unknown fields, bad domains and conditions, values `Candidate` refuses.
    """
    faults: list[str] = []
    dimensions = [d for name, entry in entries.items() if (d := _read_dimension(name, entry, faults)) is not None]
    if not faults:
        dimensions = _in_order(dimensions, faults)
    space = Space(tuple(dimensions))
    if not faults:
        faults.extend(_refused(space))
    if faults:
        raise InputError(*(f"{where}.{fault}" for fault in faults))
    return space


def _read_dimension(name: str, entry: Any, faults: list[str]) -> Dimension | None:
    if name not in Candidate.model_fields:
        known = ", ".join(sorted(Candidate.model_fields))
        faults.append(f"{name}: unknown field of a candidate; known fields: {known}")
        return None
    when: dict[str, tuple[Scalar, ...]] = {}
    if isinstance(entry, dict):
        rest = {key: value for key, value in entry.items() if key != "when"}
        when_faults = _read_when(entry.get("when", {}), when)
        faults.extend(f"{name}.when: {fault}" for fault in when_faults)
        if len(rest) != 1 or next(iter(rest)) not in DOMAINS:
            faults.append(
                f"{name}: needs exactly one of {', '.join(DOMAINS)}, found {sorted(map(str, rest)) or 'none'}"
            )
            return None
        kind, argument = next(iter(rest.items()))
    else:
        kind, argument = "choice", entry if isinstance(entry, list) else [entry]
    try:
        return Dimension(name, DOMAINS[kind](argument), when)
    except ValueError as error:
        faults.append(f"{name}: {error} (found {argument!r})")
        return None


def _read_when(entry: Any, when: dict[str, tuple[Scalar, ...]]) -> list[str]:
    if not isinstance(entry, dict):
        return [f"must be `field: value`, found {entry!r}"]
    for field, values in entry.items():
        when[str(field)] = tuple(values) if isinstance(values, list) else (values,)
    return []


def _read_choice(argument: Any) -> Choice:
    values = argument if isinstance(argument, list) else [argument]
    if not values or not all(value is None or isinstance(value, str | int | float | bool) for value in values):
        raise ValueError("choices must be a non-empty list of plain values")
    if any(value in values[:position] for position, value in enumerate(values)):
        raise ValueError("choices must differ")
    return Choice(tuple(values))


def _read_ends(argument: Any) -> tuple[float, float]:
    if not (isinstance(argument, list) and len(argument) == 2 and all(_is_number(end) for end in argument)):
        raise ValueError("needs [least, greatest], two numbers (write 1.0e-5, not 1e-5, in YAML)")
    low, high = argument
    if not low < high:
        raise ValueError("the first number must be less than the second")
    return low, high


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _read_uniform(argument: Any) -> Real:
    low, high = _read_ends(argument)
    return Real(float(low), float(high), log=False)


def _read_loguniform(argument: Any) -> Real:
    low, high = _read_ends(argument)
    if not low > 0:
        raise ValueError("a logarithm needs numbers greater than 0")
    return Real(float(low), float(high), log=True)


def _read_int(argument: Any) -> Whole:
    low, high = _read_ends(argument)
    if not (isinstance(low, int) and isinstance(high, int)):
        raise ValueError("needs two whole numbers")  # noqa: TRY004 - a fault of the file, not of a caller
    return Whole(low, high)


def _in_order(dimensions: list[Dimension], faults: list[str]) -> list[Dimension]:
    """Sort dimensions after those they depend on; report conditions that can never hold."""
    by_name = {dimension.name: dimension for dimension in dimensions}
    for dimension in dimensions:
        for field, values in dimension.when.items():
            faults.extend(f"{dimension.name}.when: {fault}" for fault in _condition_faults(field, values, by_name))
    ordered: list[Dimension] = []
    waiting = [] if faults else list(dimensions)
    while waiting:
        placed = {dimension.name for dimension in ordered}
        ready = next((dimension for dimension in waiting if set(dimension.when) <= placed), None)
        if ready is None:
            faults.append(f"{waiting[0].name}.when: conditions run in a circle: {', '.join(d.name for d in waiting)}")
            break
        waiting.remove(ready)
        ordered.append(ready)
    return ordered


def _condition_faults(field: str, values: tuple[Scalar, ...], by_name: Mapping[str, Dimension]) -> list[str]:
    if field not in by_name:
        return [f"{field!r} is not in the space; known: {', '.join(by_name)}"]
    reachable = by_name[field].domain.grid()
    if reachable is None:
        return [f"{field!r} is a range; a condition needs a field with choices"]
    return [
        f"{field} never is {value!r}; its values: {', '.join(map(str, reachable))}"
        for value in values
        if value not in reachable
    ]


def _refused(space: Space) -> list[str]:
    """Return what `Candidate` says against single values, else against combinations; each fault once."""
    singles = [
        f"{dimension.name}: {fault}"
        for dimension in space.dimensions
        for value in dimension.domain.corners()
        for field, fault in _faults_of({dimension.name: value})
        if field is not None
    ]
    if singles:
        return list(dict.fromkeys(singles))
    combined: dict[str, str] = {}
    for settings in space.corners():
        example = ", ".join(f"{name}={value}" for name, value in settings.items())
        for _, fault in _faults_of(settings):
            combined.setdefault(fault, example)
    return [f"combination: {fault}, as with {example}" for fault, example in combined.items()]


def _faults_of(settings: dict[str, Scalar]) -> list[tuple[str | None, str]]:
    """Return what `Candidate` refuses: the field, None where a combination is at fault, and why."""
    try:
        Candidate.model_validate(settings)
    except ValidationError as error:
        return [_told(item) for item in error.errors()]
    return []


def _told(item: ErrorDetails) -> tuple[str | None, str]:
    message = item["msg"].removeprefix("Value error, ")
    return (str(item["loc"][0]), f"{message} (found {item['input']!r})") if item["loc"] else (None, message)


def read_candidates(
    entries: Mapping[str, Mapping[str, Any] | None], *, where: str = "candidates", twins: bool = False
) -> dict[str, Candidate]:
    """Turn the `candidates:` of a study into checked candidates by name.

    Args:
        entries: settings by name.
        where: what holds the entries, for messages.
        twins: two names may stand for one model.

    Raises:
        InputError: every mistake at once, without `twins` two names for one model among them.
    """
    faults: list[str] = []
    found: dict[str, Candidate] = {}
    for name, settings in entries.items():
        try:
            candidate = check_document(dict(settings or {}), Candidate, where=f"{where}.{name}")
        except InputError as error:
            faults.extend(error.faults)
            continue
        twin = next((other for other, known in found.items() if known.id == candidate.id), None)
        if twin is not None and not twins:
            faults.append(f"{where}.{name}: the same model as {where}.{twin}; remove one of them or change its seed")
        found[name] = candidate
    if faults:
        raise InputError(*faults)
    return found


DOMAINS: dict[str, Callable[[Any], Domain]] = {
    "choice": _read_choice,
    "uniform": _read_uniform,
    "loguniform": _read_loguniform,
    "int": _read_int,
}
