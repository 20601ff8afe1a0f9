"""Pools of rows: the training, validation, test and holdout rows of a fold run, ready to be encoded."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_prep.prepared import Prepared
from data_prep.tables import HOLDOUT_FOLD
from data_prep.task import Task
from models.batches import Encoded, Spans, ranges
from models.candidate import Candidate
from models.packing import deal
from models.recipes import RECIPES, Layout
from models.tokens import END, PhraseTokens, load_tokens


@dataclass(frozen=True)
class Frame:
    """The special tokens around and between phrases."""

    before: tuple[int, ...]
    between: int
    after: tuple[int, ...]
    padding: int

    @classmethod
    def of(cls, tokenizer: Any) -> "Frame":
        """Read a tokenizer's own frame: what it puts around a single text, and its separator (else its end token)."""
        bare = tokenizer("a", add_special_tokens=False)["input_ids"]
        framed = tokenizer("a")["input_ids"]
        start = next(i for i in range(len(framed)) if framed[i : i + len(bare)] == bare)
        between = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
        return cls(tuple(framed[:start]), between, tuple(framed[start + len(bare) :]), tokenizer.pad_token_id)


@dataclass(frozen=True)
class Pieces:
    """Stretches of cached tokens: `length` tokens from `start`, belonging to `row`; rows ascend."""

    row: NDArray[np.int64]
    start: NDArray[np.int64]
    length: NDArray[np.int64]

    def __getitem__(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "Pieces":
        return Pieces(self.row[chosen], self.start[chosen], self.length[chosen])

    def ends(self) -> NDArray[np.int64]:
        """Return where each piece ends within its row, a separator behind every piece counted."""
        total = np.cumsum(self.length + 1)
        first = np.searchsorted(self.row, self.row)
        return total - (total - self.length - 1)[first]


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one pool; their siblings, where the recipe wants any, come from the pool itself."""

    table: pa.Table
    layout: Layout
    tokens: PhraseTokens
    frame: Frame
    max_length: int
    seed: int

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def scores(self) -> NDArray[np.float32] | None:
        """The truth, [rows]; None where the table has none."""
        if "score" not in self.table.column_names:
            return None
        return np.array(self.table["score"].to_numpy(), dtype=np.float32)

    def encode(self, epoch: int = 0) -> Encoded:
        """Return every row's token ids, at most `max_length` each.

        A row that is too long loses tokens of its layout's yielding columns first, then of its longest phrase.
        Siblings follow in random order up to the first that has no room left; none is ever cut. Packed siblings are
        dealt into as many texts as they need, a different hand in every epoch.

        Args:
            epoch: shuffles the siblings, with the seed; recipes without siblings give the same in every epoch.
        """
        if self.layout.siblings is None:
            return self._without_siblings
        if self.layout.packed:
            return self._pack(np.random.default_rng([self.seed, epoch]))
        pieces = self._siblings
        random = np.random.default_rng([self.seed, epoch]).random(len(pieces.row))
        pieces = pieces[np.argsort(pieces.row + random)]
        room = self.max_length - self._fixed_length
        ids, offsets = self._join(np.arange(len(self)), pieces[pieces.ends() <= room[pieces.row]])
        return Encoded(ids, offsets, self.frame.padding, self.scores)

    @cached_property
    def _without_siblings(self) -> Encoded:
        nothing = np.zeros(0, dtype=np.int64)
        ids, offsets = self._join(np.arange(len(self)), Pieces(nothing, nothing, nothing))
        return Encoded(ids, offsets, self.frame.padding, self.scores)

    def _pack(self, random: np.random.Generator) -> Encoded:
        """Put all rows of a sibling group into as few texts as hold them; each row keeps the span of its phrase."""
        assert self.layout.siblings is not None
        phrases = self.tokens.find(self.table[self.layout.siblings.column])
        group = self._sibling_group
        head = np.unique(group, return_index=True)[1]
        room = self.max_length - self._fixed_length[head]
        length = np.minimum(self.tokens.lengths[phrases], np.maximum(room[group] // 2 - 1, 1))
        order = np.argsort(group + random.random(len(group)))
        text = deal(group[order], length[order] + 1, room)
        pieces = Pieces(text, self.tokens.starts[phrases[order]], length[order])
        first = np.searchsorted(text, np.arange(text[-1] + 2))
        ids, offsets = self._join(order[first[:-1]], pieces)
        start = np.empty(len(order), dtype=np.int64)
        fixed = self._fixed_length[order[first[:-1]]] - len(self.frame.after) + 1
        start[order] = fixed[text] + pieces.ends() - pieces.length - 1
        spans = Spans(order, first, start, np.maximum(length, 1))  # a phrase without tokens: the separator behind it
        return Encoded(ids, offsets, self.frame.padding, self.scores, spans)

    def _join(self, heads: NDArray[np.int64], siblings: Pieces) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return ids and offsets of one text for each of `heads`: the row's columns, then the text's siblings."""
        before, after = len(self.frame.before), len(self.frame.after)
        fixed_length = self._fixed_length[heads]
        lengths = fixed_length.copy()
        np.add.at(lengths, siblings.row, siblings.length + 1)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        starts, ends = offsets[:-1], offsets[1:]
        ids = np.full(offsets[-1], self.frame.between, dtype=np.int32)
        for i, token in enumerate(self.frame.before):
            ids[starts + i] = token
        for i, token in enumerate(self.frame.after):
            ids[ends - after + i] = token
        n_columns = len(self.layout.columns)
        columns = self._fixed[(heads[:, None] * n_columns + np.arange(n_columns)).ravel()]
        self._put(ids, replace(columns, row=np.repeat(np.arange(len(heads)), n_columns)), starts + before)
        self._put(ids, siblings, starts + fixed_length - after + 1)
        return ids, offsets

    def _put(self, ids: NDArray[np.int32], pieces: Pieces, starts: NDArray[np.int64]) -> None:
        """Copy each text's pieces into `ids` from its place in `starts` on, leaving one separator between."""
        places = starts[pieces.row] + pieces.ends() - pieces.length - 1
        ids[ranges(places, pieces.length)] = self.tokens.ids[ranges(pieces.start, pieces.length)]

    @cached_property
    def _fixed(self) -> Pieces:
        """The layout's columns, cut to fit."""
        phrases = np.stack([self.tokens.find(self.table[name]) for name in self.layout.columns], axis=1)
        lengths = self._cut(self.tokens.lengths[phrases])
        return Pieces(
            np.repeat(np.arange(len(self)), phrases.shape[1]), self.tokens.starts[phrases].ravel(), lengths.ravel()
        )

    @cached_property
    def _fixed_length(self) -> NDArray[np.int64]:
        """Tokens of each row without siblings, [rows]."""
        n_phrases = len(self.layout.columns)
        texts: NDArray[np.int64] = self._fixed.length.reshape(-1, n_phrases).sum(axis=1)
        return texts + n_phrases - 1 + len(self.frame.before) + len(self.frame.after)

    def _cut(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Shorten phrases, [rows, columns], until each row fits; columns of packed texts into half of the limit."""
        lengths = lengths.copy()
        limit = self.max_length // 2 if self.layout.packed else self.max_length
        room = limit - len(self.frame.before) - len(self.frame.after) - (lengths.shape[1] - 1)
        for name in self.layout.yielding:
            column = self.layout.columns.index(name)
            excess = np.maximum(lengths.sum(axis=1) - room, 0)
            lengths[:, column] -= np.minimum(excess, lengths[:, column])
        while (long := np.flatnonzero(lengths.sum(axis=1) > room)).size:
            lengths[long, lengths[long].argmax(axis=1)] -= 1
        return lengths

    @cached_property
    def _sibling_group(self) -> NDArray[np.int64]:
        """Number of each row's sibling group, [rows]."""
        assert self.layout.siblings is not None
        keys = np.stack([self.tokens.find(self.table[name]) for name in self.layout.siblings.key], axis=1)
        return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)

    @cached_property
    def _siblings(self) -> Pieces:
        """Every row's siblings: the distinct phrases of its group without the row's own."""
        assert self.layout.siblings is not None
        own = self.tokens.find(self.table[self.layout.siblings.column])
        group = self._sibling_group
        member = np.unique(np.stack([group, own], axis=1), axis=0)
        sizes = np.bincount(member[:, 0])
        first = np.cumsum(sizes) - sizes
        row = np.repeat(np.arange(len(self)), sizes[group])
        phrase = member[ranges(first[group], sizes[group]), 1]
        return Pieces(row, self.tokens.starts[phrase], self.tokens.lengths[phrase])[phrase != own[row]]


@dataclass(frozen=True)
class Pools:
    """What a fold run trains on and predicts."""

    train: Rows
    validation: Rows
    test: Rows
    holdout: Rows | None
    """None where the split has no holdout."""
    vocabulary: NDArray[np.int64] = field(repr=False)
    """Every token id that can occur in these pools, ascending, special tokens included."""


def load_pools(data: Prepared, fold: int, *, candidate: Candidate, tokenizer: Any, cache: Path | None = None) -> Pools:
    """Return the pools of one fold run: train (the other folds), validation (`fold`), test, holdout (fold -1).

    Args:
        data: the prepared folder.
        fold: the validation fold.
        candidate: says how rows become text.
        tokenizer: the backbone's tokenizer.
        cache: folder of the token cache; None for the default.

    Raises:
        InputError: the task lacks a column that the recipe needs.
    """
    layout = RECIPES[candidate.recipe].layout(data.task, candidate)
    tokens = load_tokens(tokenizer, _distinct_phrases(data, data.task), cache=cache)
    frame = Frame.of(tokenizer)

    def rows(table: pa.Table) -> Rows:
        return Rows(table, layout, tokens, frame, candidate.max_length, candidate.seed)

    folds = data.train["fold"]
    held_out = data.train.filter(pc.equal(folds, HOLDOUT_FOLD))
    special = [*frame.before, frame.between, *frame.after, frame.padding]
    return Pools(
        train=rows(data.train.filter(pc.invert(pc.is_in(folds, value_set=pa.array([fold, HOLDOUT_FOLD], pa.int8()))))),
        validation=rows(data.train.filter(pc.equal(folds, fold))),
        test=rows(data.test),
        holdout=rows(held_out) if held_out.num_rows else None,
        vocabulary=np.union1d(tokens.ids[tokens.ids != END], special).astype(np.int64),
    )


def _distinct_phrases(data: Prepared, task: Task) -> pa.StringArray:
    """Return every distinct text of both tables, whatever the recipe: one cache file serves them all."""
    names = [*task.text_columns, *(["context_text"] if task.cpc_column else [])]
    chunks = [chunk for table in (data.train, data.test) for name in names for chunk in table[name].chunks]
    return pc.unique(pa.chunked_array(chunks, pa.string()))
