"""What a family's released sizes come to: its config, parameters, memory in training, share of a GPU."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from transformers import AutoConfig, AutoModel

from models.backbones.checkpoint_files import SHIFTING, bare_encoder, trim
from models.backbones.families import FAMILIES, Family
from models.backbones.known_architectures import require_architecture

BATCH, TOKENS = 16, 128
"""Rows and tokens of the batch that memory is computed for."""
GIB = 2**30
GPU_GIB = 24
SHARES = (("1/4", 1 / 4), ("1/3", 1 / 3), ("1/2", 1 / 2), ("1", 1.0))


def family_config(family: Family, **changes: Any) -> Any:
    """Return the transformers config of a family, with some of its sizes changed."""
    require_architecture(family.model_type)
    return AutoConfig.for_model(family.model_type, **(dict(family.sizes) | changes))


@lru_cache
def count_parameters(name: str) -> int:
    """Return the parameters of a family's encoder as it is used here (without pooler), from its config alone."""
    config = trim(family_config(FAMILIES[name]))
    with torch.device("meta"):
        model = bare_encoder(AutoModel.from_config(config))
    return sum(parameter.numel() for parameter in model.parameters())


def training_memory(name: str, *, batch: int = BATCH, tokens: int = TOKENS) -> float:
    """Return the bytes of GPU memory that training needs, as computed, not as measured.

    18 P + activations + 1 GiB. P parameters take 4 bytes each for the fp32 weight, 4 for its gradient, 8 for AdamW's
    two moments, 2 for the bf16 copy that autocast keeps until the way back. A layer with hidden size h, intermediate
    size i and a heads keeps, for each of b texts of s tokens,

        s (22 h + 4 i + 7 a s) bytes:

    15 h + 7 a s by attention (its input, query, key, value and context in bf16, a dropout mask, the LayerNorm's input
    in fp32; for each score an fp32 softmax, a mask and a bf16 copy), 7 h + 4 i by the two dense layers. A decoder
    layer attends twice. The layers of Funnel's block number k see s / 2^k tokens. The last GiB is CUDA's own.

    Fused attention, short texts and the embeddings of a task's own vocabulary need less: this is an upper estimate.
    Counted as in Korthikanti et al. 2022 (arXiv 2205.05198), for autocast instead of pure half precision.
    """
    config = family_config(FAMILIES[name])
    return 18 * count_parameters(name) + sum(layer_bytes(config, batch=batch, tokens=tokens)) + GIB


def layer_bytes(config: Any, *, batch: int, tokens: int, element: int = 2) -> list[float]:
    """Return what each layer keeps for the way back, in bytes; `training_memory` has the formula for 2-byte elements.

    With elements of e bytes, 2 for bf16 and fp16, 4 for fp32, it is s ((6 e + 10) h + 2 e i + (5 + e) a s): what is
    computed in fp32 whatever the precision (the LayerNorms' input, softmax) and the dropout masks keep their size. In
    fp32 the LayerNorm's output, which autocast copies, is kept as it is.
    """
    hidden, heads = config.hidden_size, config.num_attention_heads
    wide = intermediate_size(config)
    found = []
    for length, attentions in layer_lengths(config, tokens):
        attention = attentions * ((5 * element + 5) * hidden + (5 + element) * heads * length)
        found.append(batch * length * (attention + (element + 5) * hidden + 2 * element * wide))
    return found


def intermediate_size(config: Any) -> int:
    """Return the width between the two dense matrices of a layer."""
    keys = ("intermediate_size", "d_inner", "encoder_ffn_dim")
    return next(int(getattr(config, key)) for key in keys if key in config)


def layer_lengths(config: Any, tokens: float) -> Sequence[tuple[float, int]]:
    """Return the tokens that each layer sees, and how many attentions it has."""
    if config.model_type == "funnel":
        blocks = [(tokens / 2**number, 1) for number, size in enumerate(config.block_sizes) for _ in range(size)]
        return [*blocks, *[(tokens, 1)] * config.num_decoder_layers]
    decoder = config.decoder_layers if config.model_type in SHIFTING else 0
    return [(tokens, 1)] * config.num_hidden_layers + [(tokens, 2)] * decoder


def gpu_share(memory: float) -> str:
    """Return the least of `SHARES` of a GPU of 24 GiB that holds `memory` bytes; "more" where none does."""
    return next((name for name, share in SHARES if memory <= share * GPU_GIB * GIB), "more")


def released_config(backbone: str) -> Any | None:
    """Return the config of a family by its name or hub name, as used here; None where no family has it."""
    for name, family in FAMILIES.items():
        if backbone in (name, family.hub):
            return trim(family_config(family))
    return None


def table() -> str:
    """Return the families as the Markdown table of docs/backbones.md."""
    lines = ["| family | hub name | parameters | memory | share | tokenizer | quirk |", "|---|---|--:|--:|--:|---|---|"]
    for name, family in FAMILIES.items():
        memory = training_memory(name)
        cells = (
            name,
            f"`{family.hub}`",
            f"{count_parameters(name) / 1e6:.0f} M",
            f"{memory / GIB:.1f} GiB",
            gpu_share(memory),
            family.tokenizer,
            family.quirk,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
