"""Heads: from a backbone's hidden states to a row's outputs; padding takes no part, pooling is always in float32."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from models.parts.head_output import CodeEmbedding, Output, SampledDropout, new_linear

ATTENTION_WIDTH = 512
CNN_CHANNELS = 256
LAST_STATES = 4


@dataclass(frozen=True)
class HeadSettings:
    """What every head is built from; norm, layers and width are `Candidate`'s, whose names begin with `head_`."""

    hidden_size: int
    n_states: int
    """Hidden states that the backbone can give."""
    n_outputs: int = 1
    codes: bool = False
    """Rows come with CPC codes, whose embedding the head takes in."""
    norm: bool = False
    layers: int = 0
    width: int = 1024
    dropout_rates: tuple[float, ...] = (0.0,)
    """Probability of dropout in each of the masks that outputs are averaged over in training."""


class Head(nn.Module):
    """Scores each row by the hidden states of its tokens."""

    def __init__(self, settings: HeadSettings) -> None:
        super().__init__()
        self.n_states = 1
        """Hidden states that the head needs, counted from the top."""
        self.codes = CodeEmbedding() if settings.codes else None

    @property
    @abstractmethod
    def last_layers(self) -> list[nn.Linear | nn.Conv1d]:
        """The layers that give the outputs, side by side, up to a maximum over positions; they have a bias."""

    @abstractmethod
    def forward(self, states: Sequence[Tensor], attention_mask: Tensor, codes: Tensor | None = None) -> Tensor:
        """Return outputs, float32 [batch, n_outputs], of `n_states` states [batch, tokens, hidden], the topmost last.

        The mask [batch, tokens] has 1 for tokens, then 0 for padding, at least one 1 in a row; codes are as in `Batch`.
        """

    def embed_codes(self, codes: Tensor | None) -> Tensor | None:
        """Return the vectors of `codes`, None where the head was not built for them."""
        if self.codes is None:
            return None
        assert codes is not None
        vectors: Tensor = self.codes(codes)
        return vectors


class PoolingHead(Head):
    """Pools each row's tokens into one vector, then scores it, beside a CPC code's embedding where there is one."""

    def __init__(self, settings: HeadSettings, *, pooled_size: int | None = None) -> None:
        """Build all but the pooling; `pooled_size` is the size of the pooled vector, None: that of a hidden state."""
        super().__init__(settings)
        self.output = Output(
            pooled_size or settings.hidden_size,
            settings.n_outputs,
            n_codes=0 if self.codes is None else self.codes.width,
            norm=settings.norm,
            layers=settings.layers,
            width=settings.width,
            dropout_rates=settings.dropout_rates,
        )

    @property
    def last_layers(self) -> list[nn.Linear | nn.Conv1d]:
        """The linear layer of the output."""
        return [self.output.linear]

    @abstractmethod
    def pool(self, states: Sequence[Tensor], attention_mask: Tensor) -> Tensor:
        """Return one vector for each row, float32 [batch, pooled]; arguments as for `forward`."""

    def forward(self, states: Sequence[Tensor], attention_mask: Tensor, codes: Tensor | None = None) -> Tensor:
        """Return outputs, float32 [batch, n_outputs]; see `Head`."""
        outputs: Tensor = self.output(self.pool(states, attention_mask), self.embed_codes(codes))
        return outputs


class ClsHead(PoolingHead):
    """The first token (Devlin et al., 2019, BERT)."""

    def pool(self, states: Sequence[Tensor], attention_mask: Tensor) -> Tensor:  # noqa: ARG002
        """Return the first token's hidden state."""
        return states[-1][:, 0].float()


class ClsLast4Head(PoolingHead):
    """The first token of the last 4 hidden states (or all, if fewer), side by side (Devlin et al., 2019, BERT, 5.3)."""

    def __init__(self, settings: HeadSettings) -> None:
        n_states = min(LAST_STATES, settings.n_states)
        super().__init__(settings, pooled_size=n_states * settings.hidden_size)
        self.n_states = n_states

    def pool(self, states: Sequence[Tensor], attention_mask: Tensor) -> Tensor:  # noqa: ARG002
        """Return the first token's hidden states, the topmost last."""
        return torch.cat([hidden[:, 0] for hidden in states], dim=1).float()


