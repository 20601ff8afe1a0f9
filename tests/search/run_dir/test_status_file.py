"""`status.json` is kept fresh at a bounded price."""

from pathlib import Path

import pytest

from search.ladder.decisions import CandidateStatus
from search.run_dir.status_file import SHARE, StatusFile, read_statuses


def test_the_status_is_written_as_often_as_its_share_of_the_time_allows(tmp_path: Path) -> None:
    now = [0.0]
    written = []

    def statuses() -> dict[str, CandidateStatus]:
        written.append(now[0])
        now[0] += 0.5
        return {"0123456789ab": CandidateStatus("running", f"the {len(written)}th")}

    file = StatusFile(str(tmp_path), clock=lambda: now[0])
    while now[0] < 100:
        file.offer(statuses)
        now[0] += 0.1
    assert len(written) == pytest.approx(100 * SHARE / 0.5, abs=1)
    assert read_statuses(str(tmp_path))["0123456789ab"].reason == f"the {len(written)}th"
