"""Families: the backbones known by name, with their released sizes and what they cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import torch
from transformers import AutoConfig, AutoModel

from models.backbones import cocolm
from models.backbones.checkpoint_files import trim
from models.backbones.encoder import SHIFTING, bare_encoder

BATCH, TOKENS = 16, 128
"""Rows and tokens of the batch that memory is computed for."""
GIB = 2**30
GPU_GIB = 24
SHARES = (("1/4", 1 / 4), ("1/3", 1 / 3), ("1/2", 1 / 2), ("1", 1.0))


@dataclass(frozen=True)
class Family:
    """A published backbone."""

    hub: str
    """Its hub name; `minilm-l6` also comes through the package index."""
    model_type: str
    """What transformers calls its architecture."""
    tokenizer: str
    """The class of its tokenizer."""
    sizes: Mapping[str, Any]
    """Its released config, where that differs from the architecture's defaults."""
    quirk: str
    """What to know before using it, in one sentence."""

    @property
    def summary(self) -> str:
        """One line for a list: where it lies, what to know."""
        return f"{self.hub}. {self.quirk}"

    def config(self, **changes: Any) -> Any:
        """Return its transformers config, with some of its sizes changed."""
        cocolm.register()
        return AutoConfig.for_model(self.model_type, **(dict(self.sizes) | changes))


