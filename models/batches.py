"""Batches: rows of like length side by side, padded to the longest of them only."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CHUNK_BATCHES = 50
"""Training rows are sorted by length within chunks of this many batches: enough to pad little, few enough to mix."""


@dataclass(frozen=True)
class Batch:
    """The rows of one step."""

    input_ids: Tensor
    """int64 [batch, tokens], padded on the right."""
    attention_mask: Tensor
    """int64 [batch, tokens]; 1 where there is a token, 0 where there is padding."""
    rows: NDArray[np.int64]
    """[batch]; positions in the table that the rows come from."""
    scores: Tensor | None
    """float32 [batch]; None where the table has no scores."""

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch with its tensors on `device`."""
        scores = None if self.scores is None else self.scores.to(device, non_blocking=True)
        return Batch(
            self.input_ids.to(device, non_blocking=True),
            self.attention_mask.to(device, non_blocking=True),
            self.rows,
            scores,
        )


@dataclass(frozen=True)
class Encoded:
    """All rows of a pool as token ids, special tokens included; row i is `ids[offsets[i]:offsets[i + 1]]`."""

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    padding_id: int
    scores: NDArray[np.float32] | None

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, [rows]."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """Return the given rows, in the order given, padded to the longest of them."""
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        steps = np.arange(lengths.max())
        mask = steps < lengths[:, None]
        places = np.where(mask, starts[:, None] + steps, 0)
        ids = np.where(mask, self.ids[places], self.padding_id)
        return Batch(
            input_ids=torch.from_numpy(ids.astype(np.int64)),
            attention_mask=torch.from_numpy(mask.astype(np.int64)),
            rows=rows,
            scores=None if self.scores is None else torch.from_numpy(self.scores[rows]),
        )


def training_batches(lengths: NDArray[np.int64], batch_size: int, *, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Cut all rows into ceil(rows / batch_size) batches of like length, in random order.

    Rows are shuffled, sorted by length within chunks of `CHUNK_BATCHES` batches, cut, and the batches shuffled; at
    most one batch is short. A pure function of its arguments.

    Args:
        lengths: tokens of each row, [rows].
        batch_size: rows of one batch.
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
    """Cut all rows into batches sorted by length, longest first (memory runs out at once or never)."""
    return _cut(np.argsort(-lengths, kind="stable"), batch_size)


def _cut(order: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
