"""The settings of candidates in a run directory or a bundle: `candidates/<candidate>.json`, sealed with their id."""

from collections.abc import Mapping
from typing import Any

from data_prep.store.files import join
from data_prep.store.sealed_records import read_record, write_record

REMEDY = (
    "put back a copy. If you have none, remove it and run the search again, which writes it if its study still has "
    "this candidate"
)


def candidate_path(run_dir: str, candidate: str) -> str:
    """Return the path of a candidate's settings."""
    return join(run_dir, "candidates", f"{candidate}.json")


def write_settings(settings: Mapping[str, Any], run_dir: str, candidate: str) -> None:
    """Write the settings of a candidate."""
    write_record(settings, candidate_path(run_dir, candidate), name=candidate)


def read_settings(run_dir: str, candidate: str) -> dict[str, Any]:
    """Read the settings of a candidate.

    Raises:
        InputError: there are none, or they are not what was written, or belong to another candidate.
    """
    return read_record(candidate_path(run_dir, candidate), dict, remedy=REMEDY, name=candidate)
