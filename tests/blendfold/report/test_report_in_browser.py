"""The report in a browser: it stays offline, works by mouse and keyboard, fits its screen and is accessible."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headless import headless_chromium

PARTS = ("summary", "search", "blend", "errors", "data", "ledger", "rerun")
PATIENCE = 120_000
"""Milliseconds after which a page that does not come is a fault, also on a busy machine."""
DRAWN = "part => [...document.querySelectorAll(`#${part} .canvas`)].every(each => each.querySelector('.main-svg'))"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with headless_chromium() as started:
        yield started


class OpenPage:
    """A report in a window, with everything that went wrong in it."""

    def __init__(self, browser: Any, path: Path, *, width: int, scheme: str) -> None:
        self.faults: list[str] = []
        self.window = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.window.set_default_timeout(PATIENCE)
        self.window.on("console", lambda message: self._log(message.type, message.text))
        self.window.on("pageerror", lambda error: self._log("error", str(error)))
        self.window.route("**/*", self._answer)
        self.window.goto(path.as_uri())

    def _log(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.faults.append(f"{kind}: {text}")

    def _answer(self, route: Any) -> None:
        if route.request.url.startswith(("file:", "data:", "blob:")):
            route.continue_()
        else:
            self.faults.append(f"request: {route.request.url}")
            route.abort()

    def open_part(self, part: str) -> None:
        self.window.click(f"#tab-{part}")
        for figure in self.window.query_selector_all(f"#{part} .canvas"):
            figure.scroll_into_view_if_needed()
        self.window.wait_for_function(DRAWN, arg=part)

    def shown(self) -> list[str]:
        return [part for part in PARTS if self.window.is_visible(f"#{part}")]

    def column(self, table: str, number: int) -> list[str]:
        return self.window.eval_on_selector_all(
            f"#{table} tbody tr:not([hidden]) td:nth-child({number})", "cells => cells.map(cell => cell.textContent)"
        )


@pytest.fixture
def opened(browser: Any, reported: Any, request: pytest.FixtureRequest) -> Iterator[OpenPage]:
    width, scheme = getattr(request, "param", (1600, "light"))
    page = OpenPage(browser, reported.page, width=width, scheme=scheme)
    yield page
    page.window.close()


@pytest.mark.parametrize(
    "opened", [(380, "light"), (380, "dark"), (1600, "light"), (1600, "dark")], indirect=True, ids=str
)
def test_every_part_is_drawn_offline_and_fits(opened: OpenPage) -> None:
    n_figures = 0
    for part in PARTS:
        opened.open_part(part)
        assert opened.shown() == [part]
        wide = opened.window.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide[0] <= wide[1], f"{part} overflows"
        figures = opened.window.query_selector_all(f"#{part} .canvas")
        n_figures += len(figures)
        for figure in figures:
            assert figure.query_selector(".main-svg"), f"{figure.get_attribute('id')} is not drawn"
            assert figure.query_selector("path, .point, .slice"), f"{figure.get_attribute('id')} is empty"
    assert n_figures >= 18
    assert opened.faults == []


def test_tabs_work_by_mouse_and_keyboard(opened: OpenPage) -> None:
    window = opened.window
    assert opened.shown() == ["summary"]
    window.click("#tab-errors")
    assert opened.shown() == ["errors"]
    for key, part in (
        ("ArrowRight", "data"),
        ("End", "rerun"),
        ("ArrowRight", "summary"),
        ("ArrowLeft", "rerun"),
        ("Home", "summary"),
    ):
        window.keyboard.press(key)
        assert opened.shown() == [part]
        assert window.evaluate("document.activeElement.id") == f"tab-{part}"
    window.keyboard.press("Tab")
    assert window.evaluate("document.activeElement.id") == "summary", "only the chosen tab is a stop on the way"
    assert window.get_attribute("#tab-summary", "aria-selected") == "true"
    assert window.get_attribute("#tab-search", "tabindex") == "-1"


def test_a_link_to_a_part_opens_it(browser: Any, reported: Any) -> None:
    window = browser.new_page()
    window.goto(f"{reported.page.as_uri()}#data")
    assert window.is_visible("#data")
    assert not window.is_visible("#summary")
    window.close()


def test_tables_sort_by_mouse_and_keyboard(opened: OpenPage) -> None:
    window = opened.window
    opened.open_part("search")
    head = "#leaderboard th[data-key=minutes]"
    place = 1 + window.eval_on_selector(head, "head => head.cellIndex")
    window.click(f"{head} button")
    falling = [float(text) for text in opened.column("leaderboard", place)]
    assert falling == sorted(falling, reverse=True)
    assert window.get_attribute(head, "aria-sort") == "descending"
    window.focus(f"{head} button")
    window.keyboard.press("Enter")
    assert [float(text) for text in opened.column("leaderboard", place)] == sorted(falling)
    assert window.get_attribute(head, "aria-sort") == "ascending"
    window.focus("#leaderboard th[data-key=name] button")
    window.keyboard.press("Space")
    assert opened.column("leaderboard", 2)[:3] == ["bce", "cls", "long"]
    assert window.get_attribute(head, "aria-sort") is None
    window.click("#leaderboard th[data-key=mean] button")
    assert opened.column("leaderboard", 4)[-1] == "–", "what has no number stands last"


def test_long_tables_unfold(opened: OpenPage) -> None:
    opened.open_part("errors")
    assert len(opened.column("worst", 1)) == 15
    opened.window.click("section:has(> .scroll #worst) .all")
    assert len(opened.column("worst", 1)) == 50


def test_a_menu_changes_its_figure(opened: OpenPage) -> None:
    opened.open_part("data")
    before = opened.window.inner_html("#lengths")
    opened.window.select_option("select[data-figure=lengths]", "anchor")
    changed = "before => document.getElementById('lengths').innerHTML !== before"
    opened.window.wait_for_function(changed, arg=before)


def test_the_button_turns_the_page_dark(opened: OpenPage) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    light = opened.window.evaluate(paper)
    opened.window.click("#theme")
    assert opened.window.evaluate(paper) != light
    opened.open_part("search")
    panel = opened.window.evaluate("getComputedStyle(document.querySelector('#ladder .main-svg')).backgroundColor")
    assert panel == "rgb(27, 31, 36)"


def test_print_shows_every_part(opened: OpenPage) -> None:
    opened.window.emulate_media(media="print")
    assert opened.shown() == list(PARTS)
    pdf = opened.window.pdf()
    assert len(pdf) > 50_000


@pytest.mark.parametrize("opened", [(1600, "light"), (380, "dark")], indirect=True, ids=str)
def test_axe_finds_no_serious_fault(opened: OpenPage) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    for part in PARTS:
        opened.open_part(part)
        found = axe.run(opened.window, context={"exclude": [[".main-svg"]]}).response["violations"]
        serious = [
            (fault["id"], [node["html"][:200] for node in fault["nodes"]][:3])
            for fault in found
            if fault["impact"] in ("serious", "critical")
        ]
        assert serious == [], part
