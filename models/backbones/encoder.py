"""`Encoder`: a pretrained model that gives hidden states for each token, whatever its architecture."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.backbones.checkpoint_files import SHIFTING


class Encoder(nn.Module):
    """A Hugging Face encoder that returns its topmost hidden states."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.config: Any = model.config

    @property
    def n_states(self) -> int:
        """Hidden states that the model can give: one of each layer and one of the embeddings."""
        return int(self.config.num_hidden_layers) + 1

    @property
    def n_segments(self) -> int:
        """Kinds of segments that the model distinguishes; 0 where it has none."""
        return getattr(self.config, "type_vocab_size", None) or 0

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, segments: Tensor | None = None, *, n_states: int = 1
    ) -> tuple[Tensor, ...]:
        """Return the last `n_states` hidden states (1 to all), each [batch, tokens, hidden], the topmost last.

        All inputs are int64 [batch, tokens]; segments are 0 or 1 (None: a single one), ignored by a model without any.
        """
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if segments is not None and self.n_segments > 1:
            inputs["token_type_ids"] = segments
        return self._states(inputs, n_states)

    def _states(self, inputs: dict[str, Tensor], n_states: int) -> tuple[Tensor, ...]:
        if n_states == 1:
            return (self.model(**inputs).last_hidden_state,)
        output = self.model(**inputs, output_hidden_states=True)
        return (*output.hidden_states[-n_states:-1], output.last_hidden_state)


class ShiftingEncoder(Encoder):
    """An encoder-decoder of the BART kind: its hidden states are the decoder's.

    The decoder gets the same text one token later, so a state belongs to the token before its place; it sees the
    tokens up to there and, through the encoder, the whole text.
    """

    @property
    def n_states(self) -> int:
        """Hidden states of the decoder: one of each of its layers and one of its embeddings."""
        return int(self.config.decoder_layers) + 1

    def _states(self, inputs: dict[str, Tensor], n_states: int) -> tuple[Tensor, ...]:
        output = self.model(**inputs, output_hidden_states=n_states > 1)
        lower = output.decoder_hidden_states[-n_states:-1] if n_states > 1 else ()
        return (*lower, output.last_hidden_state)


class FunnelEncoder(Encoder):
    """A Funnel Transformer with its decoder, which brings the pooled states back to one for each token.

    Its states are those of full length: embeddings, first block, what the decoder is given, each decoder layer. A
    Funnel pools pairs of neighbors and cuts the last token off before it does, so a text's states depend on how far it
    is padded. Here every batch is padded until they no longer do, which is also what padding to a fixed length gives.
    """

    n_segments: ClassVar[int] = 2

    def __init__(self, model: nn.Module, padding_id: int) -> None:
        super().__init__(model)
        self.padding_id = padding_id

    @property
    def n_states(self) -> int:
        """Hidden states of full length."""
        return self._n_first + 1 + int(self.config.num_decoder_layers)

    @property
    def _n_first(self) -> int:
        return 1 + int(self.config.block_sizes[0] * self.config.block_repeats[0])

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, segments: Tensor | None = None, *, n_states: int = 1
    ) -> tuple[Tensor, ...]:
        """Return the last `n_states` hidden states of full length; as `Encoder.forward`."""
        n_tokens = input_ids.shape[1]
        # n tokens are pooled to n/2 + 1 cells, n + s to (n + s)/2, which must be 2 more each time it is pooled again.
        spare = (0, 2 ** len(self.config.block_sizes) - 2)
        if segments is not None:
            segments = functional.pad(segments, spare)
        input_ids = functional.pad(input_ids, spare, value=self.padding_id)
        states = super().forward(input_ids, functional.pad(attention_mask, spare), segments, n_states=n_states)
        return tuple(state[:, :n_tokens] for state in states)

    def _states(self, inputs: dict[str, Tensor], n_states: int) -> tuple[Tensor, ...]:
        if n_states == 1:
            return super()._states(inputs, 1)
        states = self.model(**inputs, output_hidden_states=True).hidden_states
        whole = (*states[: self._n_first], *states[-1 - self.config.num_decoder_layers :])
        return whole[-n_states:]


class GlobalEncoder(Encoder):
    """A Longformer: its first token attends to all tokens and all to it, as it was pretrained for classification."""

    def _states(self, inputs: dict[str, Tensor], n_states: int) -> tuple[Tensor, ...]:
        seen_by_all = torch.zeros_like(inputs["attention_mask"])
        seen_by_all[:, 0] = 1
        return super()._states(inputs | {"global_attention_mask": seen_by_all}, n_states)


def new_encoder(model: Any, padding_id: int) -> Encoder:
    """Return a bare encoder as one that gives its hidden states."""
    if model.config.model_type == "funnel":
        return FunnelEncoder(model, padding_id)
    if model.config.model_type in SHIFTING:
        return ShiftingEncoder(model)
    if model.config.model_type in ("longformer", "led"):
        return GlobalEncoder(model)
    return Encoder(model)
