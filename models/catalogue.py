"""The catalogue: everything that a candidate can be made of, one line each."""

from collections.abc import Mapping

from models.backbones.families import FAMILIES
from models.candidate import Candidate
from models.part_options import PART_OPTIONS, PartOption

REGULARIZERS = (
    "dropout",
    "head_dropout",
    "dropout_samples",
    "mixout",
    "reinit_layers",
    "layer_decay",
    "weight_decay",
    "clip_norm",
    "ema",
    "freeze_embeddings",
    "freeze_layers",
)
"""Fields of a candidate that restrain what it learns."""
MEANS = ("accumulation", "checkpointing", "precision")
"""Fields of a candidate that make it fit a device."""


def catalogue() -> dict[str, Mapping[str, PartOption]]:
    """Return what there is, by kind and name; kinds are fields of `Candidate` where there is one of that name."""
    return {
        "backbone": {name: PartOption(family.summary) for name, family in FAMILIES.items()},
        **PART_OPTIONS,
        "regularizer": {name: _field(name) for name in REGULARIZERS},
        "means": {name: _field(name) for name in MEANS},
    }


def _field(name: str) -> PartOption:
    return PartOption(" ".join((Candidate.model_fields[name].description or "").split()))
