"""The `study.yaml` of a run directory: what a search or an import was asked for, sealed."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import yaml

from data_prep.store.files import join, read_bytes, write_bytes
from data_prep.store.sealed_records import open_record, seal

STUDY_FILE = "study.yaml"


def write_study_record(content: Mapping[str, Any], run_dir: str) -> None:
    """Write the study of a run directory."""
    text = yaml.safe_dump(seal(content), sort_keys=False, allow_unicode=True)
    write_bytes(text.encode(), join(run_dir, STUDY_FILE))


def read_study_record(run_dir: str) -> dict[str, Any]:
    """Read the study of a run directory.

    Raises:
        InputError: there is none, or it is not what was written.
    """
    path = join(run_dir, STUDY_FILE)
    return _open(read_bytes(path), path)


@lru_cache(maxsize=8)
def _open(content: bytes, path: str) -> dict[str, Any]:
    """Parse the same content once: every candidate's name is looked up in it, and YAML is slow."""
    remedy = "put back a copy. If you changed it on purpose, remove its first line, `seal:`"
    return open_record(content, path, _not_empty, remedy=remedy, parse=yaml.safe_load)


def _not_empty(content: dict[str, Any]) -> dict[str, Any]:
    if not content:
        raise ValueError("it has no settings")
    return content
