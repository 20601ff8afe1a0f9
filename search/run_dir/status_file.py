"""`status.json`: the state of every candidate with the reason, as the search last wrote it."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from data_prep.store.files import exists, join
from data_prep.store.sealed_records import read_record, write_record
from search.ladder.decisions import CandidateStatus
from search.run_dir.time_share import TimeShare

STATUS_FILE = "status.json"
SHARE = 0.05
"""Share of a search's time that writing `status.json` may take."""


class StatusFile:
    """Writes `status.json` as often as its share of the time allows: with a thousand candidates it takes long."""

    def __init__(self, run_dir: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._run_dir = run_dir
        self._time_share = TimeShare(SHARE, clock)

    def offer(self, statuses: Callable[[], Mapping[str, CandidateStatus]]) -> bool:
        """Write what `statuses` returns, unless it is too early; return whether it was written."""
        return self._time_share.offer(lambda: write_statuses(self._run_dir, statuses()))


def write_statuses(run_dir: str, statuses: Mapping[str, CandidateStatus]) -> None:
    """Write the ladder's `status()`; it replaces the last file."""
    content = {name: _entry(status) for name, status in statuses.items()}
    write_record(content, join(run_dir, STATUS_FILE))


def _entry(status: CandidateStatus) -> dict[str, str]:
    entry = {"state": status.state, "reason": status.reason}
    return {**entry, "promotion": status.promotion} if status.promotion else entry


def read_statuses(run_dir: str) -> dict[str, CandidateStatus]:
    """Return what was last written; empty if nothing was."""
    path = join(run_dir, STATUS_FILE)
    if not exists(path):
        return {}
    remedy = "put back a copy, or remove it: the next run of the search writes it again from what fold runs reported"
    return read_record(path, _statuses, remedy=remedy)


def _statuses(content: dict[str, Any]) -> dict[str, CandidateStatus]:
    return {name: CandidateStatus(**entry) for name, entry in content.items()}
