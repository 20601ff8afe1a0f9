"""`status.json`: where every candidate of a run directory stood when the search last wrote it, with the reason."""

import json
import time
from collections.abc import Callable, Mapping

from data_prep.store.files import exists, join, read_bytes, write_json
from search.ladder.decisions import CandidateStatus
from search.run_dir.time_share import Ration

SHARE = 0.05
"""Share of a search's time that keeping `status.json` up to date may take."""


class StatusFile:
    """Keeps `status.json` as fresh as its share of the time allows: a thousand candidates take long to write down."""

    def __init__(self, run_dir: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._run_dir = run_dir
        self._ration = Ration(SHARE, clock)

    def offer(self, statuses: Callable[[], Mapping[str, CandidateStatus]]) -> bool:
        """Write what `statuses` returns, unless it is too early again; return whether it was written."""
        return self._ration.offer(lambda: write_outcomes(self._run_dir, statuses()))


def write_outcomes(run_dir: str, statuses: Mapping[str, CandidateStatus]) -> None:
    """Keep the ladder's `status()`; an earlier file is replaced whole."""
    content = {name: _entry(status) for name, status in statuses.items()}
    write_json(content, join(run_dir, "status.json"))


def _entry(status: CandidateStatus) -> dict[str, str]:
    entry = {"state": status.state, "reason": status.reason}
    return {**entry, "promotion": status.promotion} if status.promotion else entry


def read_outcomes(run_dir: str) -> dict[str, CandidateStatus]:
    """Return what was last written; empty where nothing was."""
    path = join(run_dir, "status.json")
    if not exists(path):
        return {}
    return {name: CandidateStatus(**entry) for name, entry in json.loads(read_bytes(path)).items()}
