"""COCO-LM: its encoder as a transformers model (Meng et al. 2021, arXiv 2102.08473)."""

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedConfig, PreTrainedModel, initialization
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from data_prep.errors import InputError
from models.backbones.cocolm_tokenizer import CocolmTokenizer


class CocolmConfig(PreTrainedConfig):  # type: ignore[misc]
    """The keys of a COCO-LM `config.json`; the defaults have the base model's size.

    Raises:
        InputError: a value that the encoder has no meaning for.
    """

    model_type = "cocolm"

    vocab_size: int = 64000
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 0
    """Kinds of segments; 0: no segment embeddings."""
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    rel_pos_bins: int = 0
    """Buckets of relative positions, even; 0: no relative bias."""
    max_rel_pos: int = 256
    """The distance, plus one, from which on all keys share the last bucket."""
    layer_norm_type: str = "post"
    pad_token_id: int | None = 1
    need_pooler: bool = False
    """Some files say so; the encoder has no pooler."""

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if faults := list(_faults(self)):
            raise InputError(f"COCO-LM config: {'; '.join(faults)}")


def _faults(config: CocolmConfig) -> Iterator[str]:
    if config.layer_norm_type != "post":
        yield f"layer_norm_type must be 'post', as in the released models, found {config.layer_norm_type!r}"
    if config.hidden_act != "gelu":
        yield f"hidden_act must be 'gelu', found {config.hidden_act!r}"
    if config.hidden_size % config.num_attention_heads:
        yield f"hidden_size={config.hidden_size} must be a multiple of num_attention_heads={config.num_attention_heads}"
    if config.rel_pos_bins == 0:
        return
    if config.rel_pos_bins < 4 or config.rel_pos_bins % 2:
        yield f"rel_pos_bins must be 0 or an even number from 4 on, found {config.rel_pos_bins}"
    elif config.max_rel_pos <= config.rel_pos_bins // 4 + 1:
        least = config.rel_pos_bins // 4 + 2
        yield f"max_rel_pos must be {least} or more (rel_pos_bins / 4 + 2), found {config.max_rel_pos}"


class CocolmModel(PreTrainedModel):  # type: ignore[misc]
    """COCO-LM's encoder: post-norm layers that share one relative position bias.

    Its parameters bear the names of the released files, with or without prefix `cocolm.`, less the pretraining heads.
    """

    config_class = CocolmConfig
    base_model_prefix = "cocolm"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules: ClassVar[list[str]] = ["CocolmEmbeddings", "CocolmLayer"]
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [r"^(cocolm\.)?(scl_head|lm_head|binary\w*|pooler)\."]

    def __init__(self, config: CocolmConfig) -> None:
        super().__init__(config)
        self.embeddings = CocolmEmbeddings(config)
        self.relative_attention_bias = RelativePositionBias(config) if config.rel_pos_bins else None
        self.encoder = CocolmEncoder(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the token embeddings."""
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Put other token embeddings in their place."""
        self.embeddings.word_embeddings = value

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> BaseModelOutput:
        """Return hidden states [batch, tokens, hidden] of ids [batch, tokens].

        The mask [batch, tokens] is 0 at padding (None: no padding); a row of nothing but padding has zeros as its
        attention. Segments (None: all 0) are unused without segment embeddings. `output_hidden_states` (None: as the
        config says) returns the embeddings and every layer's output too.

        Raises:
            InputError: more tokens than the model has positions.
        """
        tokens, positions = input_ids.shape[1], self.config.max_position_embeddings
        if tokens > positions:
            raise InputError(f"COCO-LM has {positions} positions, found {tokens} tokens; shorten the texts")
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        mask = mask.bool()
        states = [self.embeddings(input_ids, mask, token_type_ids)]
        states += self.encoder(states[0], self._bias(mask), mask.any(dim=1))
        wanted = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        return BaseModelOutput(last_hidden_state=states[-1], hidden_states=tuple(states) if wanted else None)

    def _bias(self, mask: Tensor) -> Tensor:
        """Return what is added to attention logits, [batch, heads or 1, tokens or 1, tokens].

        Padded keys get minus infinity, except in rows of nothing but padding: their softmax must stay finite.
        """
        keys = (mask | ~mask.any(dim=1, keepdim=True))[:, None, None, :]
        if self.relative_attention_bias is None:
            bias = torch.zeros((), dtype=self.dtype, device=mask.device)
        else:
            bias = self.relative_attention_bias(torch.arange(mask.shape[1], device=mask.device))
        return torch.where(keys, bias, -torch.inf)

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, RelativePositionBias):
            # Buffers that no file holds come out of from_pretrained's meta device without their values.
            initialization.copy_(module.buckets, module.distance_buckets())


