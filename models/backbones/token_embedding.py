"""The table of token embeddings: rows for new tokens, and only the rows that a known vocabulary needs."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional


class ChosenEmbedding(nn.Embedding):
    """The rows of an embedding that a known vocabulary needs; looked up by the original ids.

    Training gives the same numbers, as other rows get no gradient, for less memory and fewer optimizer steps.
    """

    place: Tensor

    def __init__(self, whole: nn.Embedding, vocabulary: Tensor) -> None:
        """Copy the rows `vocabulary` (distinct ids, int64 [chosen]) out of `whole`, which may scale what it gives."""
        super().__init__(len(vocabulary), whole.embedding_dim, _weight=whole.weight.detach()[vocabulary])
        place = torch.full((whole.num_embeddings,), -1)
        place[vocabulary] = torch.arange(len(vocabulary))
        self.register_buffer("place", place, persistent=False)
        self.embed_scale = float(getattr(whole, "embed_scale", 1.0))
        if whole.padding_idx is not None and place[whole.padding_idx] >= 0:
            self.padding_idx = int(place[whole.padding_idx])

    def forward(self, input: Tensor) -> Tensor:
        """Return the vectors [..., dim] of original ids [...]; an id outside of the vocabulary is an IndexError."""
        vectors = functional.embedding(self.place[input], self.weight, self.padding_idx)
        return vectors if self.embed_scale == 1.0 else vectors * self.embed_scale


def fit_embedding(model: Any, vocabulary: NDArray[np.int64], *, padding_id: int) -> None:
    """Cut an encoder's embedding to the distinct ids of `vocabulary` (new ones get rows), padding, decoder start."""
    _lengthen(model, int(vocabulary.max()) + 1)
    needed = [padding_id, getattr(model.config, "decoder_start_token_id", None)]
    rows = np.union1d(vocabulary, [row for row in needed if row is not None]).astype(np.int64)
    model.set_input_embeddings(ChosenEmbedding(model.get_input_embeddings(), torch.from_numpy(rows)))


def _lengthen(model: Any, n_tokens: int) -> None:
    """Add rows up to `n_tokens`, each dimension spread as in those there are; row i is the same in every call."""
    table = model.get_input_embeddings()
    missing = n_tokens - table.num_embeddings
    if missing <= 0:
        return
    rows = table.weight.detach()
    noise = torch.randn(missing, table.embedding_dim, generator=torch.Generator().manual_seed(0))
    table.weight = nn.Parameter(torch.cat([rows, rows.mean(dim=0) + rows.std(dim=0) * noise]))
    table.num_embeddings = n_tokens
    model.set_input_embeddings(table)
    model.config.vocab_size = n_tokens
