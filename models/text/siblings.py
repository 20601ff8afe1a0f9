"""Siblings: which rows of a pool share a text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.text.recipes import Siblings
from models.text.token_ranges import AlignedArrays, ranges


@dataclass(frozen=True)
class SiblingPhrases(AlignedArrays):
    """The phrases of each row's sibling group, row by row."""

    row: NDArray[np.int64]
    """[members] the row whose text a member joins, ascending."""
    phrase: NDArray[np.int64]
    """[members] number of the member's phrase; distinct within a row."""
    own: NDArray[np.bool_]
    """[members] whether it is the row's own phrase."""

    def shuffled(self, random: np.random.Generator) -> "SiblingPhrases":
        """Return them in a random order within each row."""
        return self[np.argsort(self.row + random.random(len(self.row)))]


def sibling_groups(table: pa.Table, siblings: Siblings) -> NDArray[np.int64]:
    """Return the number of each row's sibling group, [rows]."""
    key = [
        pc.utf8_slice_codeunits(table[name].cast(pa.string()), 0, 1) if name == siblings.section_of else table[name]
        for name in siblings.key
    ]
    return number_rows(key)


def number_rows(columns: Sequence[pa.ChunkedArray]) -> NDArray[np.int64]:
    """Number the distinct combinations of strings, 0 to combinations - 1; return the number of each row, [rows]."""
    codes = [column.cast(pa.string()).combine_chunks().dictionary_encode().indices.to_numpy() for column in columns]
    numbers = np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)[1]
    return numbers.reshape(-1).astype(np.int64)


def gather_siblings(group: NDArray[np.int64], phrase: NDArray[np.int64]) -> SiblingPhrases:
    """Return the distinct phrases of each row's group, its own too, by first occurrence; group numbers have no gaps."""
    pairs, first = np.unique(np.stack([group, phrase], axis=1), axis=0, return_index=True)
    pairs = pairs[np.lexsort((first, pairs[:, 0]))]
    sizes = np.bincount(pairs[:, 0])
    row = np.repeat(np.arange(len(group)), sizes[group])
    members = pairs[ranges((np.cumsum(sizes) - sizes)[group], sizes[group]), 1]
    return SiblingPhrases(row, members, own=members == phrase[row])
