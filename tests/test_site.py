"""The documentation as a site: it builds without a warning, loads nothing from elsewhere, and lists every command."""

import re
import runpy
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import blendfold
from blendfold.command_line import PANELS, load
from headless import headless_chromium
from models.candidate import Candidate
from search.ladder.settings import LadderSettings

pytest.importorskip("mkdocs", reason="the site needs mkdocs-material: pip install blendfold[docs]")

ROOT = Path(__file__).parents[1]
MADE = {"commands.html", "settings.html", "changelog.html"}
"""Pages that no file in docs/ holds."""
LOADING = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
"""The attribute that makes a browser load something, by element."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site; a warning, such as a dead link, ends it with an error."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        from mkdocs.commands.build import build
        from mkdocs.config import load_config

        folder = tmp_path_factory.mktemp("site")
        build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))
    return folder


class Loads(HTMLParser):
    """What a page makes a browser load, and the addresses it links to."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in LOADING and given.get(LOADING[tag]):
            self.loaded.append(str(given[LOADING[tag]]))
        if tag == "a" and given.get("href"):
            self.linked.append(str(given["href"]))


def pages_of(site: Path) -> Iterator[tuple[Path, Loads]]:
    for path in sorted(site.rglob("*.html")):
        page = Loads()
        page.feed(path.read_text(encoding="utf-8"))
        yield path, page


def test_every_page_of_the_docs_is_in_the_site_and_its_navigation(site: Path) -> None:
    linked = set(dict(pages_of(site))[site / "index.html"].linked)
    pages = {f"{page.stem}.html" for page in (ROOT / "docs").glob("*.md")} | MADE
    assert {page for page in pages if not (site / page).is_file()} == set()
    assert pages - {"index.html"} <= linked


def test_a_browser_loads_nothing_from_elsewhere(site: Path) -> None:
    loaded = [address for _, page in pages_of(site) for address in page.loaded]
    assert len(loaded) > 100
    assert not [address for address in loaded if re.match(r"(?:\w+:)?//", address)]
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert styles
    assert not [style for style in styles if re.search(r"(?:url\(|@import)\s*[\"']?(?:\w+:)?//", style)]


@pytest.mark.parametrize("width", [380, 1600])
def test_it_reads_and_searches_from_the_disk(site: Path, width: int) -> None:
    trouble: list[str] = []
    with headless_chromium() as browser:
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("request", lambda request: request.url.startswith("file:") or trouble.append(request.url))
        page.on("console", lambda message: message.type == "error" and trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        for name in ("index", "commands", "settings", "results", "reference"):
            page.goto((site / f"{name}.html").as_uri())
            if (wide := page.evaluate("document.documentElement.scrollWidth")) > width:
                trouble.append(f"{name} is {wide} wide")
        page.keyboard.press("s")
        page.keyboard.type("noise band")
        first = page.locator(".md-search-result__link").first
        first.wait_for(state="attached", timeout=10_000)
        assert "/ladder.html" in first.get_attribute("href")
    assert trouble == []


def test_the_python_reference_has_every_public_name(site: Path) -> None:
    page = (site / "reference.html").read_text(encoding="utf-8")
    explained = set(re.findall(r'<h3 id="blendfold\.(\w+)"', page))
    assert explained == set(blendfold.__all__)


def test_a_link_to_a_source_shows_the_source(site: Path) -> None:
    study = dict(pages_of(site))[site / "study.html"]
    assert {"sources/studies/demo.yaml.html", "settings.html"} <= set(study.linked)
    shown = (site / "sources/studies/demo.yaml.html").read_text(encoding="utf-8")
    assert "data: prepared/sample" in re.sub("<[^>]+>", "", shown)


def verbs(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for verb, each in getattr(command, "commands", {}).items():
        yield from verbs(f"{name} {verb}", each)


def test_the_page_of_commands_lists_each_with_its_options() -> None:
    page = runpy.run_path(str(ROOT / "docs/reference_pages.py"))["commands"]()
    sections = dict(re.findall(r"^#+ (.*?)\n(.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL))
    found = 0
    for given in (verb for panel in PANELS.values() for verb in panel):
        for name, command in verbs(f"blendfold {given.name}", load(given)):
            options = {each.opts[0] for each in command.params if each.opts[0].startswith("--")} - {"--help"}
            assert {option for option in options if f"`{option}" not in sections[name]} == set(), name
            found += len(options)
    assert found > 50


def test_the_page_of_settings_explains_each() -> None:
    page = runpy.run_path(str(ROOT / "docs/reference_pages.py"))["settings"]()
    explained = set(re.findall(r"^\| `(\w+)` \|.*\| [\w`].* \|$", page, re.MULTILINE))
    assert {*Candidate.model_fields, *LadderSettings.model_fields} <= explained
