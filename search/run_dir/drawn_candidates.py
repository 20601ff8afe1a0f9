"""`DrawnCandidates`: every candidate drawn by the sampler, in order."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from data_prep.store.files import join, read_bytes
from data_prep.store.sealed_records import open_record, write_record
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
    remedy = (
        "put back a copy. If you have none, remove it and sampled.journal beside it: the record stays, open fold runs "
        "continue, but the sampler forgets what it learned from the candidates so far"
    )
    return open_record(read_bytes(path), path, _draws, remedy=remedy, parse=_with_name)


def _with_name(content: bytes) -> Any:
    """Parse the file; older versions wrote the list alone."""
    parsed = json.loads(content)
    return {"draws": parsed} if isinstance(parsed, list) else parsed


def _draws(content: dict[str, Any]) -> list[DrawnCandidate]:
    return [_decode(entry) for entry in content["draws"]]


def _write_draws(draws: Sequence[DrawnCandidate], path: str) -> None:
    write_record({"draws": [_encode(drawn) for drawn in draws]}, path)


def _encode(drawn: DrawnCandidate) -> dict[str, Any]:
    return {"number": drawn.number, "candidate": drawn.candidate.id, "settings": drawn.settings}


def _decode(entry: dict[str, Any]) -> DrawnCandidate:
    drawn = DrawnCandidate(entry["number"], entry["settings"], Candidate.model_validate(entry["settings"]))
    if drawn.candidate.id != entry["candidate"]:
        raise ValueError(f"draw {drawn.number} is candidate {drawn.candidate.id}, not {entry['candidate']}")
    return drawn
