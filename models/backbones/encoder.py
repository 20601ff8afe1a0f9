"""Backbones: pretrained encoders by name or folder, with kept layers, dropout and freezing."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from data_prep.errors import InputError
from models.backbones.checkpoint_files import load_bare_model, load_config, load_model, load_tokenizer

SHIFTING = frozenset({"bart", "mbart", "mvp", "plbart"})
"""Encoder-decoders that give their decoder the same text, one token later; of all others the encoder alone is used."""


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
        """Kinds of segments that the model tells apart; 0 where it knows of none."""
        return getattr(self.config, "type_vocab_size", None) or 0

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, segments: Tensor | None = None, *, n_states: int = 1
    ) -> tuple[Tensor, ...]:
        """Return the last `n_states` hidden states, each [batch, tokens, hidden], the topmost last.

        Args:
            input_ids: int64 [batch, tokens].
            attention_mask: int64 [batch, tokens]; 1 where there is a token.
            segments: int64 [batch, tokens]; 0 or 1; None: a single segment. A model that does not tell segments apart
                takes no notice.
            n_states: 1 to `self.n_states`.
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
        output = self.model(**inputs, output_hidden_states=n_states > 1, use_cache=False)
        lower = output.decoder_hidden_states[-n_states:-1] if n_states > 1 else ()
        return (*lower, output.last_hidden_state)


class FunnelEncoder(Encoder):
    """A Funnel Transformer with its decoder, which brings the pooled states back to one for each token.

    Its states are those of full length: embeddings, first block, what the decoder is given, each decoder layer.
    A Funnel pools pairs of neighbours and cuts the last token off before it does, so a text's states depend on how
    far it is padded. Here every batch is padded until they no longer do: the states are those of a text followed
    by padding without end, which is also what padding to a fixed length gives.
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
        # n tokens are pooled to n/2 + 1 cells, n + s to (n + s)/2, which must be 2 more wherever it is pooled again.
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


class ChosenEmbedding(nn.Embedding):
    """The rows of an embedding that a known vocabulary needs; looked up by the original ids.

    Training gives the same numbers as with all rows, since the others would never get a gradient, without the
    memory and the optimiser steps that they cost: most of them all for a small encoder.
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


@dataclass(frozen=True)
class Backbone:
    """A loaded encoder with its tokenizer."""

    model: Encoder
    tokenizer: Any
    hidden_size: int
    layers: list[nn.Module]
    """From the input up: the embeddings, then each encoder layer, then each decoder layer where there are any; a layer
    that is applied several times stands here once. Parameters of the model outside of these (such as relative
    position tables) belong to no layer."""

    @property
    def n_states(self) -> int:
        """Hidden states that the model can give."""
        return self.model.n_states


def load_backbone(
    name: str,
    *,
    layers: int | None = None,
    dropout: float | None = None,
    freeze_embeddings: bool = False,
    freeze_layers: int = 0,
    checkpointing: bool = False,
    max_length: int | None = None,
    n_tokens: int | None = None,
    vocabulary: NDArray[np.int64] | None = None,
    folder: str | None = None,
    bare: bool = False,
) -> Backbone:
    """Load a pretrained encoder in fp32, in training mode.

    Args:
        name: `minilm-l6`, a local folder, or a hub name.
        layers: encoder layers kept, counted from the input; None keeps all. Of an encoder-decoder as many decoder
            layers are kept; of a Funnel the whole decoder; of an ALBERT it is how often its one layer is applied.
        dropout: probability of every dropout inside, attention included; None: as the checkpoint's config says.
        freeze_embeddings: the embeddings do not learn.
        freeze_layers: encoder layers, from the input, that do not learn.
        checkpointing: layers are computed again on the way back instead of kept in memory; the same numbers.
        max_length: refuse a backbone that has fewer positions than this.
        n_tokens: token ids that there must be an embedding for, such as the tokenizer's with what was added to it.
        vocabulary: distinct token ids; the embeddings of all others are left out (see `ChosenEmbedding`).
        folder: where hub names are looked up first: as `org/name`, `org--name` or `name` inside it.
        bare: `name` is the folder of a remnant (see `models.backbones.kept_backbone`), which has no weights but the
            embeddings; all others are yet without values.

    Raises:
        InputError: no such backbone here, its weights do not fit its config, or a setting asks for more than it has.
    """
    config = load_config(name, folder)
    if layers is not None:
        keep_layers(config, layers, name)
    if dropout is not None:
        _set_dropout(config, dropout)
    tokenizer = load_tokenizer(name, folder)
    model = bare_encoder(load_bare_model(name, config=config) if bare else load_model(name, folder, config=config))
    if n_tokens is not None:
        _lengthen_embedding(model, n_tokens)
    if vocabulary is not None:
        needed = [tokenizer.pad_token_id, getattr(config, "decoder_start_token_id", None)]
        rows = np.union1d(vocabulary, [row for row in needed if row is not None]).astype(np.int64)
        model.set_input_embeddings(ChosenEmbedding(model.get_input_embeddings(), torch.from_numpy(rows)))
    parts = parts_of(model)
    _check_size(model, name, freeze_layers=freeze_layers, n_layers=len(parts) - 1, max_length=max_length)
    for part in (parts[:1] if freeze_embeddings else []) + parts[1 : 1 + freeze_layers]:
        part.requires_grad_(False)
    if checkpointing:
        _checkpoint_layers(parts[1:])
    encoder = _encoder(model, tokenizer.pad_token_id).train()
    return Backbone(encoder, tokenizer, config.hidden_size, parts)


