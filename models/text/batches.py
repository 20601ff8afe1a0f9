"""Batches: texts of like length side by side, padded to the longest of them only."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.text.token_ranges import ranges

CHUNK_BATCHES = 50
"""Training texts are sorted by length within chunks of this many batches: enough to pad little, few enough to mix."""


@dataclass(frozen=True)
class Batch:
    """The rows of one step."""

    input_ids: Tensor
    """int64 [texts, tokens], padded on the right; with windows, each window is a text here."""
    attention_mask: Tensor
    """int64 [texts, tokens]; 1 where there is a token, 0 where there is padding."""
    rows: NDArray[np.int64]
    """[batch]; positions in the table that the rows come from."""
    targets: Tensor | None
    """float32 [batch], or [batch, numbers] with NaN where one is missing; None where the table has none."""
    weights: Tensor | None = None
    """float32 [batch]; how much each row counts in training; None: all the same."""
    spans: Tensor | None = None
    """int64 [batch, 3]: text, first token and number of tokens that a row is scored from; None: text i is row i."""
    segments: Tensor | None = None
    """int64 [texts, tokens]; segment of each token, 0 or 1, padding 0; None where a text is a single segment."""
    codes: Tensor | None = None
    """int64 [batch, 2]; position of each row's CPC section in `data_prep.cpc.SECTIONS` and its class number; None
    where the recipe has no codes."""
    groups: Tensor | None = None
    """int64 [batch]; number of each row's anchor; None where the task has a single text."""
    windows: Tensor | None = None
    """int64 [texts]; the row, from 0, that each text is a window of, ascending; None: no row has several."""

    @property
    def n_texts(self) -> int:
        """Texts that can be computed apart from each other; a row's windows are one."""
        return len(self.input_ids) if self.windows is None else len(self.rows)

    @property
    def total_weight(self) -> float:
        """What all targets that are there weigh together in a mean of them."""
        if self.targets is None or (self.targets.ndim == 1 and self.weights is None):
            return len(self.rows)
        counts = (~self.targets.isnan()).double().reshape(len(self.rows), -1).sum(dim=1)
        return float(counts.sum() if self.weights is None else counts @ self.weights.double())

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch with its tensors on `device`; to CUDA from pinned memory, so that nobody waits."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        if torch.device(device).type == "cuda":
            tensors = {name: value if value.is_cuda else value.pin_memory() for name, value in tensors.items()}
        moved: dict[str, Any] = {name: value.to(device, non_blocking=True) for name, value in tensors.items()}
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
    """All rows of a pool as texts of token ids, special tokens included; text i is `ids[offsets[i]:offsets[i + 1]]`.

    With windows, that is window i, and a text is all windows of a row.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    padding_id: int
    targets: NDArray[np.float32] | None
    """[rows] or [rows, numbers] as in `Batch.targets`."""
    spans: Spans | None = None
    """None: text i is row i."""
    second_segments: NDArray[np.int64] | None = None
    """[texts] first token of each text's second segment; None where a text is a single segment."""
    codes: NDArray[np.int64] | None = None
    """[rows, 2] as in `Batch.codes`."""
    groups: NDArray[np.int64] | None = None
    """[rows] as in `Batch.groups`."""
    weights: NDArray[np.float32] | None = None
    """[rows] as in `Batch.weights`."""
    windows: NDArray[np.int64] | None = None
    """[texts + 1] where each text's windows begin; None: each text is a single one."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text, or of its longest window, [texts]."""
        lengths = np.diff(self.offsets)
        return lengths if self.windows is None else np.maximum.reduceat(lengths, self.windows[:-1])

    @property
    def n_rows(self) -> int:
        """Rows of the pool."""
        return len(self) if self.spans is None else len(self.spans.order)

    @property
    def text_groups(self) -> NDArray[np.int64] | None:
        """Group of each text, [texts]; the rows of a shared text have the same."""
        if self.groups is None or self.spans is None:
            return self.groups
        return self.groups[self.spans.order[self.spans.first[:-1]]]

    def __len__(self) -> int:
        return len(self.offsets if self.windows is None else self.windows) - 1

    def texts_per_batch(self, batch_size: int) -> int:
        """Return how many texts hold `batch_size` rows on average, at least one."""
        return max(1, round(batch_size * len(self) / self.n_rows))

    def texts_at_once(self, most: int) -> int:
        """Return how many texts hold at most `most` rows, or windows, on average, at least one."""
        return max(1, round(most * len(self) / max(self.n_rows, len(self.offsets) - 1)))

    def windows_of(self, texts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the windows of the given texts; these texts themselves where each is a single one."""
        return texts if self.windows is None else ranges(self.windows[texts], np.diff(self.windows)[texts])

    def texts_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the texts that hold the given rows, ascending."""
        if self.spans is None:
            return np.sort(rows)
        text = np.empty(self.n_rows, dtype=np.int64)
        text[self.spans.order] = np.repeat(np.arange(len(self)), np.diff(self.spans.first))
        return np.unique(text[rows])

    def batch(self, texts: NDArray[np.int64]) -> Batch:
        """Return the given texts, in the order given, padded to the longest of them."""
        parts = self.windows_of(texts)
        starts = self.offsets[parts]
        lengths = self.offsets[parts + 1] - starts
        steps = np.arange(lengths.max())
        mask = steps < lengths[:, None]
        places = np.where(mask, starts[:, None] + steps, 0)
        ids = np.where(mask, self.ids[places], self.padding_id)
        segments = None if self.second_segments is None else mask & (steps >= self.second_segments[parts, None])
        rows, spans = (texts, None) if self.spans is None else self.spans.of(texts)
        row = None if self.windows is None else np.repeat(np.arange(len(texts)), np.diff(self.windows)[texts])
        return Batch(
            input_ids=torch.from_numpy(ids.astype(np.int64)),
            attention_mask=torch.from_numpy(mask.astype(np.int64)),
            rows=rows,
            targets=_tensor(self.targets, rows),
            weights=_tensor(self.weights, rows),
            spans=_tensor(spans),
            segments=_tensor(None if segments is None else segments.astype(np.int64)),
            codes=_tensor(self.codes, rows),
            groups=_tensor(self.groups, rows),
            windows=_tensor(row),
        )


def _tensor(values: NDArray[Any] | None, rows: NDArray[np.int64] | None = None) -> Tensor | None:
    """Return the values, or those of some rows, as a tensor."""
    if values is None:
        return None
    return torch.from_numpy(values if rows is None else values[rows])


def training_batches(
    lengths: NDArray[np.int64],
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    groups: NDArray[np.int64] | None = None,
) -> list[NDArray[np.int64]]:
    """Cut all texts into ceil(texts / batch_size) batches of like length, in random order.

    Texts are shuffled, sorted by length within chunks of `CHUNK_BATCHES` batches, cut, and the batches shuffled; at
    most one batch is short. A pure function of its arguments. Lengths (tokens) and groups are [texts]. With groups,
    whole groups are shuffled and sorted by their mean length; each cut between two batches divides one group at most,
    and a group larger than a batch fills whole batches.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    if groups is not None:
        order = order[np.argsort(random.permutation(groups.max() + 1)[groups[order]], kind="stable")]
    batches = []
    for start in range(0, len(order), CHUNK_BATCHES * batch_size):
        chunk = order[start : start + CHUNK_BATCHES * batch_size]
        if groups is None:
            chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        else:
            chunk = _by_mean_length(chunk, lengths, groups)
        batches += _cut(chunk, batch_size)
    return [batches[position] for position in random.permutation(len(batches))]


def _by_mean_length(
    chunk: NDArray[np.int64], lengths: NDArray[np.int64], groups: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Sort the texts of a chunk by the mean length of their group in it; a group stays together."""
    _, first, group, size = np.unique(groups[chunk], return_index=True, return_inverse=True, return_counts=True)
    mean = np.bincount(group, weights=lengths[chunk]) / size
    return chunk[np.lexsort((first[group], mean[group]))]


def prediction_batches(lengths: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    """Cut all texts into batches sorted by length, longest first (memory runs out at once or never)."""
    return _cut(np.argsort(-lengths, kind="stable"), batch_size)


def _cut(order: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