@lru_cache
def count_parameters(name: str) -> int:
    """Return the parameters of a family's encoder as it is used here (without pooler), from its config alone."""
    config = trim(FAMILIES[name].config())
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

    Args:
        name: of a family.
        batch: texts of a step.
        tokens: tokens of each text.
    """
    config = FAMILIES[name].config()
    return 18 * count_parameters(name) + sum(layer_bytes(config, batch=batch, tokens=tokens)) + GIB


def layer_bytes(config: Any, *, batch: int, tokens: int, element: int = 2) -> list[float]:
    """Return what each layer keeps for the way back, in bytes; `training_memory` has the formula for 2-byte elements.

    With elements of e bytes it is s ((6 e + 10) h + 2 e i + (5 + e) a s): what is computed in fp32 whatever the
    precision (the LayerNorms' input, softmax) and the dropout masks keep their size. In fp32 the LayerNorm's output,
    which autocast copies, is kept as it is.

    Args:
        config: of a backbone.
        batch: texts of a step.
        tokens: tokens of each text.
        element: bytes of a number in matrix products; 2 for bf16 and fp16, 4 for fp32.
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
            return trim(family.config())
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


def _sizes(vocabulary: int, hidden: int, layers: int, more: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """Return the sizes of an encoder of BERT's shape: 64 dimensions a head, intermediate size four times the hidden."""
    usual = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 64,
        "intermediate_size": 4 * hidden,
    }
    return usual | dict(more)


DISENTANGLED = {
    "layer_norm_eps": 1e-7,
    "type_vocab_size": 0,
    "relative_attention": True,
    "position_biased_input": False,
    "max_relative_positions": -1,
    "pos_att_type": ["p2c", "c2p"],
}
DEBERTA_V2 = DISENTANGLED | {"position_buckets": 256, "norm_rel_ebd": "layer_norm", "share_att_key": True}
CONVOLUTION = {"attention_head_size": 64, "conv_kernel_size": 3, "conv_act": "gelu"}
ROBERTA = {"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
MPNET = _sizes(30527, 768, 12, {"max_position_embeddings": 514, "layer_norm_eps": 1e-5})
FUNNEL = {"architectures": ["FunnelModel"], "vocab_size": 30522, "d_model": 1024, "n_head": 16, "d_inner": 4096}

DEBERTA_QUIRK = "No absolute positions, no segments; attention in plain torch, so slower than its size suggests."
COCOLM_QUIRK = "Not in transformers, implemented here; no segments; sizes from its paper, not compared with its files."
MPNET_QUIRK = "A sentence embedder on MPNet, made for mean pooling; no segments; positions count from 2."
FUNNEL_QUIRK = (
    "States at full length come from its decoder, always kept; every batch gets 6 more tokens of padding, "
    "so that padding changes nothing."
)
ROBERTA_QUIRK = (
    "A word's first token differs at a text's start from behind a space; no segments; positions count from 2."
)

FAMILIES: dict[str, Family] = {
    "minilm-l6": Family(
        "sentence-transformers/all-MiniLM-L6-v2",
        "bert",
        "BertTokenizer",
        _sizes(30522, 384, 6, {"num_attention_heads": 12}),
        "The one with weights in the package index; a sentence embedder, small enough for a CPU.",
    ),
    "bert-for-patents": Family(
        "anferico/bert-for-patents",
        "bert",
        "BertTokenizer",
        _sizes(39859, 1024, 24),
        "Pretrained on patents, with a vocabulary of their words.",
    ),
    "deberta-v3-large": Family(
        "microsoft/deberta-v3-large",
        "deberta-v2",
        "DebertaV2Tokenizer",
        _sizes(128100, 1024, 24, DEBERTA_V2),
        f"The best single backbone of the competition. {DEBERTA_QUIRK}",
    ),
    "deberta-v3-base": Family(
        "microsoft/deberta-v3-base",
        "deberta-v2",
        "DebertaV2Tokenizer",
        _sizes(128100, 768, 12, DEBERTA_V2),
        DEBERTA_QUIRK,
    ),
    "deberta-v3-small": Family(
        "microsoft/deberta-v3-small",
        "deberta-v2",
        "DebertaV2Tokenizer",
        _sizes(128100, 768, 6, DEBERTA_V2),
        f"Half the layers of the base, its width. {DEBERTA_QUIRK}",
    ),
    "deberta-v2-xlarge": Family(
        "microsoft/deberta-v2-xlarge",
        "deberta-v2",
        "DebertaV2Tokenizer",
        _sizes(128100, 1536, 24, DEBERTA_V2 | CONVOLUTION),
        f"A convolution beside its first layer. {DEBERTA_QUIRK}",
    ),
    "deberta-large": Family(
        "microsoft/deberta-large",
        "deberta",
        "DebertaTokenizer",
        _sizes(50265, 1024, 24, DISENTANGLED),
        f"Version 1: byte-level tokens between [CLS] and [SEP]. {DEBERTA_QUIRK}",
    ),
    "roberta-base": Family(
        "roberta-base", "roberta", "RobertaTokenizer", _sizes(50265, 768, 12, ROBERTA), ROBERTA_QUIRK
    ),
    "roberta-large": Family(
        "roberta-large",
        "roberta",
        "RobertaTokenizer",
        _sizes(50265, 1024, 24, ROBERTA),
        ROBERTA_QUIRK,
    ),
    "muppet-roberta-large": Family(
        "facebook/muppet-roberta-large",
        "roberta",
        "RobertaTokenizer",
        _sizes(50265, 1024, 24, ROBERTA),
        f"RoBERTa tuned on some 50 tasks. {ROBERTA_QUIRK}",
    ),
    "cocolm-large": Family(
        "microsoft/cocolm-large",
        "cocolm",
        "CocolmTokenizer",
        _sizes(64000, 1024, 24),
        COCOLM_QUIRK,
    ),
    "cocolm-base": Family(
        "microsoft/cocolm-base",
        "cocolm",
        "CocolmTokenizer",
        _sizes(64000, 768, 12),
        COCOLM_QUIRK,
    ),
    "patentsberta": Family("AI-Growth-Lab/PatentSBERTa", "mpnet", "MPNetTokenizer", MPNET, MPNET_QUIRK),
    "patentsberta-v2": Family("AI-Growth-Lab/PatentSBERTa_V2", "mpnet", "MPNetTokenizer", MPNET, MPNET_QUIRK),
    "funnel-xlarge": Family(
        "funnel-transformer/xlarge",
        "funnel",
        "FunnelTokenizer",
        FUNNEL | {"block_sizes": [10, 10, 10]},
        FUNNEL_QUIRK,
    ),
    "funnel-large": Family(
        "funnel-transformer/large",
        "funnel",
        "FunnelTokenizer",
        FUNNEL | {"block_sizes": [8, 8, 8]},
        FUNNEL_QUIRK,
    ),
    "ernie-2.0-large-en": Family(
        "nghuyong/ernie-2.0-large-en",
        "ernie",
        "BertTokenizer",
        _sizes(30522, 1024, 24, {"type_vocab_size": 4, "use_task_id": True, "task_type_vocab_size": 16}),
        "BERT's shape with a table of pretraining tasks, of which row 0 is used; a folder that calls itself bert "
        "loads as well.",
    ),
    "albert-xxlarge-v2": Family(
        "albert-xxlarge-v2",
        "albert",
        "AlbertTokenizer",
        _sizes(30000, 4096, 12, {"embedding_size": 128, "hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0}),
        "One layer applied 12 times: few weights, as slow as its width; layer-wise rates have depth 1.",
    ),
    "electra-large-discriminator": Family(
        "google/electra-large-discriminator",
        "electra",
        "BertTokenizer",
        _sizes(30522, 1024, 24, {"embedding_size": 1024}),
        "The discriminator; smaller ones project their embeddings up.",
    ),
    "luke-large": Family(
        "studio-ousia/luke-large",
        "luke",
        "LukeTokenizer",
        _sizes(50267, 1024, 24, ROBERTA),
        "RoBERTa's shape; what it knows of entities (128 million embeddings, queries of their own) is left out.",
    ),
    "bart-large": Family(
        "facebook/bart-large",
        "bart",
        "RobertaTokenizer",
        {
            "vocab_size": 50265,
            "d_model": 1024,
            "encoder_layers": 12,
            "decoder_layers": 12,
            "max_position_embeddings": 1024,
        },
        "States are the decoder's: each belongs to the token before its place; layers keeps as many of each half.",
    ),
}
"""Name -> family; the name is the hub name's last part where that is clear enough."""
