"""`Stack`: what a stacked blend adds to the weighted sum of its members, as plain numbers that go into JSON."""

from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from data_prep.frozen_record import FrozenRecord


class Tree(FrozenRecord):
    """A decision tree, one entry of each array a node: a row goes from node 0 to the left or right, down to a leaf."""

    feature: tuple[int, ...]
    """Number of the feature that decides; -1 at a leaf."""
    threshold: tuple[float, ...]
    """A row whose feature is this or less goes to the left."""
    left: tuple[int, ...]
    right: tuple[int, ...]
    value: tuple[float, ...]
    """What a leaf says."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        sizes = [len(column) for column in (self.feature, self.threshold, self.left, self.right, self.value)]
        if sizes[0] == 0 or any(one != other for one, other in pairwise(sizes)):
            raise ValueError(f"a tree needs as many entries of each kind, got {sizes}")
        for node, feature in enumerate(self.feature):
            if feature >= 0 and not all(node < child < sizes[0] for child in (self.left[node], self.right[node])):
                raise ValueError(f"node {node} of a tree leads back or nowhere")
        return self

    def __call__(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the value [rows] of the leaf that each row of `features` [rows, features] ends in."""
        feature, threshold = np.asarray(self.feature), np.asarray(self.threshold)
        children = np.array([self.right, self.left])
        node, going = np.zeros(len(features), dtype=np.intp), np.arange(len(features))
        while len(going := going[feature[node[going]] >= 0]):
            at = node[going]
            node[going] = children[(features[going, feature[at]] <= threshold[at]).astype(np.intp), at]
        return np.asarray(self.value)[node]


class Stack(FrozenRecord):
    """Numeric columns with weights, then trees on what the members say beside the sum, that sum, and the columns."""

    columns: tuple[str, ...] = ()
    """Names of the numeric columns."""
    weights: tuple[float, ...] = ()
    """Of each numeric column, in units of the target for one of the column."""
    trees: tuple[Tree, ...] = ()
    """Their features: each member's prediction less the linear one, the linear one, the numeric columns."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.columns) != len(self.weights):
            raise ValueError(f"got {len(self.columns)} numeric columns and {len(self.weights)} weights for them")
        return self

    def __call__(self, weighted: NDArray[np.float64], features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the prediction [rows] for the members' weighted sum [rows], on its line.

        `features` [rows, members + numeric columns] begin with the members' raw predictions.
        """
        members, numeric = np.split(features, [features.shape[1] - len(self.columns)], axis=1)
        linear = np.asarray(weighted + numeric @ np.asarray(self.weights))
        if not self.trees:
            return linear
        told = np.column_stack([members - linear[:, None], linear, numeric])
        return np.asarray(sum((tree(told) for tree in self.trees), linear))
