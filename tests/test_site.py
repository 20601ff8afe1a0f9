"""The documentation as a site: it builds without a warning, loads nothing from elsewhere, and lists every command."""

import importlib
import re
import runpy
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typer

pytest.importorskip("mkdocs", reason="the site needs mkdocs-material: pip install blendfold[docs]")

ROOT = Path(__file__).parents[1]
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
    pages = {f"{page.stem}.html" for page in (ROOT / "docs").glob("*.md")} | {"commands.html", "changelog.html"}
    assert {page for page in pages if not (site / page).is_file()} == set()
    assert pages - {"index.html"} <= linked


def test_a_browser_loads_nothing_from_elsewhere(site: Path) -> None:
    loaded = [address for _, page in pages_of(site) for address in page.loaded]
    assert len(loaded) > 100
    assert not [address for address in loaded if re.match(r"(?:\w+:)?//", address)]
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert styles
    assert not [style for style in styles if re.search(r"(?:url\(|@import)\s*[\"']?(?:\w+:)?//", style)]


def test_a_link_to_a_source_shows_the_source(site: Path) -> None:
    (study,) = (page for path, page in pages_of(site) if path.name == "study.html")
    assert "sources/models/candidate.py.html" in study.linked
    shown = (site / "sources/models/candidate.py.html").read_text(encoding="utf-8")
    assert "class Candidate(" in re.sub("<[^>]+>", "", shown)


def verbs(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for verb, each in getattr(command, "commands", {}).items():
        yield from verbs(f"{name} {verb}", each)


def test_the_page_of_commands_lists_each_with_its_options() -> None:
    hook = runpy.run_path(str(ROOT / "docs/command_page.py"))
    sections = dict(re.findall(r"^#+ (.*?)\n(.*?)(?=^#|\Z)", hook["page"](), re.MULTILINE | re.DOTALL))
    found = 0
    for name, module in hook["PROGRAMS"].items():
        for verb, command in verbs(name, typer.main.get_command(importlib.import_module(module).app)):
            options = {each.opts[0] for each in command.params if each.opts[0].startswith("--")}
            assert {option for option in options if f"`{option}" not in sections[verb]} - {"--help"} == set(), verb
            found += len(options)
    assert found > 50