class CocolmEmbeddings(nn.Module):
    """Token, position and, where there are any, segment embeddings."""

    def __init__(self, config: CocolmConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=0)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        n_kinds = config.type_vocab_size
        self.token_type_embeddings = nn.Embedding(n_kinds, config.hidden_size) if n_kinds else None
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, mask: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """Return embeddings [batch, tokens, hidden] of ids [batch, tokens], zeros where the mask is false."""
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        vectors = self.word_embeddings(input_ids) + self.position_embeddings(positions)
        if self.token_type_embeddings is not None:
            segments = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
            vectors = vectors + self.token_type_embeddings(segments)
        embedded: Tensor = self.dropout(self.LayerNorm(vectors))
        return embedded * mask[:, :, None]


class RelativePositionBias(nn.Embedding):
    """One learnt number per head and bucket of position differences."""

    buckets: Tensor
    """The bucket of difference d, int64, at place d + max_position_embeddings - 1."""

    def __init__(self, config: CocolmConfig) -> None:
        super().__init__(config.rel_pos_bins, config.num_attention_heads)
        self.n_positions = config.max_position_embeddings
        self.max_rel_pos = config.max_rel_pos
        self.register_buffer("buckets", self.distance_buckets(), persistent=False)

    def distance_buckets(self) -> Tensor:
        """Compute `buckets` again."""
        return relative_buckets(self.n_positions, bins=self.num_embeddings, max_rel_pos=self.max_rel_pos)

    def forward(self, input: Tensor) -> Tensor:
        """Return the bias [heads, tokens, tokens], query before key, of tokens at positions [tokens]."""
        differences = input[None, :] - input[:, None]
        return super().forward(self.buckets[differences + self.n_positions - 1]).permute(2, 0, 1)


def relative_buckets(n_positions: int, *, bins: int, max_rel_pos: int) -> Tensor:
    """Return the buckets of the position differences key - query from 1 - n_positions to n_positions - 1.

    With half = bins / 2 and exact = half / 2, a distance |d| below exact is its own magnitude; a longer one has
    exact + ceil(ln(|d| / exact) / ln((max_rel_pos - 1) / exact) * (half - 1 - exact)), at most half - 1. The bucket
    is sign(d) * magnitude, shifted so that the lowest is 0.
    """
    half = bins // 2
    exact = half // 2
    differences = torch.arange(1 - n_positions, n_positions)
    distances = differences.abs()
    share = torch.log(distances.clamp(min=exact).double() / exact) / math.log((max_rel_pos - 1) / exact)
    # A share that is a whole number but for rounding must not be rounded up to the next.
    far = exact + torch.ceil(share * (half - 1 - exact) - 1e-9).long()
    signed = differences.sign() * torch.where(distances < exact, distances, far.clamp(max=half - 1))
    return signed - signed.min()


