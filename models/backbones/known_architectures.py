"""What the installed transformers can load: COCO-LM is added where a checkpoint asks for it, old versions refused."""

from typing import Any

import transformers
from transformers.configuration_utils import PretrainedConfig

from data_prep.errors import InputError

OLDEST = (5, 0)
ADDED = {"cocolm": ("COCO-LM", (5, 4))}
"""Our own architectures by model type: the name, and the first version whose configs are dataclasses, as theirs are."""


def require_architecture(model_type: str | None) -> None:
    """Let transformers' Auto classes know a model type; once more does no harm.

    Raises:
        InputError: the installed transformers is too old for it.
    """
    name, oldest = ADDED.get(model_type or "", ("blendfold", OLDEST))
    if tuple(map(int, transformers.__version__.split(".")[:2])) < oldest:
        wanted = ".".join(map(str, oldest))
        raise InputError(
            f"{name} needs transformers {wanted} or newer, found {transformers.__version__}: "
            f"pip install 'transformers>={wanted}'"
        )
    if model_type in ADDED:
        from models.backbones.cocolm import register  # noqa: PLC0415 - cannot be imported beside an older version

        register()


def model_type_of(place: str, **settings: Any) -> str | None:
    """Return the model type in the config.json of a folder, or of a name on the hub."""
    config, _ = PretrainedConfig.get_config_dict(place, **settings)
    found: str | None = config.get("model_type")
    return found
