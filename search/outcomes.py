"""`status.json`: where every candidate of a run directory stood when the search last wrote it, with the reason."""

import json
from collections.abc import Mapping

from data_prep.tables import exists, join, read_bytes, write_json
from search.ladder import CandidateStatus


def write_outcomes(run_dir: str, statuses: Mapping[str, CandidateStatus]) -> None:
    """Keep the ladder's `status()`; an earlier file is replaced whole."""
    content = {name: {"state": status.state, "reason": status.reason} for name, status in statuses.items()}
    write_json(content, join(run_dir, "status.json"))


def read_outcomes(run_dir: str) -> dict[str, CandidateStatus]:
    """Return what was last written; empty where nothing was."""
    path = join(run_dir, "status.json")
    if not exists(path):
        return {}
    return {name: CandidateStatus(**entry) for name, entry in json.loads(read_bytes(path)).items()}