class LastHead(PoolingHead):
    """The last token, the only one that sees the whole text where a model reads from left to right.

    Of all heads it alone also takes padding ahead of the tokens (Radford et al., 2018, GPT).
    """

    def pool(self, states: Sequence[Tensor], attention_mask: Tensor) -> Tensor:
        """Return the last token's hidden state."""
        steps = torch.arange(attention_mask.shape[1], device=attention_mask.device)
        last = (attention_mask * steps).argmax(dim=1)
        return states[-1][torch.arange(len(last), device=last.device), last].float()


class MeanHead(PoolingHead):
    """The mean over tokens (Reimers and Gurevych, 2019, Sentence-BERT)."""

    def pool(self, states: Sequence[Tensor], attention_mask: Tensor) -> Tensor:
        """Return the mean."""
        return weighted_sum(states[-1], mean_weights(attention_mask))


class MaxHead(PoolingHead):
    """The greatest value over tokens, dimension by dimension (Reimers and Gurevych, 2019, Sentence-BERT)."""

    def pool(self, states: Sequence[Tensor], attention_mask: Tensor) -> Tensor:
        """Return the maximum."""
        return states[-1].float().masked_fill(attention_mask.unsqueeze(-1) == 0, -torch.inf).amax(dim=1)


class AttentionHead(PoolingHead):
    """A learned weighted mean over tokens.

    The weight of token t is softmax over tokens of v . tanh(W h_t + b) (Yang et al., 2016, hierarchical attention); b
    has as many numbers as h_t, `ATTENTION_WIDTH` at most.
    """

    def __init__(self, settings: HeadSettings) -> None:
        super().__init__(settings)
        width = min(settings.hidden_size, ATTENTION_WIDTH)
        self.project = new_linear(settings.hidden_size, width)
        self.weigh = new_linear(width, 1, bias=False)

    def pool(self, states: Sequence[Tensor], attention_mask: Tensor) -> Tensor:
        """Return the weighted mean."""
        hidden = states[-1]
        logits = self.weigh(torch.tanh(self.project(hidden))).squeeze(-1).float()
        return weighted_sum(hidden, logits.masked_fill(attention_mask == 0, -torch.inf).softmax(dim=1))


class LayerPoolHead(PoolingHead):
    """The mean over tokens of a learned mixture of all hidden states, that of the embeddings included.

    State j counts softmax(w)_j, at first all the same (Peters et al., 2018, Deep contextualized word representations).
    """

    def __init__(self, settings: HeadSettings) -> None:
        super().__init__(settings)
        self.n_states = settings.n_states
        self.mixture = nn.Parameter(torch.zeros(settings.n_states))

    def pool(self, states: Sequence[Tensor], attention_mask: Tensor) -> Tensor:
        """Return the mixture of the states' means, which is the mean of their mixture."""
        weights = mean_weights(attention_mask)
        means = torch.stack([weighted_sum(hidden, weights) for hidden in states], dim=-1)
        return (means * self.mixture.float().softmax(dim=0)).sum(dim=-1)


class LstmHead(PoolingHead):
    """A bidirectional LSTM over tokens, then the mean over its outputs.

    Each direction has half as many units as a hidden state has numbers (Hochreiter and Schmidhuber, 1997; Graves and
    Schmidhuber, 2005, for both directions). Always in float32; weights start as torch's LSTM does.
    """

    def __init__(self, settings: HeadSettings) -> None:
        units = settings.hidden_size // 2
        super().__init__(settings, pooled_size=2 * units)
        self.lstm = nn.LSTM(settings.hidden_size, units, batch_first=True, bidirectional=True)

    def pool(self, states: Sequence[Tensor], attention_mask: Tensor) -> Tensor:
        """Return the mean."""
        hidden = states[-1]
        with torch.autocast(hidden.device.type, enabled=False):
            packed = pack_padded_sequence(
                hidden.float(), attention_mask.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False
            )
            outputs, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=hidden.shape[1])
        return weighted_sum(outputs, mean_weights(attention_mask))


