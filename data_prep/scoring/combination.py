"""`Combination`: a fitted blend as arithmetic, from the members' predictions to one on the scale of the target.

`blend` fits it and `models` predicts with it, so it consists of plain numbers that go into JSON and back without loss:

    prediction = intercept + slope * sum over members of weight * mean over folds of scaling(member's prediction)

A stacked blend adds numeric columns and trees to that (see `Stack`).
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from data_prep.frozen_record import FrozenRecord
from data_prep.scoring.stack import Stack

Floats = NDArray[np.float64]
NO_COLUMNS: Mapping[str, Floats] = MappingProxyType({})


class Scaling(FrozenRecord):
    """From raw predictions of one fold's model to the scale that members are weighted on.

    First standardized, (prediction - center) / scale; then, if there are knots, the piecewise linear curve through
    them, constant beyond its ends, and `slope` times the standardized prediction on top.
    """

    center: float = 0.0
    scale: float = Field(default=1.0, gt=0)
    x: tuple[float, ...] = ()
    """Knots of the curve, ascending; none: a straight line."""
    y: tuple[float, ...] = ()
    """The curve's value at each knot."""
    slope: float = 0.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.x) != len(self.y) or list(self.x) != sorted(self.x):
            raise ValueError(f"a curve needs ascending x and as many y, got {len(self.x)} x and {len(self.y)} y")
        return self

    def __call__(self, prediction: ArrayLike) -> Floats:
        """Return scaled predictions, of the shape given."""
        standard = (np.asarray(prediction, dtype=np.float64) - self.center) / self.scale
        return np.interp(standard, self.x, self.y) + self.slope * standard if self.x else standard


class CombinationPart(FrozenRecord):
    """The share of one member."""

    candidate: str
    weight: float
    scalings: Annotated[tuple[Scaling, ...], Field(min_length=1)]
    """One for each fold of the candidate, folds ascending; or a single one for all."""

    def scaled(self, place: int, prediction: ArrayLike) -> Floats:
        """Return the scaled predictions [rows] of the model of one fold, the `place`-th of the candidate's."""
        return self.scalings[place if len(self.scalings) > 1 else 0](prediction)

    def mean(self, predictions: Sequence[ArrayLike]) -> Floats:
        """Return the mean over folds [rows] of scaled predictions, given as one [rows] for each fold."""
        parts = [self.scaled(place, prediction) for place, prediction in enumerate(predictions)]
        return np.asarray(np.mean(parts, axis=0))


def decide(values: Floats, cuts: ArrayLike, levels: ArrayLike) -> Floats:
    """Return for each of `values` the level whose number says how many of the ascending `cuts` it reaches."""
    return np.asarray(levels, dtype=np.float64)[np.searchsorted(np.asarray(cuts), values, side="right")]


class Combination(FrozenRecord):
    """A fitted blend as arithmetic."""

    parts: Annotated[tuple[CombinationPart, ...], Field(min_length=1)]
    slope: float
    intercept: float
    cuts: tuple[float, ...] = ()
    """Ascending; a prediction that reaches so many of them is that one of `levels`. None: it stays a number."""
    levels: tuple[float, ...] = ()
    stack: Stack | None = None
    """What is stacked on the line, before the cuts."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        n_features = len(self.parts) + 1 + len(self.stack.columns) if self.stack else 0
        if self.stack and any(feature >= n_features for tree in self.stack.trees for feature in tree.feature):
            raise ValueError(f"a tree asks for a feature that is none of the {n_features}")
        return self

    def finish(self, weighted: ArrayLike, features: Floats | None = None) -> Floats:
        """Return the prediction [rows] for the weighted sum [rows] of the members' means.

        A stack needs `features` [rows, parts + numeric columns]: the means, then its numeric columns.
        """
        values = self.intercept + self.slope * np.asarray(weighted, dtype=np.float64)
        if self.stack is not None:
            assert features is not None
            values = self.stack(values, features)
        return decide(values, self.cuts, self.levels) if self.cuts else values

    def predict(self, predictions: Sequence[Sequence[ArrayLike]], numeric: Mapping[str, Floats] = NO_COLUMNS) -> Floats:
        """Return the prediction [rows]; `predictions[p][k]` is [rows], of part p by the model of its k-th fold.

        `numeric` has the columns [rows] that a stack names.
        """
        means = [part.mean(columns) for part, columns in zip(self.parts, predictions, strict=True)]
        weighted = np.sum([part.weight * mean for part, mean in zip(self.parts, means, strict=True)], axis=0)
        columns = [numeric[name] for name in self.stack.columns] if self.stack else []
        return self.finish(weighted, np.column_stack([*means, *columns]))
