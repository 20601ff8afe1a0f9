"""`split_batch`: a step's batch cut into parts that are computed one after the other."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from models.text.batches import Batch

TEXT_FIELDS = ("input_ids", "attention_mask", "segments")
ROW_FIELDS = ("targets", "weights", "codes", "groups")


def split_batch(batch: Batch, n_parts: int) -> list[Batch]:
    """Cut a batch into at most `n_parts` batches of about as many texts, none empty, in the order given.

    Rows stay with their text, windows with their row. The mean of the parts' gradients, weighted by what their targets
    weigh, is the gradient of the whole batch for every loss that is a mean over targets. A loss that compares rows with
    each other (pearson, ranking) compares them within a part only, so accumulation is another training for it.
    """
    n_parts = min(n_parts, batch.n_texts)
    if n_parts == 1:
        return [batch]
    return [_part(batch, texts) for texts in torch.arange(batch.n_texts).tensor_split(n_parts)]


def _part(batch: Batch, texts: Tensor) -> Batch:
    first, last = int(texts[0]), int(texts[-1])
    rows, spans, windows = texts, None, None
    if batch.windows is not None:
        texts = torch.nonzero((batch.windows >= first) & (batch.windows <= last)).squeeze(1)
        windows = batch.windows[texts] - first
    if batch.spans is not None:
        text = batch.spans[:, 0]
        rows = torch.nonzero((text >= first) & (text <= last)).squeeze(1)
        spans = batch.spans[rows] - torch.tensor([first, 0, 0])
    chosen = {name: (texts, getattr(batch, name)) for name in TEXT_FIELDS}
    chosen |= {name: (rows, getattr(batch, name)) for name in ROW_FIELDS}
    tensors: dict[str, Any] = {
        name: None if value is None else value[places] for name, (places, value) in chosen.items()
    }
    return replace(batch, rows=batch.rows[rows.numpy()], spans=spans, windows=windows, **tensors)