class CnnHead(Head):
    """Two convolutions over tokens, then the greatest output over positions.

    Convolution (`CNN_CHANNELS`, kernel 2, padding 1), ReLU, dropout, convolution (one channel for each output, kernel
    2, padding 1), maximum: the head of the memo's exp011, after Kim (2014, Convolutional neural networks for sentence
    classification), whose maximum follows a single convolution. A row of n tokens has n + 1 positions after the first
    and n + 2 after the second; what a convolution sees beyond them is 0, in a padded batch as for the row alone. The
    embedding of a CPC code, where there is one, stands beside every token. Weights start as torch's convolutions do.
    """

    def __init__(self, settings: HeadSettings) -> None:
        super().__init__(settings)
        n_inputs = settings.hidden_size + (0 if self.codes is None else self.codes.width)
        self.first = nn.Conv1d(n_inputs, CNN_CHANNELS, kernel_size=2, padding=1)
        self.second = nn.Conv1d(CNN_CHANNELS, settings.n_outputs, kernel_size=2, padding=1)
        self.dropout = SampledDropout(settings.dropout_rates)

    @property
    def last_layers(self) -> list[nn.Linear | nn.Conv1d]:
        """The second convolution."""
        return [self.second]

    def forward(self, states: Sequence[Tensor], attention_mask: Tensor, codes: Tensor | None = None) -> Tensor:
        """Return outputs, float32 [batch, n_outputs]; see `Head`."""
        hidden = states[-1]
        vectors = self.embed_codes(codes)
        if vectors is not None:
            hidden = torch.cat([hidden, vectors.unsqueeze(1).expand(-1, hidden.shape[1], -1)], dim=2)
        lengths = attention_mask.sum(dim=1)
        features = self.first(_only(hidden.transpose(1, 2), lengths, 0.0))
        features = _only(features.float().relu(), lengths + 1, 0.0)
        with torch.autocast(hidden.device.type, enabled=False):
            outputs: Tensor = self.dropout(features, lambda kept: self._greatest(kept, lengths + 2))
        return outputs

    def _greatest(self, features: Tensor, n_positions: Tensor) -> Tensor:
        """Return [samples * batch, n_outputs] for features [samples * batch, channels, positions - 1]."""
        outputs = self.second(features)
        return _only(outputs, n_positions.repeat(len(outputs) // len(n_positions)), -torch.inf).amax(dim=2)


class SeparateHeads(Head):
    """Heads alike in all but their weights, each for some of the outputs."""

    def __init__(self, heads: Sequence[Head]) -> None:
        nn.Module.__init__(self)
        self.heads = nn.ModuleList(heads)
        self.n_states = heads[0].n_states

    @property
    def last_layers(self) -> list[nn.Linear | nn.Conv1d]:
        """Those of the heads."""
        return [layer for head in self.heads for layer in head.last_layers]  # type: ignore[union-attr]

    def forward(self, states: Sequence[Tensor], attention_mask: Tensor, codes: Tensor | None = None) -> Tensor:
        """Return the outputs of all heads, side by side; see `Head`."""
        return torch.cat([head(states, attention_mask, codes) for head in self.heads], dim=1)


def _only(values: Tensor, n_positions: Tensor, elsewhere: float) -> Tensor:
    """Keep the first `n_positions` [batch] of `values` [batch, channels, positions]; the rest become `elsewhere`."""
    beyond = torch.arange(values.shape[2], device=values.device) >= n_positions.unsqueeze(-1)
    return values.masked_fill(beyond.unsqueeze(1), elsewhere)


def mean_weights(attention_mask: Tensor) -> Tensor:
    """Return the weights, float32 [batch, tokens], that make a sum over tokens their mean."""
    return attention_mask / attention_mask.sum(dim=1, keepdim=True)


def weighted_sum(hidden: Tensor, weights: Tensor) -> Tensor:
    """Sum `hidden` [batch, tokens, hidden] over tokens with `weights` [batch, tokens], in float32."""
    return (hidden.float() * weights.float().unsqueeze(-1)).sum(dim=1)


HEADS: dict[str, type[Head]] = {
    "cls": ClsHead,
    "cls_last4": ClsLast4Head,
    "last": LastHead,
    "mean": MeanHead,
    "max": MaxHead,
    "attention": AttentionHead,
    "layer_pool": LayerPoolHead,
    "lstm": LstmHead,
    "cnn": CnnHead,
}
"""Name -> head. A new one also needs an entry in `models.part_options`, with a summary and its settings."""
