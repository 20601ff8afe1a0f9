"""The search space: domains and conditions that become a `Candidate`."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Scalar = str | int | float | bool | None

CORNER_LIMIT = 4096
"""Combinations of a space that are checked one by one before anything runs; a larger space is checked by drawing."""
GRID_LIMIT = 100_000
"""A wider range of whole numbers is not listed."""


class Trial(Protocol):
    """The part of an Optuna trial that gives a domain its value."""

    def suggest_categorical(self, name: str, choices: list[Scalar]) -> Any: ...  # noqa: D102
    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float: ...  # noqa: D102
    def suggest_int(self, name: str, low: int, high: int) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    values: tuple[Scalar, ...]

    def suggest(self, trial: Trial, name: str) -> Scalar:
        """Return the trial's value; the trial is not needed for a single choice."""
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
        """Return every value; None: there are too many to list."""
        return tuple(range(self.low, self.high + 1)) if self.high - self.low < GRID_LIMIT else None


Domain = Choice | Real | Whole


@dataclass(frozen=True)
class Dimension:
    """One field of `Candidate` with its domain and the condition under which it is searched."""

    name: str
    domain: Domain
    when: Mapping[str, tuple[Scalar, ...]]
    """Field -> values that switch this dimension on; all must hold. A dimension that is off keeps the default."""

    def is_active(self, settings: Mapping[str, Scalar]) -> bool:
        """Return whether the settings chosen so far switch this dimension on."""
        return all(field in settings and settings[field] in values for field, values in self.when.items())

    def extend(
        self, combinations: Iterator[dict[str, Scalar]], values: tuple[Scalar, ...]
    ) -> Iterator[dict[str, Scalar]]:
        """Yield each combination with each of the values; as it is where this dimension is off."""
        for settings in combinations:
            if self.is_active(settings):
                yield from ({**settings, self.name: value} for value in values)
            else:
                yield settings


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
        combinations: Iterator[dict[str, Scalar]] = iter([{}])
        for dimension in self.dimensions:
            combinations = dimension.extend(combinations, values(dimension.domain))
        return combinations

    def without_grid(self) -> list[str]:
        """Return the dimensions that a grid cannot list."""
        return [dimension.name for dimension in self.dimensions if dimension.domain.grid() is None]

    def corners(self) -> list[dict[str, Scalar]]:
        """Return settings to check: all combinations of choices and ends, or draws from a large space."""
        found = list(itertools.islice(self.combinations(lambda domain: domain.corners()), CORNER_LIMIT + 1))
        if len(found) <= CORNER_LIMIT:
            return found
        draw = np.random.default_rng(0)
        return [
            self.settings(lambda d: d.domain.corners()[int(draw.integers(len(d.domain.corners())))])
            for _ in range(CORNER_LIMIT)
        ]
