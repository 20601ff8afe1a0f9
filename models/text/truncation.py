"""Truncation: which tokens of a phrase are kept where a row is too long for its `max_length`."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.candidate import Candidate

HEAD_SHARES = {"head": 1.0, "tail": 0.0, "head_tail": None, "windows": 1.0}
"""Share of the tokens left of a phrase that are its first ones; None: the candidate says. The others are its last."""


@dataclass(frozen=True)
class Truncation:
    """How a candidate shortens phrases."""

    head_share: float = 1.0
    window_overlap: float | None = None
    """Share of a window's tokens that the one before it has too; None: there is one window alone."""
    max_windows: int = 1

    @classmethod
    def of(cls, candidate: Candidate) -> "Truncation":
        """Return that of a candidate."""
        share = HEAD_SHARES[candidate.truncation]
        head_share = candidate.head_share if share is None else share
        if candidate.truncation != "windows":
            return cls(head_share)
        return cls(head_share, candidate.window_overlap, candidate.max_windows)

    def heads(self, whole: NDArray[np.int64], left: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many of the tokens `left` of each phrase are its first ones; `whole` is what it had."""
        return np.where(left < whole, np.ceil(self.head_share * left), left).astype(np.int64)


@dataclass(frozen=True)
class Windows:
    """Rows whose longest phrase passes through a model stretch by stretch, in texts of their own."""

    row: NDArray[np.int64]
    """[texts] the row of each text, ascending."""
    column: NDArray[np.int64]
    """[texts] the phrase that the text has a stretch of."""
    start: NDArray[np.int64]
    """[texts] the stretch's first token, counted from the phrase's."""
    first: NDArray[np.int64]
    """[rows + 1] where each row's texts begin."""
    gained: NDArray[np.int64]
    """[rows] tokens of the phrase that are seen beyond those of the first window."""


def place_windows(whole: NDArray[np.int64], left: NDArray[np.int64], truncation: Truncation) -> Windows:
    """Return the windows of rows whose phrases have `whole` tokens, of which one text has `left` [rows, columns].

    The phrase that lost most is seen in windows of as many tokens as are left of it. The last one ends with the phrase,
    unless there would be too many: then what follows the last is not seen.
    """
    assert truncation.window_overlap is not None
    every = np.arange(len(whole))
    column = np.where(left > 0, whole - left, -1).argmax(axis=1)
    total, width = whole[every, column], left[every, column]
    step = np.maximum(width - (truncation.window_overlap * width).astype(np.int64), 1)
    n_needed = 1 - (width - total) // step
    n_windows = np.where(width > 0, np.minimum(n_needed, truncation.max_windows), 1)
    first = np.concatenate([[0], np.cumsum(n_windows)])
    row = np.repeat(every, n_windows)
    start = np.minimum((np.arange(len(row)) - first[row]) * step[row], (total - width)[row])
    return Windows(row, column[row], start, first, start[first[1:] - 1])
