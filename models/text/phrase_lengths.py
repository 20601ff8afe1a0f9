"""The phrases that each row has of its own: how long they may be, and where each begins in its text."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_prep.errors import InputError
from models.text.recipes import Layout
from models.text.special_tokens import SpecialTokens
from models.text.token_cache import PhraseTokens
from models.text.truncation import Truncation, place_windows


@dataclass(frozen=True, eq=False)
class FittedPhrases:
    """The phrases of a layout's columns, text by text; a row has one text, or one for each of its windows."""

    sources: NDArray[np.int64]
    """[texts, columns] where each phrase, or its window, begins in the cached tokens."""
    ends: NDArray[np.int64]
    """[texts, columns] where each phrase ends in them."""
    lengths: NDArray[np.int64]
    """[texts, columns] tokens left of each phrase."""
    heads: NDArray[np.int64]
    """[texts, columns] how many of these stand at `sources`; the others stand ahead of `ends`."""
    own_lengths: NDArray[np.int64]
    """[rows] tokens left of a marked row's own phrase; 0 where no phrase is marked."""
    kept: NDArray[np.int64]
    """[rows] tokens that are seen, special ones included."""
    lost: NDArray[np.int64]
    """[rows] tokens cut off all phrases."""
    frame: SpecialTokens
    windows: NDArray[np.int64] | None = None
    """[rows + 1] where each row's texts begin; None: text i is row i."""

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """First token of each phrase within its text, [texts, columns]."""
        ahead = np.cumsum([len(self.frame.before), *map(len, self.frame.joints)])
        places: NDArray[np.int64] = np.cumsum(self.lengths, axis=1) - self.lengths + ahead
        return places

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Tokens of each text without siblings, the frame included, [texts]."""
        sizes: NDArray[np.int64] = self.lengths.sum(axis=1) + self.frame.size
        return sizes


def fit_phrases(
    table: pa.Table,
    layout: Layout,
    tokens: PhraseTokens,
    frame: SpecialTokens,
    *,
    max_length: int,
    truncation: Truncation,
) -> FittedPhrases:
    """Cut each row's phrases so that its text has at most `max_length` tokens, or half of that if it is shared."""
    marked = layout.siblings is not None and layout.siblings.arranged == "marked"
    names = (*layout.columns, *([layout.siblings.column] if layout.siblings and marked else []))
    phrases = np.stack([tokens.find(table[name]) for name in names], axis=1)
    yielding = [layout.columns.index(name) for name in layout.yielding]
    whole = tokens.lengths[phrases]
    lengths = cut(whole, phrase_room(layout, frame, max_length), yielding)
    lost = (whole - lengths).sum(axis=1)
    n_columns = len(layout.columns)
    sources, left = tokens.starts[phrases[:, :n_columns]], lengths[:, :n_columns]
    fitted = FittedPhrases(
        sources=sources,
        ends=sources + whole[:, :n_columns],
        lengths=left,
        heads=truncation.heads(whole[:, :n_columns], left),
        own_lengths=lengths[:, -1] if marked else np.zeros(len(lengths), dtype=np.int64),
        kept=frame.size + lengths.sum(axis=1),
        lost=lost,
        frame=frame,
    )
    return fitted if truncation.window_overlap is None else _in_windows(fitted, truncation)


def _in_windows(fitted: FittedPhrases, truncation: Truncation) -> FittedPhrases:
    """Return one text for each window of a row."""
    found = place_windows(fitted.ends - fitted.sources, fitted.lengths, truncation)
    sources = fitted.sources[found.row]
    sources[np.arange(len(sources)), found.column] += found.start
    return replace(
        fitted,
        sources=sources,
        ends=fitted.ends[found.row],
        lengths=fitted.lengths[found.row],
        heads=fitted.heads[found.row],
        kept=fitted.kept + found.gained,
        lost=fitted.lost - found.gained,
        windows=found.first,
    )


def phrase_room(layout: Layout, frame: SpecialTokens, max_length: int) -> int:
    """Return how many tokens the phrases of a row's columns may have, a marked row's own phrase included.

    Raises:
        InputError: none at all.
    """
    arranged = layout.siblings.arranged if layout.siblings else None
    room = max_length - frame.size
    if arranged == "packed":
        room = max_length // 2 - frame.size if len(frame.between) < max_length // 4 else 0
    if arranged == "marked":
        room -= frame.marking
    if room < 1:
        raise InputError(f"max_length={max_length} leaves no room for phrases beside the tokens around them; raise it")
    return room


def cut(lengths: NDArray[np.int64], room: int, yielding: Sequence[int] = ()) -> NDArray[np.int64]:
    """Cut phrase lengths [rows, columns] to `room` tokens a row: yielding columns first, to 0, then the longest."""
    lengths = lengths.copy()
    for column in yielding:
        excess = np.maximum(lengths.sum(axis=1) - room, 0)
        lengths[:, column] -= np.minimum(excess, lengths[:, column])
    while (long := np.flatnonzero(lengths.sum(axis=1) > room)).size:
        lengths[long, lengths[long].argmax(axis=1)] -= 1
    return lengths
