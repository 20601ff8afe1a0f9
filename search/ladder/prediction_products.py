"""Predictions on some rows, and their products with each other and with the target, all centred."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Index = NDArray[np.intp]

_BLOCK = 64
"""Columns that are stored and multiplied together: few enough to stay in a core's cache."""


class PredictionProducts:
    """Predictions on the same rows, a column each; adding one costs the same however many there are.

    Kept in single precision, multiplied in double. Another thread may read columns while more are added.
    """

    def __init__(self, rows: Index, target: NDArray[np.floating]) -> None:
        """Select the rows from a target [all rows]."""
        self.rows = rows
        part = np.asarray(target, dtype=np.float64)[rows]
        self._target = part - part.mean()
        self._blocks: list[NDArray[np.float32]] = []
        self._n = 0
        self._numbers = np.empty((_BLOCK, 3))
        """[capacity]: mean, product with the target, product with itself."""
        self.square = float(self._target @ self._target)
        """The target's product with itself."""

    def __len__(self) -> int:
        """Return how many columns there are."""
        return self._n

    def add(self, prediction: NDArray[np.floating]) -> None:
        """Add a column, [all rows]."""
        block, place = divmod(len(self), _BLOCK)
        if not place:
            self._blocks.append(np.empty((_BLOCK, len(self.rows)), dtype=np.float32))
        if len(self) == len(self._numbers):
            self._numbers = np.vstack([self._numbers, np.empty_like(self._numbers)])
        self._blocks[block][place] = prediction[self.rows]
        column = self._blocks[block][place].astype(np.float64)
        mean = column.mean()
        column -= mean
        self._numbers[self._n] = mean, column @ self._target, column @ column
        self._n += 1

    def cross(self, which: Index) -> Floats:
        """Return the products of some columns with the target."""
        chosen: Floats = self._numbers[which, 1]
        return chosen

    def diagonal(self, which: Index) -> Floats:
        """Return the products of some columns with themselves."""
        chosen: Floats = self._numbers[which, 2]
        return chosen

    def products(self, some: Index, others: Index) -> Floats:
        """Return the products of some columns with others, [some, others]."""
        if len(some) > len(others):
            return self.products(others, some).T
        left = self._read(some)
        found = np.empty((len(some), len(others)))
        block = others // _BLOCK
        for number in np.unique(block):
            inside = block == number
            found[:, inside] = left @ self._read(others[inside]).T
        return found

    def _read(self, which: Index) -> Floats:
        """Return some columns, [which, rows]."""
        found = np.empty((len(which), len(self.rows)))
        block, place = np.divmod(which, _BLOCK)
        for number in np.unique(block):
            inside = block == number
            found[inside] = self._blocks[number][place[inside]]
        found -= self._numbers[which, :1]
        return found


class KeptProducts:
    """Caches the products of the few columns used again and again (a blend's members) with all columns."""

    def __init__(self, columns: PredictionProducts) -> None:
        self.columns = columns
        self._place = np.empty(0, dtype=np.intp)
        """[columns]: the row of `_kept` that has a column's products; -1 if they are not kept."""
        self._owners = np.empty(0, dtype=np.intp)
        """[kept]: the column of each row of `_kept`."""
        self._kept = np.empty((0, 0))
        """[capacity, capacity]"""

    def add(self, prediction: NDArray[np.floating]) -> None:
        """Add a column, [all rows]."""
        self.columns.add(prediction)
        last = len(self.columns) - 1
        self._place = np.append(self._place, -1)
        self._make_room(len(self._owners), len(self._place))
        if self._owners.size:
            self._kept[: len(self._owners), last] = self.columns.products(self._owners, np.array([last]))[:, 0]

    def keep(self, which: Index) -> None:
        """Keep the products of some columns with all columns, also those added later."""
        new = np.unique(which[self._place[which] < 0])
        if not new.size:
            return
        begin, end = len(self._owners), len(self._owners) + len(new)
        everywhere = np.arange(len(self._place))
        self._make_room(end, len(everywhere))
        self._kept[begin:end, : len(everywhere)] = self.columns.products(new, everywhere)
        self._owners = np.append(self._owners, new)
        self._place[new] = np.arange(begin, end)

    def products(self, some: Index, others: Index) -> Floats:
        """Return the products of some columns with others, [some, others]."""
        place = self._place[some]
        if (place >= 0).all():
            found: Floats = self._kept[place[:, None], others]
            return found
        if (self._place[others] >= 0).all():
            return self.products(others, some).T
        return self.columns.products(some, others)

    def _make_room(self, n_kept: int, n_columns: int) -> None:
        height, width = self._kept.shape
        if n_kept <= height and n_columns <= width:
            return
        room = np.empty((_capacity(n_kept, height), _capacity(n_columns, width)))
        room[:height, :width] = self._kept
        self._kept = room


def _capacity(needed: int, there: int) -> int:
    return there if needed <= there else max(needed, there + there // 2)
