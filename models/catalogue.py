"""The catalogue: everything that a candidate can be made of, one line each."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.backbones.families import FAMILIES
from models.candidate import Candidate
from models.parts.adversary import ADVERSARIES
from models.parts.heads import HEADS
from models.parts.losses import LOSSES
from models.text.recipes import RECIPES

REGULARISERS = (
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


@dataclass(frozen=True)
class Entry:
    """One thing to choose."""

    name: str
    summary: str
    options: tuple[str, ...] = ()
    """Fields of the candidate that it alone heeds."""


def catalogue() -> dict[str, list[Entry]]:
    """Return what there is, by kind; kinds are fields of `Candidate` where there is one of that name."""
    return {
        "backbone": [Entry(name, family.summary) for name, family in FAMILIES.items()],
        "recipe": [Entry(name, recipe.summary, recipe.options) for name, recipe in RECIPES.items()],
        "head": _classes(HEADS),
        "loss": _classes(LOSSES),
        "adversary": _classes(ADVERSARIES),
        "regulariser": [_field(name) for name in REGULARISERS],
        "means": [_field(name) for name in MEANS],
    }


def _classes(registry: Mapping[str, Any]) -> list[Entry]:
    return [Entry(name, _first_paragraph(inspect.getdoc(kind)), kind.options) for name, kind in registry.items()]


def _field(name: str) -> Entry:
    return Entry(name, _first_paragraph(Candidate.model_fields[name].description))


def _first_paragraph(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].split())
