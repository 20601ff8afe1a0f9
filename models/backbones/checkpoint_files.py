"""A backbone's files: reading its config, its tokenizer and its weights."""

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from data_prep.errors import InputError
from data_prep.store.file_starts import refuse_pointers
from data_prep.store.weight_folders import EMBEDDING_FILE
from data_prep.wording import count
from models.backbones.known_architectures import model_type_of, require_architecture
from models.backbones.tokenizer_check import check_tokenizer, tokenizer_files

SHIFTING = frozenset({"bart", "mbart", "mvp", "plbart"})
"""Encoder-decoders that give their decoder the same text, one token later; of all others the encoder alone is used."""
LAYERWISE = ("attention_layers", "attention_window", "layer_types", "mlp_layer_types", "no_rope_layers")
"""Keys of configs that hold a list with an entry for each layer."""
POOLING = frozenset({"layoutlm", "squeezebert"})
"""Architectures that call their pooler without asking whether there is one."""
EMBEDDING = "embedding"
"""Name of the one tensor, the table of input embeddings, in the file `embedding.safetensors` of a kept backbone."""
UNUSED = re.compile(r"pooler\.|entity_embeddings\.")
"""Weights that no head looks at: missing ones are not reported."""
LEARNABLE = {
    "funnel": re.compile(r"decoder\."),
    "": re.compile(r"embeddings\.(token|task)_type_embeddings\."),
}
"""Model type (empty: any) -> weights that can start from random values, as a head does: missing ones give a warning.

Funnel's published `-base` checkpoints come without the decoder; converted ones may lack a table of segments."""


