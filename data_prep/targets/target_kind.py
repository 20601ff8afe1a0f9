"""`TargetKind`: all that the rest of the project asks about a kind of target."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.scoring.metrics import METRICS, Metric, Targets
from data_prep.scoring.own_metric import own_metric

Floats32 = NDArray[np.float32]
NUMBER = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
MISSING = "may not be missing"


@dataclass(frozen=True, kw_only=True)
class TargetKind(ABC):
    """A kind of target: its columns in files and tables, its metrics, and what a submission says of it."""

    columns: tuple[str, ...]
    """The columns of a train file that hold the targets."""
    levels: tuple[float, ...] | None = None
    """The legal numbers, ascending; None: any from least to greatest."""
    least: float
    greatest: float

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Names of the numbers that are predicted for a row; none: it is a single one, which needs no name."""

    @property
    def n_numbers(self) -> int:
        """How many numbers are predicted for a row."""
        return len(self.names) or 1

    @property
    def missing_allowed(self) -> bool:
        """Whether a row may lack some of its targets."""
        return False

    def find_metric(self, name: str) -> Metric:
        """Return a metric that suits this kind; ValueError: there is none of this name, or it suits another kind."""
        if name not in METRICS:
            raise ValueError(f"unknown metric {name!r}; known: {', '.join(METRICS)}, or file.py:function of your own")
        return self._suited(METRICS[name])

    @property
    def usual_metric(self) -> str:
        """The metric of a search where the task has one of its own."""
        return "pearson"

    def own_metric(self, name: str, source: str) -> Metric:
        """Return a metric that a person wrote; InputError."""
        return own_metric(name, source, Targets.NUMBERS)

    def made_up(self, n_rows: int = 60) -> NDArray[np.float64]:
        """Return legal targets that differ: [rows] of one number, or of one of several; [rows, classes] of classes."""
        levels = np.array(self.levels or np.linspace(self.least, self.greatest, n_rows))
        return np.asarray(np.resize(levels, n_rows))

    @abstractmethod
    def _suited(self, metric: Metric) -> Metric:
        """Return a metric for these targets; ValueError: it does not suit them."""

    def read_cell(self, text: str) -> float | str:
        """Return the number that a file's `text` spells (NaN: none, where that is allowed), or the rule it breaks."""
        if not text.strip():
            return float("nan") if self.missing_allowed else MISSING
        if not NUMBER.fullmatch(text):
            return "must be a number, with a point for decimals"
        number = float(text)
        if self.levels is not None:
            return number if number in self.levels else f"must be one of {listed(self.levels)}"
        legal = self.least <= number <= self.greatest
        return number if legal else f"must be from {self.least:g} to {self.greatest:g}"

    def read_rows(self, cells: Floats32) -> tuple[Floats32, NDArray[np.intp], str]:
        """Return targets [rows, numbers] for cells [rows, columns] as read; then the rows at fault, and the rule."""
        return cells, np.empty(0, dtype=np.intp), ""

    def idle(self, targets: Floats32) -> list[str]:  # noqa: ARG002
        """Return the names of targets that do not differ between the rows."""
        return []

    def remarks(self, targets: Floats32, n_folds: int) -> list[str]:  # noqa: ARG002
        """Return sentences on targets [rows, numbers] that a person should know before a split into folds."""
        return []

    @abstractmethod
    def one_number(self, targets: Floats32) -> Floats32:
        """Return one number for each row's targets [rows] or [rows, numbers], by which rows are split and audited."""

    def finished(self, prediction: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return predictions [rows] or [rows, numbers] as a metric takes them."""
        return prediction

    @abstractmethod
    def submitted(self, prediction: NDArray[np.float64], metric: str) -> dict[str, NDArray[np.float64] | list[str]]:
        """Return the columns of a submission, by name, for predictions [rows] or [rows, numbers]."""


def listed(levels: Sequence[float]) -> str:
    """Return legal numbers for a message."""
    return ", ".join(f"{level:g}" for level in levels)
