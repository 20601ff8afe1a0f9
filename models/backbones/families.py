"""The backbones known by name: where they lie, their released sizes, what to know before using one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SHIPPED = "minilm-l6"
"""The family whose weights come through the package index."""


@dataclass(frozen=True)
class Family:
    """A published backbone."""

    hub: str
    """Its hub name; `minilm-l6` also comes through the package index."""
    model_type: str
    """What transformers calls its architecture."""
    sizes: Mapping[str, Any]
    """Its released config, where that differs from the architecture's defaults."""
    quirk: str
    """What to know before using it, in one sentence."""

    @property
    def tokenizer(self) -> str:
        """The class of its tokenizer."""
        return TOKENIZER_CLASSES[self.model_type]

    @property
    def summary(self) -> str:
        """One line for a list: where it lies, what to know."""
        return f"{self.hub}. {self.quirk}"


def _sizes(vocabulary: int, hidden: int, layers: int, **more: Any) -> dict[str, Any]:
    """Return the sizes of an encoder of BERT's shape: 64 dimensions a head, intermediate size four times the hidden."""
    usual = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 64,
        "intermediate_size": 4 * hidden,
    }
    return usual | more


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
MPNET = _sizes(30527, 768, 12, max_position_embeddings=514, layer_norm_eps=1e-5)
FUNNEL = {"architectures": ["FunnelModel"], "vocab_size": 30522, "d_model": 1024, "n_head": 16, "d_inner": 4096}

COCOLM = {"layer_norm_eps": 1e-5, "rel_pos_bins": 64}

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

TOKENIZER_CLASSES = {
    "albert": "AlbertTokenizer",
    "bart": "RobertaTokenizer",
    "bert": "BertTokenizer",
    "cocolm": "CocolmTokenizer",
    "deberta": "DebertaTokenizer",
    "deberta-v2": "DebertaV2Tokenizer",
    "electra": "BertTokenizer",
    "ernie": "BertTokenizer",
    "funnel": "FunnelTokenizer",
    "luke": "LukeTokenizer",
    "mpnet": "MPNetTokenizer",
    "roberta": "RobertaTokenizer",
}
"""Model type -> class of its tokenizer."""

FAMILIES: dict[str, Family] = {
    SHIPPED: Family(
        "sentence-transformers/all-MiniLM-L6-v2",
        "bert",
        _sizes(30522, 384, 6, num_attention_heads=12),
        "The one with weights in the package index; a sentence embedder, small enough for a CPU.",
    ),
    "bert-for-patents": Family(
        "anferico/bert-for-patents",
        "bert",
        _sizes(39859, 1024, 24),
        "Pretrained on patents, with a vocabulary of their words.",
    ),
    "deberta-v3-large": Family(
        "microsoft/deberta-v3-large",
        "deberta-v2",
        _sizes(128100, 1024, 24, **DEBERTA_V2),
        f"The best single backbone of the competition. {DEBERTA_QUIRK}",
    ),
    "deberta-v3-base": Family(
        "microsoft/deberta-v3-base",
        "deberta-v2",
        _sizes(128100, 768, 12, **DEBERTA_V2),
        DEBERTA_QUIRK,
    ),
    "deberta-v3-small": Family(
        "microsoft/deberta-v3-small",
        "deberta-v2",
        _sizes(128100, 768, 6, **DEBERTA_V2),
        f"Half the layers of the base, its width. {DEBERTA_QUIRK}",
    ),
    "deberta-v2-xlarge": Family(
        "microsoft/deberta-v2-xlarge",
        "deberta-v2",
        _sizes(128100, 1536, 24, **DEBERTA_V2, **CONVOLUTION),
        f"A convolution beside its first layer. {DEBERTA_QUIRK}",
    ),
    "deberta-large": Family(
        "microsoft/deberta-large",
        "deberta",
        _sizes(50265, 1024, 24, **DISENTANGLED),
        f"Version 1: byte-level tokens between [CLS] and [SEP]. {DEBERTA_QUIRK}",
    ),
    "roberta-base": Family("roberta-base", "roberta", _sizes(50265, 768, 12, **ROBERTA), ROBERTA_QUIRK),
    "roberta-large": Family("roberta-large", "roberta", _sizes(50265, 1024, 24, **ROBERTA), ROBERTA_QUIRK),
    "muppet-roberta-large": Family(
        "facebook/muppet-roberta-large",
        "roberta",
        _sizes(50265, 1024, 24, **ROBERTA),
        f"RoBERTa tuned on some 50 tasks. {ROBERTA_QUIRK}",
    ),
    "cocolm-large": Family("microsoft/cocolm-large", "cocolm", _sizes(64000, 1024, 24, **COCOLM), COCOLM_QUIRK),
    "cocolm-base": Family("microsoft/cocolm-base", "cocolm", _sizes(64000, 768, 12, **COCOLM), COCOLM_QUIRK),
    "patentsberta": Family("AI-Growth-Lab/PatentSBERTa", "mpnet", MPNET, MPNET_QUIRK),
    "patentsberta-v2": Family("AI-Growth-Lab/PatentSBERTa_V2", "mpnet", MPNET, MPNET_QUIRK),
    "funnel-xlarge": Family(
        "funnel-transformer/xlarge",
        "funnel",
        FUNNEL | {"block_sizes": [10, 10, 10]},
        FUNNEL_QUIRK,
    ),
    "funnel-large": Family(
        "funnel-transformer/large",
        "funnel",
        FUNNEL | {"block_sizes": [8, 8, 8]},
        FUNNEL_QUIRK,
    ),
    "ernie-2.0-large-en": Family(
        "nghuyong/ernie-2.0-large-en",
        "ernie",
        _sizes(30522, 1024, 24, type_vocab_size=4, use_task_id=True, task_type_vocab_size=16),
        "BERT's shape with a table of pretraining tasks; its row 0 is used; a folder that calls itself bert "
        "loads as well.",
    ),
    "albert-xxlarge-v2": Family(
        "albert-xxlarge-v2",
        "albert",
        _sizes(30000, 4096, 12, embedding_size=128, hidden_dropout_prob=0, attention_probs_dropout_prob=0),
        "One layer applied 12 times: few weights, as slow as its width; layer-wise rates have depth 1.",
    ),
    "electra-large-discriminator": Family(
        "google/electra-large-discriminator",
        "electra",
        _sizes(30522, 1024, 24, embedding_size=1024),
        "The discriminator; smaller ones project their embeddings up.",
    ),
    "luke-large": Family(
        "studio-ousia/luke-large",
        "luke",
        _sizes(50267, 1024, 24, **ROBERTA),
        "RoBERTa's shape; what it knows of entities (128 million embeddings, queries of their own) is left out.",
    ),
    "bart-large": Family(
        "facebook/bart-large",
        "bart",
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