@dataclass(frozen=True)
class BackboneFiles:
    """A located backbone; every method raises `InputError` where the files cannot be loaded."""

    name: str
    """As the candidate names it."""
    place: str
    """The local folder, or the hub name where no folder has it."""
    kept: bool = False
    """Whether the folder is one of `models.backbones.kept_backbone`: its only weights are the embeddings."""

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer, as `check_tokenizer` wants it; without a padding token it pads with its end token, masked."""
        config = self._load(AutoConfig.from_pretrained)
        try:
            tokenizer = self._load(AutoTokenizer.from_pretrained)
        except InputError as error:
            files = tokenizer_files(config.model_type, self.place)
            raise InputError(f"{error}; {files}" if files else str(error)) from error
        check_tokenizer(tokenizer, config, name=self.name, place=self.place)
        if tokenizer.pad_token_id is None:
            if tokenizer.eos_token_id is None:
                raise InputError(
                    f"backbone {self.name!r}: its tokenizer has neither a padding token nor an end token; name one as "
                    f"pad_token in {self.place}/tokenizer_config.json"
                )
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    def config(self, *, layers: int | None = None, dropout: float | None = None) -> Any:
        """Return the config of the model that is used here.

        `layers` (None: all) are counted from the input: of an encoder-decoder as many decoder layers are kept, of a
        Funnel the whole decoder; of an ALBERT it is how often its one layer is applied. `dropout` is the probability of
        every dropout inside, attention included (None: the checkpoint's).
        """
        config = trim(self._load(AutoConfig.from_pretrained))
        if layers is not None:
            keep_layers(config, layers, self.name)
        if dropout is not None:
            _set_dropout(config, dropout)
        return config

    def model(self, config: Any) -> Any:
        """Return the encoder of a config, in fp32 and without what its hidden states do not need (see `bare_encoder`).

        Of a kept backbone only the embeddings have values yet.

        Raises:
            InputError: the checkpoint leaves weights of the encoder without values, or its weights have other sizes.
        """
        if self.kept:
            return bare_encoder(_model_without_weights(Path(self.place), config), self.tokenizer.pad_token_id)
        settings = {"config": config, "dtype": torch.float32, "output_loading_info": True}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # of weights without values
            model, report = self._load(AutoModel.from_pretrained, **settings)
        _check_missing(sorted(report["missing_keys"]), self.name, config.model_type, type(model).__name__)
        return bare_encoder(model, self.tokenizer.pad_token_id)

    def _load(self, load: Callable[..., Any], **settings: Any) -> Any:
        """Load from disk (folder or hub cache); only what is in neither is requested from the hub."""
        settings |= {"trust_remote_code": False}
        try:
            with quiet():
                if Path(self.place).is_dir():
                    refuse_pointers(self.place)
                    return _load_known(load, self.place, **settings)
                try:
                    return _load_known(load, self.place, local_files_only=True, **settings)
                except OSError:
                    return _load_known(load, self.place, **settings)
        except (InputError, MemoryError):
            raise
        except Exception as error:  # whatever damaged files bring about; tokenizers raises bare ones
            if Path(self.place).is_dir():
                raise InputError(
                    f"backbone {self.name!r}: {self.place} cannot be loaded: {first_line(error)}"
                ) from error
            raise InputError(
                f"backbone {self.name!r} is not in the hub cache, and the hub cannot be reached or does not have it; "
                f"put its checkpoint folder (config.json, weights, tokenizer) at DIR/{self.name} and give "
                f"`--backbones DIR` ({first_line(error)})"
            ) from error


def _load_known(load: Callable[..., Any], place: str, *, local_files_only: bool = False, **settings: Any) -> Any:
    """Load from a folder or the hub what transformers knows, or has just been told."""
    require_architecture(model_type_of(place, local_files_only=local_files_only))
    return load(place, local_files_only=local_files_only, **settings)


def trim(config: Any) -> Any:
    """Change a config in place to the model that is used here, and return it.

    Some Funnel checkpoints ask for the encoder alone, whose states are pooled. LUKE's queries between words and
    entities would never be used.
    """
    if config.model_type == "funnel":
        config.architectures = ["FunnelModel"]
    if config.model_type == "luke":
        config.use_entity_aware_attention = False
    return config


def bare_encoder(model: Any, padding_id: int = 0) -> Any:
    """Return the part of a model that its hidden states need: no pooler, cache or decoder with inputs of its own.

    Where the config names no padding, it is `padding_id`.
    """
    if model.config.is_encoder_decoder and model.config.model_type not in SHIFTING:
        model = model.get_encoder()
    for unused in ("pooler", "entity_embeddings"):
        if getattr(model, unused, None) is not None:
            setattr(model, unused, Nothing() if model.config.model_type in POOLING else None)
    model.config.use_cache = False
    if getattr(model.config, "pad_token_id", None) is None:
        model.config.pad_token_id = padding_id  # by which BART shifts tokens
        for module in model.modules():
            if not isinstance(module, nn.Embedding) and getattr(module, "padding_idx", padding_id) is None:
                module.padding_idx = padding_id  # by which RoBERTa counts positions
                if hasattr(module, "position_embeddings"):
                    module.position_embeddings.padding_idx = padding_id
    return model


class Nothing(nn.Module):
    """Stands in for the pooler of `POOLING` architectures."""

    def forward(self, *_: Any) -> None:
        """Return nothing."""


def keep_layers(config: Any, layers: int, name: str) -> None:
    """Change a config in place to that many layers; of a Funnel or an encoder-decoder as `BackboneFiles.config` says.

    Raises:
        InputError: there are fewer layers.
    """
    if layers > config.num_hidden_layers:
        raise InputError(f"layers={layers}: backbone {name!r} has only {config.num_hidden_layers} encoder layers")
    if config.model_type == "funnel":
        below = np.cumsum([0, *config.block_sizes[:-1]])
        sizes = np.minimum(config.block_sizes, layers - below).tolist()
        config.block_sizes = [size for size in sizes if size > 0]
        config.block_repeats = config.block_repeats[: len(config.block_sizes)]
        return
    for key in LAYERWISE:
        if isinstance(values := getattr(config, key, None), list):
            setattr(config, key, values[:layers])
    config.num_hidden_layers = layers
    if config.model_type in SHIFTING:
        config.decoder_layers = min(layers, config.decoder_layers)


def _set_dropout(config: Any, dropout: float) -> None:
    for key, value in config.to_dict().items():
        if type(value) in (int, float) and ("dropout" in key or key.endswith("pdrop")):
            setattr(config, key, dropout)


def _model_without_weights(folder: Path, config: Any) -> Any:
    """Return the model of a config with the embeddings of a kept backbone; all other weights have no values yet."""
    from transformers.initialization import no_init_weights  # noqa: PLC0415 - not in versions that are refused

    path = folder / EMBEDDING_FILE
    try:
        table = load_file(path)[EMBEDDING]
        with quiet(), no_init_weights():
            model = AutoModel.from_config(config, dtype=torch.float32)
        model.tie_weights()
        with torch.no_grad():
            model.get_input_embeddings().weight.copy_(table)
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise InputError(f"{path}: not the embeddings of the config beside it ({first_line(error)})") from error
    return model


def _check_missing(keys: Sequence[str], name: str, model_type: str, model: str) -> None:
    """Refuse an encoder that is random in part, usually for a wrong prefix or a wrong config; warn of lesser parts."""
    learnable = [LEARNABLE[kind] for kind in ("", model_type) if kind in LEARNABLE]
    keys = [key for key in keys if not UNUSED.match(key)]
    warned = [key for key in keys if any(pattern.match(key) for pattern in learnable)]
    missing = [key for key in keys if key not in warned]
    if missing:
        raise InputError(
            f"backbone {name!r}: the checkpoint has no values for {count(len(missing), 'weight')} of {model}, "
            f"such as {', '.join(missing[:3])}; its files and its config.json do not belong together"
        )
    if warned:
        warnings.warn(
            f"backbone {name!r}: the checkpoint has no values for {count(len(warned), 'weight')} of {model}, which "
            f"start from random ones: {', '.join(warned)}",
            stacklevel=2,
        )


def first_line(error: Exception) -> str:
    """Return what an error says first."""
    return str(error).strip().split("\n", 1)[0]


@contextmanager
def quiet() -> Iterator[None]:
    """Silence loading reports, retries and bars: what matters in them is checked or reported here."""
    loggers = [logging.getLogger(name) for name in ("transformers", "huggingface_hub")]
    levels, bars = [logger.level for logger in loggers], transformers_logging.is_progress_bar_enabled()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()
