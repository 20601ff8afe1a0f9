"""Heads: from a backbone's hidden states to the outputs of a row.

A head pools the tokens of a row into one vector, then turns it into outputs. Padding takes no part, and pooling runs
in float32 whatever the autocast precision.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from models.candidate import Candidate

INITIAL_STD = 0.02


@dataclass(frozen=True)
class HeadSettings:
    """What every head is built from."""

    hidden_size: int
    n_states: int
    """Hidden states that the backbone can give."""
    n_outputs: int = 1
    dropout: float = 0.0


class Head(nn.Module):
    """Pools the tokens of each row, then scores the pooled vector."""

    options: ClassVar[tuple[str, ...]] = ()
    """Fields of the candidate that this head heeds and others may not."""

    def __init__(self, settings: HeadSettings) -> None:
        super().__init__()
        self.n_states = 1
        """Hidden states that the head wants, counted from the top."""
        self.dropout = nn.Dropout(settings.dropout)
        self.output = new_linear(settings.hidden_size, settings.n_outputs)

    @abstractmethod
    def pool(self, states: Sequence[Tensor], attention_mask: Tensor) -> Tensor:
        """Return one vector for each row, float32 [batch, pooled].

        Args:
            states: `n_states` hidden states, each [batch, tokens, hidden], the topmost last.
            attention_mask: [batch, tokens]; 1 for tokens and 0 for padding, at least one 1 in a row.
        """

    def forward(self, states: Sequence[Tensor], attention_mask: Tensor, codes: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Return outputs [batch, n_outputs]; arguments as for `pool`, `codes` as in `Batch`."""
        outputs: Tensor = self.output(self.dropout(self.pool(states, attention_mask)))
        return outputs


class ClsHead(Head):
    """The first token."""

    def pool(self, states: Sequence[Tensor], attention_mask: Tensor) -> Tensor:  # noqa: ARG002
        """Return the first token's hidden state."""
        return states[-1][:, 0].float()


class MeanHead(Head):
    """The mean over tokens (Reimers and Gurevych, 2019, Sentence-BERT)."""

    def pool(self, states: Sequence[Tensor], attention_mask: Tensor) -> Tensor:
        """Return the mean."""
        return weighted_sum(states[-1], attention_mask / attention_mask.sum(dim=1, keepdim=True))


class AttentionHead(Head):
    """A learned weighted mean over tokens.

    The weight of token t is softmax over tokens of v . tanh(W h_t + b) (Yang et al., 2016, hierarchical attention).
    """

    def __init__(self, settings: HeadSettings) -> None:
        super().__init__(settings)
        self.project = new_linear(settings.hidden_size, settings.hidden_size)
        self.weigh = new_linear(settings.hidden_size, 1)

    def pool(self, states: Sequence[Tensor], attention_mask: Tensor) -> Tensor:
        """Return the weighted mean."""
        hidden = states[-1]
        logits = self.weigh(torch.tanh(self.project(hidden))).squeeze(-1).float()
        return weighted_sum(hidden, logits.masked_fill(attention_mask == 0, -torch.inf).softmax(dim=1))


def weighted_sum(hidden: Tensor, weights: Tensor) -> Tensor:
    """Sum `hidden` [batch, tokens, hidden] over tokens with `weights` [batch, tokens], in float32."""
    return (hidden.float() * weights.float().unsqueeze(-1)).sum(dim=1)


def new_linear(n_inputs: int, n_outputs: int) -> nn.Linear:
    """Return a linear layer initialised as BERT's: small normal weights, no bias."""
    linear = nn.Linear(n_inputs, n_outputs)
    nn.init.normal_(linear.weight, std=INITIAL_STD)
    nn.init.zeros_(linear.bias)
    return linear


def new_head(candidate: "Candidate", *, hidden_size: int, n_states: int, n_outputs: int) -> Head:
    """Build the candidate's head; its initial weights come from torch's random stream.

    Args:
        candidate: says which head.
        hidden_size: width of the backbone's hidden states.
        n_states: hidden states that the backbone can give.
        n_outputs: outputs that the loss needs.
    """
    settings = HeadSettings(hidden_size, n_states, n_outputs, dropout=candidate.head_dropout)
    return HEADS[candidate.head](settings)


HEADS: dict[str, type[Head]] = {
    "cls": ClsHead,
    "mean": MeanHead,
    "attention": AttentionHead,
}
