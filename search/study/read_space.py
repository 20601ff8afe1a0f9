"""Reads the `space:` of a study into a checked `Space`."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from data_prep.errors import InputError
from models.candidate import Candidate
from search.study.space import Choice, Dimension, Domain, Real, Scalar, Space, Whole


def read_space(entries: Mapping[str, Any], *, where: str = "space") -> Space:
    """Turn the `space:` of a study into a checked `Space`; messages call the entries `where`.

    An entry is a value, a list of choices, or one of `{uniform: [a, b]}`, `{loguniform: [a, b]}`, `{int: [a, b]}`,
    `{choice: [...]}`, each with an optional `when: {field: value}`.

    Raises:
        InputError: every mistake at once: unknown fields, bad domains and conditions, values `Candidate` refuses.
    """
    faults: list[str] = []
    dimensions = [d for name, entry in entries.items() if (d := _read_dimension(name, entry, faults)) is not None]
    if not faults:
        dimensions = _in_order(dimensions, faults)
    space = Space(tuple(dimensions))
    if not faults:
        faults.extend(_refused_values(space))
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
        conditions = entry.get("when", {})
        if isinstance(conditions, dict):
            when = {str(key): tuple(v) if isinstance(v, list) else (v,) for key, v in conditions.items()}
        else:
            faults.append(f"{name}.when: must be `field: value`, found {conditions!r}")
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


def _read_choice(argument: Any) -> Choice:
    values = argument if isinstance(argument, list) else [argument]
    if not values or not all(value is None or isinstance(value, str | int | float | bool) for value in values):
        raise ValueError("choices must be a non-empty list of plain values")
    if any(value in values[:position] for position, value in enumerate(values)):
        raise ValueError("choices must differ")
    return Choice(tuple(values))


def _read_ends(argument: Any) -> tuple[float, float]:
    if not (isinstance(argument, list) and len(argument) == 2 and all(_is_number(end) for end in argument)):
        raise ValueError("needs [least, greatest], two numbers")
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
        f"{field} is never {value!r}; its values: {', '.join(map(str, reachable))}"
        for value in values
        if value not in reachable
    ]


def _refused_values(space: Space) -> list[str]:
    """Return the single values that `Candidate` refuses, else the combinations; each fault once."""
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
    """Return what `Candidate` refuses: the field (None for a combination), and why."""
    try:
        Candidate.model_validate(settings)
    except ValidationError as error:
        details = [(item["loc"], item["msg"].removeprefix("Value error, "), item["input"]) for item in error.errors()]
        return [(str(loc[0]), f"{text} (found {found!r})") if loc else (None, text) for loc, text, found in details]
    return []


DOMAINS: dict[str, Callable[[Any], Domain]] = {
    "choice": _read_choice,
    "uniform": _read_uniform,
    "loguniform": _read_loguniform,
    "int": _read_int,
}
