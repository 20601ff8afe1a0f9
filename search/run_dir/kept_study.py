"""`kept_study`: the `study.yaml` of a run directory as plain values, whichever version wrote it."""

from typing import Any

import yaml

from data_prep.errors import InputError
from data_prep.store.files import exists, join, read_bytes


def kept_study(run_dir: str) -> dict[str, Any]:
    """Return the settings of the study that ran in a directory.

    Raises:
        InputError: it is no run directory, or its `study.yaml` was edited and is no YAML any more.
    """
    path = join(run_dir, "study.yaml")
    if not exists(path):
        raise InputError(
            f"{run_dir}: not a run directory (no study.yaml); make one with `python -m search run STUDY.yaml`"
        )
    try:
        content = yaml.safe_load(read_bytes(path))
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not a YAML file ({error}); it was edited after it was written") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no settings; it was edited after it was written")
    return content
