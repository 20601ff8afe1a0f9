"""Makes the pictures of a report in the docs: `python docs/report_screenshots.py RUN_DIR [FOLDER]`.

Writes `PICTURES` into the folder, by default that of this file. Needs Chromium and Playwright.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from blendfold.report.write_report import write_report

PATIENCE = 300_000
"""Milliseconds to wait for a page on a busy machine."""
PICTURES = {
    "report-wide.png": ("search", 1400, 1050, "light"),
    "report-summary.png": ("summary", 1400, 620, "light"),
    "report-blend.png": ("blend", 1400, 1300, "light"),
    "report-errors.png": ("errors", 1400, 1300, "dark"),
}
"""By file: part, width, height, colors."""


def take(browser: Any, page: Path, file: Path, *, part: str, width: int, height: int, scheme: str) -> None:
    """Open a part of a report and write what a window of this size shows of it."""
    window = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    window.set_default_timeout(PATIENCE)
    window.goto(page.as_uri())
    window.click(f"#tab-{part}")
    window.wait_for_selector(f"#{part} .canvas .main-svg")
    window.wait_for_timeout(1_000)  # the figures further down
    window.screenshot(path=file)
    window.close()


def main(run_dir: str, folder: Path) -> None:
    """Write the report of a run directory, and its pictures."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - only this needs it

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        page = Path(write_report(run_dir, out=str(Path(place) / "report.html")))
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, (part, width, height, scheme) in PICTURES.items():
            take(browser, page, folder / name, part=part, width=width, height=height, scheme=scheme)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent)
