"""`write_report`: a run directory, its blend and its data as one offline page."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from blend.ledger.ledger_file import LEDGER_FILE
from blendfold.report.facts.report_source import ReportSource
from blendfold.report.page.render_page import render_page
from blendfold.report.parts.blend_part import blend_part
from blendfold.report.parts.data_part import data_part
from blendfold.report.parts.errors_part import errors_part
from blendfold.report.parts.ledger_part import ledger_part
from blendfold.report.parts.rerun_part import rerun_part
from blendfold.report.parts.search_part import search_part
from blendfold.report.parts.summary_part import summary_part
from data_prep.store.files import join, write_bytes
from search.run_dir.run_dir import RunDir

REPORT_FILE = "report.html"
PARTS = (summary_part, search_part, blend_part, errors_part, data_part, ledger_part, rerun_part)
WATCH_SECONDS = 15.0
"""Least time between two pages of a running search; a page that takes long to make is made less often."""
SHARE = 0.1
"""Share of the time that making pages may take."""


def write_report(
    run_dir: str, *, blend: str | None = None, out: str | None = None, ledger: str = LEDGER_FILE, watched: bool = False
) -> str:
    """Write the report of a run directory, whole or not at all, and return its path.

    What is missing or damaged is named in its place, so that any run directory has a report.

    Args:
        run_dir: a folder or a `pyarrow.fs` URI, of a finished or running search or of imported models.
        blend: the name of a blend; None: the one written last.
        out: the page to write; None: `report.html` in the run directory.
        ledger: the ledger of submissions, which need not be there.
        watched: whether the page loads itself again.

    Raises:
        InputError: not a run directory, or it has no such blend.
    """
    run = RunDir(run_dir)
    name = str(run.study.get("name", run_dir))
    source = ReportSource(run, blend, ledger)
    if blend is not None:
        source.blend  # noqa: B018 - a wrong name is refused before anything is drawn
    path = out or join(run_dir, REPORT_FILE)
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    page = render_page(
        [part(source) for part in PARTS],
        title=f"{name}: what the search found",
        subtitle=run_dir,
        written=f"Written {now} by blendfold report.",
        watched=watched,
    )
    write_bytes(page.encode("utf-8", "replace"), path)
    return path


def watch_report(
    run_dir: str,
    *,
    blend: str | None = None,
    out: str | None = None,
    ledger: str = LEDGER_FILE,
    written: Callable[[str], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Write the report again and again until the driver ends, then once more; `written` learns of each page."""
    while RunDir(run_dir).has_driver:
        begun = time.monotonic()
        written(write_report(run_dir, blend=blend, out=out, ledger=ledger, watched=True))
        sleep(max(WATCH_SECONDS, (time.monotonic() - begun) / SHARE))
    return write_report(run_dir, blend=blend, out=out, ledger=ledger)
