"""Shows files of the repository in the site: the changelog in its root, each file that a page links to.

A link such as `../studies/demo.yaml` works on GitHub, where it is relative to docs/. The site holds no such file, so
there the link leads to a page that shows it. MkDocs calls the functions named `on_...` (`hooks:` in `mkdocs.yml`).
"""

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\(\.\./([^)\s#]+)\)")
"""A link out of docs/."""
PLACES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "models/candidate.py": "settings.md"}
"""Files with a page of their own; any other file is shown below `sources/`."""
LANGUAGES = {".py": "python", ".yaml": "yaml", ".json": "json"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the changelog and a page for every file that a page links to."""
    linked = {name for page in files.documentation_pages() for name in LINK.findall(page.content_string)}
    pages = {place_of(name): shown(name) for name in linked - PLACES.keys()}
    pages["changelog.md"] = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").replace("](docs/", "](")
    for uri, text in pages.items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page, its links out of docs/ led to where the site shows these files."""
    return LINK.sub(lambda link: f"]({place_of(link[1])})", markdown)


def place_of(name: str) -> str:
    """Return the page of the site that shows a file of the repository."""
    return PLACES.get(name, f"sources/{name}.md")


def shown(name: str) -> str:
    """Return the page of one file."""
    path = ROOT / name
    if path.suffix == ".ipynb":
        return f"`{name}`\n\n" + "\n\n".join(map(_cell, json.loads(path.read_text(encoding="utf-8"))["cells"]))
    language = LANGUAGES.get(path.suffix, "text")
    return f"# {path.name}\n\n`{name}`\n\n````{language}\n{path.read_text(encoding='utf-8')}````\n"


def _cell(cell: dict[str, Any]) -> str:
    """Return a cell of a notebook as Markdown, without what it has printed."""
    source = "".join(cell["source"])
    return f"````python\n{source}\n````" if cell["cell_type"] == "code" else source
