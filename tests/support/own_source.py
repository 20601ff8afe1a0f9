"""The syntax trees of our own modules, for tests of what no module may do."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


def modules_of(*packages: str) -> Iterator[tuple[str, ast.Module]]:
    """Yield path and syntax tree of every module of the packages; there must be some."""
    paths = [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]
    assert len(paths) > len(packages)
    for path in paths:
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text())
