"""`DrawnCandidates`: every candidate drawn by the sampler, in order."""

import json
from collections.abc import Sequence
from typing import Any

from data_prep.store.files import join, read_bytes, write_json
from data_prep.store.tables import DamagedTableError
from models.candidate import Candidate
from search.run_dir.append_log import AppendLog
from search.study.sampler import Sample


class DrawnCandidates:
    """The list `sampled.json` of a run directory, with later draws in `sampled.journal`."""

    def __init__(self, run_dir: str) -> None:
        self._log = AppendLog(
            join(run_dir, "sampled.json"), read=_read_samples, write=_write_samples, encode=_encode, decode=_decode
        )

    @property
    def drawn(self) -> list[Sample]:
        """All samples, in the order of their draws."""
        return self._log.entries

    def append(self, sample: Sample) -> None:
        """Append a sample; it is on disk when this returns."""
        self._log.append(sample)

    def compact(self) -> None:
        """Write all samples into `sampled.json`."""
        self._log.compact()


def _read_samples(path: str) -> list[Sample]:
    try:
        return [_decode(entry) for entry in json.loads(read_bytes(path))]
    except (ValueError, KeyError, TypeError) as error:  # pydantic's and json's errors are ValueErrors
        raise DamagedTableError(
            f"{path}: not the list of draws that was written ({type(error).__name__}). Put back a copy. If you have "
            f"none, remove it and sampled.journal beside it: the record stays, open fold runs continue, but the "
            f"sampler forgets what it learned from the candidates so far"
        ) from error


def _write_samples(samples: Sequence[Sample], path: str) -> None:
    write_json([_encode(sample) for sample in samples], path)


def _encode(sample: Sample) -> dict[str, Any]:
    return {"number": sample.number, "candidate": sample.candidate.id, "settings": sample.settings}


def _decode(entry: dict[str, Any]) -> Sample:
    settings = entry["settings"]
    return Sample(entry["number"], settings, Candidate.model_validate(settings))
