"""`label_of`: the short name by which a person recognises a candidate."""

from collections.abc import Mapping
from typing import Any


def label_of(settings: Mapping[str, Any]) -> str:
    """Return backbone, kept layers, recipe, head, loss of settings such as `candidates/<id>.json` holds."""
    backbone = settings["backbone"].rstrip("/").rsplit("/", 1)[-1]
    depth = f"-k{settings['layers']}" if settings["layers"] else ""
    return f"{backbone}{depth}-{settings['recipe']}-{settings['head']}-{settings['loss']}"
