"""Pools of rows: the training, validation, test and holdout rows of a fold run, ready to be encoded."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_prep.prepared import Prepared
from data_prep.tables import HOLDOUT_FOLD
from data_prep.task import Task
from models.batches import Encoded
from models.recipes import RECIPES, Layout
from models.tokens import PhraseTokens, load_tokens


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

    @property
    def scores(self) -> NDArray[np.float32] | None:
        """The truth, [rows]; None where the table has none."""
        if "score" not in self.table.column_names:
            return None
        return np.array(self.table["score"].to_numpy(), dtype=np.float32)

    def encode(self, epoch: int = 0) -> Encoded:
        """Return every row's token ids, at most `max_length` each.

        A row that is too long loses tokens of its layout's yielding columns first, then of its longest phrase.

        Args:
            epoch: shuffles the siblings; recipes without siblings give the same in every epoch.
        """
        columns = [self.tokens.find(self.table[name]) for name in self.layout.columns]
        phrases = np.stack(columns, axis=1)
        starts = self.tokens.offsets[phrases]
        lengths = self._cut(self.tokens.offsets[phrases + 1] - starts)
        return self._join(starts, lengths)

    def _cut(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        lengths = lengths.copy()
        room = self.max_length - len(self.frame.before) - len(self.frame.after) - (lengths.shape[1] - 1)
        for name in self.layout.yielding:
            column = self.layout.columns.index(name)
            excess = np.maximum(lengths.sum(axis=1) - room, 0)
            lengths[:, column] -= np.minimum(excess, lengths[:, column])
        while (long := np.flatnonzero(lengths.sum(axis=1) > room)).size:
            lengths[long, lengths[long].argmax(axis=1)] -= 1
        return lengths

    def _join(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Encoded:
        before, after = len(self.frame.before), len(self.frame.after)
        totals = lengths.sum(axis=1) + (lengths.shape[1] - 1) + before + after
        offsets = np.concatenate([[0], np.cumsum(totals)])
        ids = np.full(offsets[-1], self.frame.between, dtype=np.int32)
        for i, token in enumerate(self.frame.before):
            ids[offsets[:-1] + i] = token
        for i, token in enumerate(self.frame.after):
            ids[offsets[1:] - after + i] = token
        places = offsets[:-1, None] + before + np.cumsum(lengths + 1, axis=1) - (lengths + 1)
        ids[_ranges(places.ravel(), lengths.ravel())] = self.tokens.ids[_ranges(starts.ravel(), lengths.ravel())]
        return Encoded(ids, offsets, self.frame.padding, self.scores)


def _ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return start, start + 1, ... for each start, `length` numbers each, one after the other."""
    ends = np.cumsum(lengths)
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(ends[-1])


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


def load_pools(
    data: Prepared, fold: int, *, recipe: str, tokenizer: Any, max_length: int, seed: int, cache: Path | None = None
) -> Pools:
    """Return the pools of one fold run: train (the other folds), validation (`fold`), test, holdout (fold -1).

    Args:
        data: the prepared folder.
        fold: the validation fold.
        recipe: a name in `models.recipes.RECIPES`.
        tokenizer: the backbone's tokenizer.
        max_length: tokens of a row at most, special tokens included.
        seed: shuffles siblings, together with the epoch.
        cache: folder of the token cache; None for the default.

    Raises:
        InputError: the task lacks a column that the recipe needs.
    """
    layout = RECIPES[recipe].layout(data.task)
    tokens = load_tokens(tokenizer, _distinct_phrases(data, data.task), cache=cache)
    frame = Frame.of(tokenizer)

    def rows(table: pa.Table) -> Rows:
        return Rows(table, layout, tokens, frame, max_length, seed)

    folds = data.train["fold"]
    held_out = data.train.filter(pc.equal(folds, HOLDOUT_FOLD))
    special = [*frame.before, frame.between, *frame.after, frame.padding]
    return Pools(
        train=rows(data.train.filter(pc.invert(pc.is_in(folds, value_set=pa.array([fold, HOLDOUT_FOLD], pa.int8()))))),
        validation=rows(data.train.filter(pc.equal(folds, fold))),
        test=rows(data.test),
        holdout=rows(held_out) if held_out.num_rows else None,
        vocabulary=np.union1d(tokens.ids, np.array(special)).astype(np.int64),
    )


def _distinct_phrases(data: Prepared, task: Task) -> pa.StringArray:
    """Return every distinct text of both tables, whatever the recipe: one cache file serves them all."""
    names = [*task.text_columns, *(["context_text"] if task.cpc_column else [])]
    chunks = [chunk for table in (data.train, data.test) for name in names for chunk in table[name].chunks]
    return pc.unique(pa.chunked_array(chunks, pa.string()))
