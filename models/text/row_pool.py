"""`RowPool`: rows of a table with the same part in a fold run, encoded as texts of token ids."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_prep.cpc import code_numbers
from data_prep.store.tables import column_names
from data_prep.targets.target_columns import numbers_of
from models.text.batches import Encoded, Spans
from models.text.packing import pack_rows
from models.text.phrase_lengths import FittedPhrases, fit_phrases
from models.text.recipes import MASK, Layout
from models.text.siblings import SiblingPhrases, gather_siblings, number_rows, sibling_groups
from models.text.special_tokens import SpecialTokens
from models.text.token_cache import PhraseTokens
from models.text.token_ranges import TokenRanges, no_token_ranges, ranges, write_tokens
from models.text.truncation import Truncation


@dataclass(frozen=True, eq=False)
class RowPool:
    """The rows of one pool; their siblings, if the recipe has any, come from the pool itself."""

    table: pa.Table
    layout: Layout
    tokens: PhraseTokens
    """Every phrase, the frame's separator ahead of it; behind them the frame's marker, if it has one."""
    frame: SpecialTokens
    max_length: int
    truncation: Truncation
    seed: int
    segment_ids: bool = True
    """Whether batches number their two segments."""
    anchor_column: str | None = None
    """Column whose phrases number the groups of batches."""
    code_column: str | None = None
    """Column whose CPC codes batches carry."""

    target_names: tuple[str, ...] = ()
    """Names of a row's targets where it has several."""
    weighted: bool = False
    """Whether rows with targets have weights."""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def targets(self) -> NDArray[np.float32] | None:
        """The truth, [rows] or [rows, numbers] with NaN where one is missing; None where the table has none."""
        if column_names("score", self.target_names)[0] not in self.table.column_names:
            return None
        return np.array(numbers_of(self.table, "score", self.target_names))

    @cached_property
    def weights(self) -> NDArray[np.float32] | None:
        """How much each row counts in training, [rows]; None where all count the same."""
        if not self.weighted or self.targets is None:
            return None
        return np.array(self.table["weight"].to_numpy(), dtype=np.float32)

    @property
    def vocabulary(self) -> NDArray[np.int64]:
        """Every token id that can occur in pools with these phrases, ascending, special and new tokens included."""
        found: NDArray[np.int64] = np.union1d(self.tokens.ids, sorted(self.frame.ids)).astype(np.int64)
        return found

    @property
    def phrases(self) -> list[NDArray[np.int64]]:
        """Numbers of the phrases that its texts are made of, column by column, each [rows]."""
        siblings = [] if self.layout.siblings is None else [self.layout.siblings.column]
        return [self.tokens.find(self.table[name]) for name in dict.fromkeys([*self.layout.columns, *siblings])]

    @property
    def kept_and_lost(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Tokens of each row's text, and those that were cut off its phrases, [rows] each; siblings do not count."""
        kept, lost = self._columns.kept, self._columns.lost
        if self.layout.siblings is None or self.layout.siblings.arranged != "packed":
            return kept, lost
        own = self._packed_lengths
        return kept + own, lost + self.tokens.lengths[self._sibling_phrase] - own

    def encode(self, epoch: int = 0) -> Encoded:
        """Return every row's token ids, at most `max_length` each.

        A row that is too long loses tokens of its layout's yielding columns first, then of its longest phrase; which
        ones, the truncation says, or they are read in windows. Siblings
        follow in their order up to the first that has no room left; none is ever cut. A marked row always keeps its own
        phrase. Packed siblings are packed into as many texts as they need, differently in every epoch. Epoch and seed
        decide the order of shuffled siblings; the mean over n orders takes epochs 0 to n - 1.
        """
        siblings = self.layout.siblings
        if siblings is None:
            return self._without_siblings
        random = np.random.default_rng([self.seed, epoch])
        if siblings.arranged == "packed":
            return self._pack(random.random(len(self)) if siblings.shuffled else np.zeros(len(self)))
        members = self._members.shuffled(random) if siblings.shuffled else self._members
        pieces = self._mark(members) if siblings.arranged == "marked" else self._list(members)
        return self._join(np.arange(len(self)), pieces)

    @cached_property
    def _without_siblings(self) -> Encoded:
        every = np.arange(len(self._columns.sizes))
        masked = [column for column, words in enumerate(self.layout.words) if MASK in words]
        if not masked:
            return self._join(every, no_token_ranges())
        spans = Spans(every, np.arange(len(self) + 1), self._columns.places[:, masked[0]] - 1, np.ones_like(every))
        return self._join(every, no_token_ranges(), spans)

    def _list(self, members: SiblingPhrases) -> TokenRanges:
        """Return the first members of each row that have room."""
        pieces = self._led(members.row, members.phrase)
        return pieces[self._fit(pieces, self.max_length - self._columns.sizes)]

    def _mark(self, members: SiblingPhrases) -> TokenRanges:
        """Return each row's own phrase between markers, in its place among the first others that have room."""
        pieces = self._led(members.row, members.phrase)
        kept = members.own.copy()
        room = self.max_length - self._columns.sizes - self._columns.own_lengths - self.frame.marking
        kept[~members.own] = self._fit(pieces[~members.own], room)
        members, pieces = members[kept], pieces[kept]
        parts = np.where(members.own, 3, 1)
        opening = (np.cumsum(parts) - parts)[members.own]
        pieces = pieces[np.repeat(np.arange(len(parts)), parts)]
        ahead, marker = len(self.frame.between), self.tokens.starts[-1]
        pieces.start[opening], pieces.length[opening] = marker - ahead, ahead + 1
        pieces.start[opening + 1] += ahead
        pieces.length[opening + 1] = self._columns.own_lengths
        pieces.start[opening + 2], pieces.length[opening + 2] = marker, 1
        return pieces

    def _pack(self, keys: NDArray[np.float64]) -> Encoded:
        """Put sibling groups' rows, by keys [rows] in [0, 1), into as few texts as hold them; spans mark phrases."""
        group, phrase, ahead = self._sibling_group, self._sibling_phrase, len(self.frame.between)
        length = self._packed_lengths
        order = np.argsort(group + keys, kind="stable")
        text = pack_rows(group[order], length[order] + ahead, self._packed_room)
        pieces = replace(self._led(text, phrase[order]), length=length[order] + ahead)
        first = np.searchsorted(text, np.arange(text[-1] + 2))
        heads = order[first[:-1]]
        start = np.empty(len(order), dtype=np.int64)
        start[order] = (self._columns.sizes[heads] - len(self.frame.after))[text] + pieces.ends() - length[order]
        empty = length == 0  # scored from the last token of the separator ahead of it
        return self._join(heads, pieces, Spans(order, first, start - empty, length + empty))

    def _led(self, row: NDArray[np.int64], phrase: NDArray[np.int64]) -> TokenRanges:
        """Return phrases with the separator ahead of them."""
        ahead = len(self.frame.between)
        return TokenRanges(row, self.tokens.starts[phrase] - ahead, self.tokens.lengths[phrase] + ahead)

    def _fit(self, pieces: TokenRanges, room: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which pieces are ahead of the first without room in its row, and within the layout's limit."""
        assert self.layout.siblings is not None
        fit: NDArray[np.bool_] = pieces.ends() <= room[pieces.row]
        if self.layout.siblings.limit is not None:
            fit &= pieces.ranks() < self.layout.siblings.limit
        return fit

    def _join(self, heads: NDArray[np.int64], siblings: TokenRanges, spans: Spans | None = None) -> Encoded:
        """Join one text for each of `heads`: the row's columns, then the text's siblings."""
        columns, before, after = self._columns, self.frame.before, self.frame.after
        lengths = columns.sizes[heads] + siblings.totals(len(heads))
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        starts = offsets[:-1]
        ids = np.empty(offsets[-1], dtype=np.int32)
        write_tokens(ids, starts, before)
        write_tokens(ids, offsets[1:] - len(after), after)
        for column, joint in enumerate([(), *self.frame.joints]):
            places, head = starts + columns.places[heads, column], columns.heads[heads, column]
            tail = columns.lengths[heads, column] - head
            ids[ranges(places, head)] = self.tokens.ids[ranges(columns.sources[heads, column], head)]
            ids[ranges(places + head, tail)] = self.tokens.ids[ranges(columns.ends[heads, column] - tail, tail)]
            write_tokens(ids, places - len(joint), joint)
        places = (starts + columns.sizes[heads] - len(after))[siblings.row] + siblings.ends() - siblings.length
        ids[ranges(places, siblings.length)] = self.tokens.ids[ranges(siblings.start, siblings.length)]
        return Encoded(
            ids,
            offsets,
            self.frame.padding,
            self.targets,
            spans=spans,
            second_segments=columns.places[heads, -1] if self.layout.segments and self.segment_ids else None,
            codes=self._codes,
            groups=self._groups,
            weights=self.weights,
            windows=columns.windows,
        )

    @cached_property
    def _columns(self) -> FittedPhrases:
        return fit_phrases(
            self.table,
            self.layout,
            self.tokens,
            self.frame,
            max_length=self.max_length,
            truncation=self.truncation,
        )

    @cached_property
    def _sibling_group(self) -> NDArray[np.int64]:
        """Number of each row's sibling group, [rows]."""
        assert self.layout.siblings is not None
        return sibling_groups(self.table, self.layout.siblings)

    @cached_property
    def _sibling_phrase(self) -> NDArray[np.int64]:
        """Number of the phrase that each row adds to its group, [rows]."""
        assert self.layout.siblings is not None
        return self.tokens.find(self.table[self.layout.siblings.column])

    @cached_property
    def _packed_room(self) -> NDArray[np.int64]:
        """Tokens that a shared text of each group has for its rows, [groups]."""
        return (self.max_length - self._columns.sizes)[np.unique(self._sibling_group, return_index=True)[1]]

    @cached_property
    def _packed_lengths(self) -> NDArray[np.int64]:
        """Tokens left of the phrase that each row adds to a shared text, [rows]."""
        most = np.maximum(self._packed_room[self._sibling_group] // 2 - len(self.frame.between), 1)
        return np.minimum(self.tokens.lengths[self._sibling_phrase], most)

    @cached_property
    def _members(self) -> SiblingPhrases:
        """Every row's siblings, its own phrase among them if the layout says so."""
        assert self.layout.siblings is not None
        members = gather_siblings(self._sibling_group, self._sibling_phrase)
        with_own = self.layout.siblings.own or self.layout.siblings.arranged == "marked"
        return members if with_own else members[~members.own]

    @cached_property
    def _groups(self) -> NDArray[np.int64] | None:
        return None if self.anchor_column is None else number_rows([self.table[self.anchor_column]])

    @cached_property
    def _codes(self) -> NDArray[np.int64] | None:
        if self.code_column is None:
            return None
        codes = self.table[self.code_column].cast(pa.string()).combine_chunks().dictionary_encode()
        numbers = np.array([code_numbers(code) for code in codes.dictionary.to_pylist()], dtype=np.int64)
        chosen: NDArray[np.int64] = numbers[codes.indices.to_numpy()]
        return chosen