def load_embedding(name: str, *, folder: str | None = None) -> torch.Tensor:
    """Return the whole table of input embeddings of a backbone, float32 [tokens, dim].

    Arguments and errors as for `load_backbone`.
    """
    config = load_config(name, folder)
    keep_layers(config, 1, name)
    table: torch.Tensor = bare_encoder(load_model(name, folder, config=config)).get_input_embeddings().weight
    return table.detach()


def bare_encoder(model: Any) -> Any:
    """Return what of a model its hidden states need: no pooler, no decoder that wants inputs of its own."""
    if model.config.is_encoder_decoder and model.config.model_type not in SHIFTING:
        model = model.get_encoder()
    for unused in ("pooler", "entity_embeddings"):
        if getattr(model, unused, None) is not None:
            setattr(model, unused, None)
    return model


def parts_of(model: Any) -> list[nn.Module]:
    """Return what `Backbone.layers` holds of a bare encoder: its embeddings, then its layers."""
    return [_embeddings(model), *_layers(model)]


def _encoder(model: Any, padding_id: int) -> Encoder:
    if model.config.model_type == "funnel":
        return FunnelEncoder(model, padding_id)
    if model.config.model_type in SHIFTING:
        return ShiftingEncoder(model)
    return Encoder(model)


def keep_layers(config: Any, layers: int, name: str) -> None:
    """Change a config in place to that many layers; arguments and errors as for `load_backbone`."""
    if layers > config.num_hidden_layers:
        raise InputError(f"layers={layers}: backbone {name!r} has only {config.num_hidden_layers} encoder layers")
    if config.model_type == "funnel":
        below = np.cumsum([0, *config.block_sizes[:-1]])
        sizes = np.minimum(config.block_sizes, layers - below).tolist()
        config.block_sizes = [size for size in sizes if size > 0]
        config.block_repeats = config.block_repeats[: len(config.block_sizes)]
        return
    config.num_hidden_layers = layers
    if config.model_type in SHIFTING:
        config.decoder_layers = min(layers, config.decoder_layers)


def _set_dropout(config: Any, dropout: float) -> None:
    for key, value in config.to_dict().items():
        if isinstance(value, int | float) and ("dropout" in key or key.endswith("pdrop")):
            setattr(config, key, dropout)


def _lengthen_embedding(model: Any, n_tokens: int) -> None:
    """Give the embedding rows up to `n_tokens`: each dimension as it is spread over the rows there are.

    A new row is the same in every call, however many there are.
    """
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


def _checkpoint_layers(layers: list[nn.Module]) -> None:
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)


def _embeddings(model: Any) -> nn.Module:
    """Return what lies below the first layer: the token embeddings and all else that transformers calls an embedding.

    That is ELECTRA's and ALBERT's projection of the embeddings and BART's positions, but no table of relative
    positions, which every layer uses.
    """
    tokens = model.get_input_embeddings()
    children: Iterator[nn.Module] = model.children()
    found = [next(child for child in children if any(part is tokens for part in child.modules()))]
    inside = {id(part) for layer in [*found, *_layers(model)] for part in layer.modules()}
    for path, module in model.named_modules():
        if id(module) not in inside and re.match(r"(?!rel).*embed", path.rsplit(".", 1)[-1]):
            found.append(module)
            inside |= {id(part) for part in module.modules()}
    return found[0] if len(found) == 1 else nn.ModuleList(found)


def _layers(model: Any) -> list[nn.Module]:
    """Return the layers from the input up; those of a decoder come last."""
    if hasattr(model, "encoder") and hasattr(model, "decoder"):
        return [*_largest_stack(model.encoder), *_largest_stack(model.decoder)]
    return _largest_stack(model)


def _largest_stack(model: nn.Module) -> list[nn.Module]:
    """Return the modules of the list of modules that holds most of the parameters, lists within it opened."""
    stacks = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return list(_flat(max(stacks, key=lambda stack: sum(value.numel() for value in stack.parameters()))))


def _flat(stack: nn.ModuleList) -> Iterator[nn.Module]:
    for module in stack:
        if isinstance(module, nn.ModuleList):
            yield from _flat(module)
        else:
            yield module


def _check_size(model: nn.Module, name: str, *, freeze_layers: int, n_layers: int, max_length: int | None) -> None:
    if freeze_layers > n_layers:
        raise InputError(f"freeze_layers={freeze_layers}: backbone {name!r} has only {n_layers} encoder layers here")
    positions = _positions(model)
    if max_length is not None and positions is not None and max_length > positions:
        raise InputError(f"max_length={max_length}: backbone {name!r} has positions for {positions} tokens only")


def _positions(model: nn.Module) -> int | None:
    """Return the tokens that absolute positions reach; None where there is no table of them."""
    for path, module in model.named_modules():
        if path.endswith(("position_embeddings", "embed_positions")) and isinstance(module, nn.Embedding):
            skipped = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - int(getattr(module, "offset", skipped))
    return None
