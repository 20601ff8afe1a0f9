"""How the tests are arranged: what several share lies in `tests/support`, and none imports another."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
MODULES = sorted(TESTS.rglob("*.py"))
TEST_MODULES = {path.stem for path in MODULES if path.name.startswith("test_")}
SUPPORT = {path.stem for path in (TESTS / "support").glob("*.py")}


def imported_by(path: Path) -> Iterator[str]:
    """Yield the top-level name of every module that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


def test_no_module_imports_a_test_module() -> None:
    assert len(TEST_MODULES) > 80
    assert [(path.name, name) for path in MODULES for name in imported_by(path) if name in TEST_MODULES] == []


def test_no_two_modules_have_one_name() -> None:
    names = [path.stem for path in MODULES if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names)), "pytest would not collect the second"


def test_every_support_module_is_used_and_hides_no_other() -> None:
    names = {name for path in MODULES for name in imported_by(path)}
    assert names >= SUPPORT
    packages = {path.parent.name for path in TESTS.parent.glob("*/__init__.py")}
    assert not SUPPORT & (sys.stdlib_module_names | packages | TEST_MODULES)
