"""Heads: from a backbone's last hidden state to the outputs of a row.

Every head is built as `HEADS[name](hidden_size=..., n_outputs=..., dropout=...)` and called with

    hidden: [batch, tokens, hidden], the backbone's last hidden state
    attention_mask: [batch, tokens], 1 for tokens and 0 for padding, at least one 1 in a row

to give [batch, n_outputs]. Padding takes no part, and pooling runs in float32 whatever the autocast precision.
"""

import torch
from torch import Tensor, nn

INITIAL_STD = 0.02


class ClsHead(nn.Module):
    """A linear layer on the first token."""

    def __init__(self, *, hidden_size: int, n_outputs: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.output = new_linear(hidden_size, n_outputs)

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:  # noqa: ARG002 - the first token is no padding
        """Return [batch, n_outputs]."""
        outputs: Tensor = self.output(self.dropout(hidden[:, 0]))
        return outputs


class MeanHead(nn.Module):
    """A linear layer on the mean over tokens (Reimers and Gurevych, 2019, Sentence-BERT)."""

    def __init__(self, *, hidden_size: int, n_outputs: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.output = new_linear(hidden_size, n_outputs)

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Return [batch, n_outputs]."""
        weights = attention_mask / attention_mask.sum(dim=1, keepdim=True)
        outputs: Tensor = self.output(self.dropout(weighted_sum(hidden, weights)))
        return outputs


class AttentionHead(nn.Module):
    """A linear layer on a learned weighted mean over tokens.

    The weight of token t is softmax over tokens of v . tanh(W h_t + b) (Yang et al., 2016, hierarchical attention).
    """

    def __init__(self, *, hidden_size: int, n_outputs: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.project = new_linear(hidden_size, hidden_size)
        self.weigh = new_linear(hidden_size, 1)
        self.dropout = nn.Dropout(dropout)
        self.output = new_linear(hidden_size, n_outputs)

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Return [batch, n_outputs]."""
        logits = self.weigh(torch.tanh(self.project(hidden))).squeeze(-1).float()
        weights = logits.masked_fill(attention_mask == 0, -torch.inf).softmax(dim=1)
        outputs: Tensor = self.output(self.dropout(weighted_sum(hidden, weights)))
        return outputs


def weighted_sum(hidden: Tensor, weights: Tensor) -> Tensor:
    """Sum `hidden` [batch, tokens, hidden] over tokens with `weights` [batch, tokens], in float32."""
    return (hidden.float() * weights.float().unsqueeze(-1)).sum(dim=1)


def new_linear(n_inputs: int, n_outputs: int) -> nn.Linear:
    """Return a linear layer initialised as BERT's: small normal weights, no bias."""
    linear = nn.Linear(n_inputs, n_outputs)
    nn.init.normal_(linear.weight, std=INITIAL_STD)
    nn.init.zeros_(linear.bias)
    return linear


HEADS: dict[str, type[nn.Module]] = {
    "cls": ClsHead,
    "mean": MeanHead,
    "attention": AttentionHead,
}