class CocolmEncoder(nn.Module):
    """The layers, from the embeddings up."""

    def __init__(self, config: CocolmConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(CocolmLayer(config) for _ in range(config.num_hidden_layers))

    def forward(self, hidden: Tensor, bias: Tensor, has_keys: Tensor) -> list[Tensor]:
        """Return every layer's output [batch, tokens, hidden]; bias as `CocolmModel._bias`, has_keys [batch] bool."""
        states = []
        for layer in self.layer:
            hidden = layer(hidden, bias, has_keys)
            states.append(hidden)
        return states


class CocolmLayer(GradientCheckpointingLayer):  # type: ignore[misc]
    """Attention and a feed-forward network, a LayerNorm behind the residual of each."""

    def __init__(self, config: CocolmConfig) -> None:
        super().__init__()
        self.attention = CocolmAttention(config)
        self.intermediate = CocolmIntermediate(config)
        self.output = CocolmOutput(config)

    def forward(self, hidden: Tensor, bias: Tensor, has_keys: Tensor) -> Tensor:
        """Return hidden states of the next layer; shapes as in `CocolmEncoder`."""
        attended = self.attention(hidden, bias, has_keys)
        output: Tensor = self.output(self.intermediate(attended), attended)
        return output


class CocolmAttention(nn.Module):
    """Self-attention with its residual and LayerNorm."""

    def __init__(self, config: CocolmConfig) -> None:
        super().__init__()
        self.self_attn = CocolmSelfAttention(config)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden: Tensor, bias: Tensor, has_keys: Tensor) -> Tensor:
        """Return attended hidden states; shapes as in `CocolmEncoder`."""
        attended: Tensor = self.LayerNorm(hidden + self.dropout(self.self_attn(hidden, bias, has_keys)))
        return attended


class CocolmSelfAttention(nn.Module):
    """Multi-head attention with query, key and value in one projection."""

    def __init__(self, config: CocolmConfig) -> None:
        super().__init__()
        self.config = config
        self.n_heads = config.num_attention_heads
        self.head_size = config.hidden_size // config.num_attention_heads
        self.in_proj = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor, bias: Tensor, has_keys: Tensor) -> Tensor:
        """Return the projected context of every token; shapes as in `CocolmEncoder`."""
        batch, tokens, size = hidden.shape
        projected = self.in_proj(hidden).view(batch, tokens, 3, self.n_heads, self.head_size)
        query, key, value = projected.permute(2, 0, 3, 1, 4)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention)
        dropout = self.config.attention_probs_dropout_prob if self.training else 0.0
        context, _ = attend(
            self, query, key, value, bias, dropout=dropout, scaling=self.head_size**-0.5, is_causal=False
        )
        output: Tensor = self.out_proj(context.reshape(batch, tokens, size) * has_keys[:, None, None])
        return output


def eager_attention(
    module: nn.Module,  # noqa: ARG001 - transformers' attention interface
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    *,
    dropout: float,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Return context [batch, tokens, heads, head_size] and weights [batch, heads, tokens, tokens], step by step.

    Query, key and value are [batch, heads, tokens, head_size]; the mask is added to the logits.
    """
    logits = (query * scaling) @ key.transpose(-1, -2) + attention_mask
    weights = functional.dropout(logits.softmax(dim=-1), dropout)
    return (weights @ value).transpose(1, 2), weights


class CocolmIntermediate(nn.Module):
    """The wide half of the feed-forward network."""

    def __init__(self, config: CocolmConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return [batch, tokens, intermediate] from [batch, tokens, hidden]."""
        return functional.gelu(self.dense(hidden))


class CocolmOutput(nn.Module):
    """The narrow half of the feed-forward network with its residual and LayerNorm."""

    def __init__(self, config: CocolmConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.intermediate_size, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, wide: Tensor, residual: Tensor) -> Tensor:
        """Return [batch, tokens, hidden] from [batch, tokens, intermediate] and a residual [batch, tokens, hidden]."""
        output: Tensor = self.LayerNorm(residual + self.dropout(self.dense(wide)))
        return output


def register() -> None:
    """Let transformers' Auto classes know COCO-LM by its `model_type`; once more does no harm."""
    AutoConfig.register(CocolmConfig.model_type, CocolmConfig, exist_ok=True)
    AutoModel.register(CocolmConfig, CocolmModel, exist_ok=True)
    AutoTokenizer.register(CocolmConfig, tokenizer_class=CocolmTokenizer, exist_ok=True)
