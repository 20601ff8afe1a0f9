"""`DrawnCandidates`: every candidate drawn by the sampler, in order."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from data_prep.store.files import join, read_bytes, write_json
from data_prep.store.tables import DamagedTableError
from models.candidate import Candidate
from search.run_dir.append_log import AppendLog


@dataclass(frozen=True)
class DrawnCandidate:
    """A candidate that the sampler drew."""

    number: int
    """How many draws came before it, including those that gave nothing new."""
    settings: dict[str, Any]
    """What the space chose; all other settings have their defaults."""
    candidate: Candidate


class DrawnCandidates(AppendLog[DrawnCandidate]):
    """The list `sampled.json` of a run directory, with later draws in `sampled.journal`."""

    def __init__(self, run_dir: str) -> None:
        path = join(run_dir, "sampled.json")
        super().__init__(path, read=_read_draws, write=_write_draws, encode=_encode, decode=_decode)


def _read_draws(path: str) -> list[DrawnCandidate]:
    try:
        return [_decode(entry) for entry in json.loads(read_bytes(path))]
    except (ValueError, KeyError, TypeError) as error:  # pydantic's and json's errors are ValueErrors
        raise DamagedTableError(
            f"{path}: not the list of draws that was written ({type(error).__name__}). Put back a copy. If you have "
            f"none, remove it and sampled.journal beside it: the record stays, open fold runs continue, but the "
            f"sampler forgets what it learned from the candidates so far"
        ) from error


def _write_draws(draws: Sequence[DrawnCandidate], path: str) -> None:
    write_json([_encode(drawn) for drawn in draws], path)


def _encode(drawn: DrawnCandidate) -> dict[str, Any]:
    return {"number": drawn.number, "candidate": drawn.candidate.id, "settings": drawn.settings}


def _decode(entry: dict[str, Any]) -> DrawnCandidate:
    settings = entry["settings"]
    return DrawnCandidate(entry["number"], settings, Candidate.model_validate(settings))
