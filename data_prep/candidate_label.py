"""`candidate_label`: the short name by which a person recognizes a candidate."""

from collections.abc import Mapping
from typing import Any


def candidate_label(settings: Mapping[str, Any]) -> str:
    """Return backbone, kept layers, recipe, head, loss of a candidate's settings; what these lack is left out."""
    backbone = str(settings["backbone"]).rstrip("/").rsplit("/", 1)[-1]
    depth = f"-k{settings['layers']}" if settings.get("layers") else ""
    choices = [str(settings[key]) for key in ("recipe", "head", "loss") if key in settings]
    return "-".join([backbone + depth, *choices])
