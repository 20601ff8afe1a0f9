"""Batches: texts of like length side by side, padded to the longest of them only."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CHUNK_BATCHES = 50
"""Training texts are sorted by length within chunks of this many batches: enough to pad little, few enough to mix."""


@dataclass(frozen=True)
class Batch:
    """The rows of one step."""

    input_ids: Tensor
    """int64 [texts, tokens], padded on the right."""
    attention_mask: Tensor
    """int64 [texts, tokens]; 1 where there is a token, 0 where there is padding."""
    rows: NDArray[np.int64]
    """[batch]; positions in the table that the rows come from."""
    scores: Tensor | None
    """float32 [batch]; None where the table has no scores."""
    spans: Tensor | None = None
    """int64 [batch, 3]: text, first token and number of tokens that a row is scored from; None: text i is row i."""
    segments: Tensor | None = None
    """int64 [texts, tokens]; segment of each token, 0 or 1; None where the text is a single segment."""
    codes: Tensor | None = None
    """int64 [batch, 2]; CPC section (0 for A) and class number of each row; None where no head asks for them."""
    groups: Tensor | None = None
    """int64 [batch]; number of each row's anchor; None where no loss compares within an anchor."""

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch with its tensors on `device`."""
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)


@dataclass(frozen=True)
class Spans:
    """Which tokens of which text each row is scored from, where texts are shared."""

    order: NDArray[np.int64]
    """[rows] row numbers, text by text."""
    first: NDArray[np.int64]
    """[texts + 1] where each text's rows begin in `order`."""
    start: NDArray[np.int64]
    """[rows] first token within the text, row by row."""
    length: NDArray[np.int64]
    """[rows] number of tokens, at least 1."""

    def of(self, texts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows of the given texts, [batch], and where they stand: [batch, 3] as in `Batch.spans`."""
        sizes = self.first[texts + 1] - self.first[texts]
        rows = self.order[ranges(self.first[texts], sizes)]
        return rows, np.stack([np.repeat(np.arange(len(texts)), sizes), self.start[rows], self.length[rows]], axis=1)


@dataclass(frozen=True)
class Encoded:
    """All rows of a pool as texts of token ids, special tokens included; text i is `ids[offsets[i]:offsets[i + 1]]`."""

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    padding_id: int
    scores: NDArray[np.float32] | None
    spans: Spans | None = None
    """None: text i is row i."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text, [texts]."""
        return np.diff(self.offsets)

    @property
    def n_rows(self) -> int:
        """Rows of the pool."""
        return len(self) if self.spans is None else len(self.spans.order)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def texts_per_batch(self, batch_size: int) -> int:
        """Return how many texts hold `batch_size` rows on average, at least one."""
        return max(1, round(batch_size * len(self) / self.n_rows))

    def texts_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the texts that hold the given rows, ascending."""
        if self.spans is None:
            return np.sort(rows)
        text = np.empty(self.n_rows, dtype=np.int64)
        text[self.spans.order] = np.repeat(np.arange(len(self)), np.diff(self.spans.first))
        return np.unique(text[rows])

    def batch(self, texts: NDArray[np.int64]) -> Batch:
        """Return the given texts, in the order given, padded to the longest of them."""
        starts = self.offsets[texts]
        lengths = self.offsets[texts + 1] - starts
        steps = np.arange(lengths.max())
        mask = steps < lengths[:, None]
        places = np.where(mask, starts[:, None] + steps, 0)
        ids = np.where(mask, self.ids[places], self.padding_id)
        rows, spans = (texts, None) if self.spans is None else self.spans.of(texts)
        return Batch(
            input_ids=torch.from_numpy(ids.astype(np.int64)),
            attention_mask=torch.from_numpy(mask.astype(np.int64)),
            rows=rows,
            scores=None if self.scores is None else torch.from_numpy(self.scores[rows]),
            spans=None if spans is None else torch.from_numpy(spans),
        )


def ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return start, start + 1, ... for each start, `length` numbers each, one after the other."""
    ends = np.cumsum(lengths)
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(lengths.sum())


def training_batches(lengths: NDArray[np.int64], batch_size: int, *, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Cut all texts into ceil(texts / batch_size) batches of like length, in random order.

    Texts are shuffled, sorted by length within chunks of `CHUNK_BATCHES` batches, cut, and the batches shuffled; at
    most one batch is short. A pure function of its arguments.

    Args:
        lengths: tokens of each text, [texts].
        batch_size: texts of one batch.
        seed: the candidate's seed.
        epoch: epoch number; every epoch has its own order.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), CHUNK_BATCHES * batch_size):
        chunk = order[start : start + CHUNK_BATCHES * batch_size]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        batches += _cut(chunk, batch_size)
    return [batches[position] for position in random.permutation(len(batches))]


def prediction_batches(lengths: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    """Cut all texts into batches sorted by length, longest first (memory runs out at once or never)."""
    return _cut(np.argsort(-lengths, kind="stable"), batch_size)


def _cut(order: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
