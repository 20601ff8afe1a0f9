"""Reads the ladder settings that `replay --ladder` takes on the command line."""

import re

from data_prep.errors import InputError
from data_prep.store.yaml_documents import check_document, read_document
from data_prep.store.yaml_values import parse_yaml
from search.ladder.settings import LadderSettings


def read_ladder_option(text: str | None) -> LadderSettings:
    """Read ladder settings from a YAML file or from `KEY=VALUE,...`; the others keep their defaults.

    Raises:
        InputError: neither a file nor pairs, an unknown key, or a value that does not fit.
    """
    if not text:
        return LadderSettings()
    if "=" not in text:
        return read_document(text, LadderSettings)
    parts = re.split(r",(?![^\[]*\])", text)
    if wrong := [part for part in parts if "=" not in part]:
        raise InputError(f"--ladder {text}: {wrong[0]!r} is not KEY=VALUE; write e.g. eta=2,rungs=[0.4,0.8]")
    pairs = [part.split("=", 1) for part in parts]
    content = {key.strip(): parse_yaml(value, where=f"--ladder {key}") for key, value in pairs}
    if len(content) < len(pairs):
        raise InputError(f"--ladder {text}: a key stands twice; keep one")
    return check_document(content, LadderSettings, where="--ladder")
