"""Ranges of cached tokens, which follow each other in a text."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


class AlignedArrays:
    """A dataclass of arrays of one length, which are chosen from together."""

    def __getitem__(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Self:
        arrays: dict[str, Any] = {name: values[chosen] for name, values in vars(self).items()}
        return type(self)(**arrays)


@dataclass(frozen=True)
class TokenRanges(AlignedArrays):
    """Stretches of cached tokens: `length` tokens from `start`, belonging to `row`; rows ascend."""

    row: NDArray[np.int64]
    start: NDArray[np.int64]
    length: NDArray[np.int64]

    def ends(self) -> NDArray[np.int64]:
        """Return where each piece ends, counted from the start of its row's first piece."""
        total = np.cumsum(self.length)
        first = np.searchsorted(self.row, self.row)
        return total - (total - self.length)[first]

    def totals(self, n_rows: int) -> NDArray[np.int64]:
        """Return how many tokens the pieces of each row have together, [rows]."""
        return np.bincount(self.row, self.length, minlength=n_rows).astype(np.int64)

    def ranks(self) -> NDArray[np.int64]:
        """Return how many pieces of its row stand ahead of each piece."""
        return np.arange(len(self.row)) - np.searchsorted(self.row, self.row)


def no_token_ranges() -> TokenRanges:
    """Return none at all."""
    nothing = np.zeros(0, dtype=np.int64)
    return TokenRanges(nothing, nothing, nothing)


def ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return start, start + 1, ... for each start, `length` numbers each, one after the other."""
    ends = np.cumsum(lengths)
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(lengths.sum())


def write_tokens(ids: NDArray[np.int32], places: NDArray[np.int64], tokens: tuple[int, ...]) -> None:
    """Write the same few tokens into `ids` at each of `places`."""
    for step, token in enumerate(tokens):
        ids[places + step] = token
