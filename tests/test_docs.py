"""README, docs/ and the changelog: what they name exists, what they link to is there, what they tell to type parses."""

import ast
import errno
import importlib
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
import yaml

import blendfold as bf
from blendfold.command_line import PANELS, load
from data_prep.scoring.metrics import METRICS
from data_prep.task import Task
from search.study.read_candidates import read_candidates
from search.study.read_space import read_space
from search.study.study_file import Study

ROOT = Path(__file__).parents[1]
PACKAGES = ("data_prep", "models", "search", "blend", "blendfold")
FOLDERS = (*PACKAGES, "tests", "benchmarks", "studies", "clusters", "docs")
PAGES = ["README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")), "CHANGELOG.md"]
ELSEWHERE = frozenset(
    """
    ClusterIP HF_HOME HttpTokens InstanceType NodeAddress ReadWriteMany TMPDIR WorkerId authOptions cache_stopped_nodes
    d_k idle_timeout_minutes machineType max_workers static_configs trust_remote_code vmSize weights_only working_dir
    """.split()
)
"""Names of other people's settings and of a formula, which our sources do not mention."""
README_WORDS = 1_200

pages = pytest.mark.parametrize("page", PAGES)


@cache
def text_of(page: str) -> str:
    """Return a page; of the changelog only what is not released yet."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return text.split("\n## 0.")[0] if page == "CHANGELOG.md" else text


def quoted(page: str) -> Iterator[str]:
    """Yield what stands between backticks outside of code blocks."""
    prose = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    yield from re.findall(r"`([^`\n]+)`", prose)


def blocks(page: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", text_of(page), flags=re.DOTALL | re.MULTILINE)


@cache
def sources() -> dict[Path, ast.Module]:
    """Return every Python file by path, parsed."""
    files = [path for folder in (*PACKAGES, "tests", "benchmarks", "docs") for path in (ROOT / folder).rglob("*.py")]
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in files if path != Path(__file__)}


@cache
def messages() -> str:
    """Return all texts of our packages, what an f-string puts in as `...`."""
    found = []
    for path, tree in sources().items():
        for node in ast.walk(tree) if path.relative_to(ROOT).parts[0] in PACKAGES else ():
            if isinstance(node, ast.JoinedStr):
                found.append(
                    "".join(
                        str(getattr(part, "value", "...")) if isinstance(part, ast.Constant) else "..."
                        for part in node.values
                    )
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


@cache
def words() -> frozenset[str]:
    """Return every module and identifier of our sources, and every word of their strings that are no docstrings."""
    found = {path.stem for path in sources()}
    for tree in sources().values():
        sentences = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            named = (getattr(node, field, None) for field in ("id", "attr", "name", "arg", "asname"))
            found.update(part for name in named if isinstance(name, str) for part in name.split("."))
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in sentences:
                found.update(re.findall(r"\w+", node.value))
    return frozenset(found)


def resolves(dotted: str) -> bool:
    """Tell whether a dotted name is a module or package of ours, defined or imported there, or in a class there."""
    parts = dotted.split(".")
    for n_module in range(len(parts), 0, -1):
        base = ROOT.joinpath(*parts[:n_module])
        path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        if path in sources():
            return _defines(sources()[path].body, parts[n_module:])
    return False


def _defines(body: list[ast.stmt], names: list[str]) -> bool:
    if not names:
        return True
    for node in body:
        if isinstance(node, ast.If) and _defines(node.body, names):
            return True
        if isinstance(node, ast.ImportFrom) and names[0] in {each.asname or each.name for each in node.names}:
            return True
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if getattr(node, "name", None) == names[0] or any(getattr(each, "id", None) == names[0] for each in targets):
            return _defines(getattr(node, "body", []), names[1:])
    return False


@pages
def test_files_exist(page: str) -> None:
    paths = re.findall(rf"(?<![\w/.~-])((?:{'|'.join(FOLDERS)})/[\w./-]+\.\w+)\b", text_of(page))
    assert not [path for path in paths if not (ROOT / path).is_file()]
    known = {path.name for path in sources()} | {Path(__file__).name}
    assert not [name for name in quoted(page) if re.fullmatch(r"\w+\.py", name) and name not in known]


@pages
def test_modules_resolve(page: str) -> None:
    dotted = re.findall(rf"(?<![\w/.-])((?:{'|'.join(PACKAGES)})(?:\.\w+)+)", text_of(page))
    files = {"json", "csv", "yaml", "svg", "md", "py"}
    tags = messages().split("\n")
    modules = [name for name in dotted if name.rsplit(".", 1)[1] not in files and name not in tags]
    examples = {f"blend.{name}" for name in dir(bf.Blend)}  # `blend` is a variable there
    assert not [name for name in modules if not resolves(name) and name not in examples]


@pages
def test_names_exist(page: str) -> None:
    shape = re.compile(r"(?:\w+\.)*([A-Za-z]+[a-z0-9]*(?:_\w+|[A-Z]\w*)|[A-Z][a-z]+|\w+(?=\(\)))(?:\(\))?")
    names = {match.group(1) for name in quoted(page) if (match := shape.fullmatch(name))}
    series = {name for name in names if name.startswith("ray_blendfold_")}  # tests/search/watch/test_prometheus.py
    assert sorted(names - series - words() - ELSEWHERE) == []


@pages
def test_links_resolve(page: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", text_of(page))
    for link in links:
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE) if anchor else []
        slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in slugs, link


def code_of(page: str) -> str:
    """Return the code blocks of a page, and what stands between backticks, each in a line of its own."""
    return "\n".join([*blocks(page, "[a-z]*"), *quoted(page)])


@cache
def command_of(package: str) -> Any:
    if package == "blendfold":
        return SimpleNamespace(commands={verb.name: load(verb) for verbs in PANELS.values() for verb in verbs})
    return typer.main.get_command(importlib.import_module(f"{package}.__main__").app)


@pages
def test_commands_parse(page: str) -> None:
    """Every `blendfold VERB --option`, and `python -m PACKAGE VERB`, names a verb and options that there are."""
    lines = re.findall(rf"(?:python -m (?:{'|'.join(PACKAGES)})|(?:^|`)blendfold [a-z])[^\n`#│&]*", code_of(page), re.M)
    for line in lines:
        package, *given = re.findall(r"[\w-]+", line.strip("`").removeprefix("python -m "))
        command = command_of(package)
        while (verbs := getattr(command, "commands", {})) and given:
            assert given[0] in verbs, line
            command = verbs[given.pop(0)]
        known = {"--help"}.union(*(each.opts + each.secondary_opts for each in command.params))
        assert set(re.findall(r"(?<!\S)--[\w-]+", line)) <= known, line


@pages
def test_make_targets_exist(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text_of(page), re.MULTILINE)) <= targets


def test_examples_are_valid() -> None:
    """The task files and studies that README and three pages show are read without a fault."""
    found = [
        yaml.safe_load(block)
        for page in ("README.md", "docs/data.md", "docs/tasks.md", "docs/study.md")
        for block in blocks(page, "yaml")
    ]
    tasks = [Task.model_validate(content) for content in found if "text_columns" in content]
    studies = [Study.model_validate(content) for content in found if "data" in content]
    assert len(tasks) == 6
    assert len(studies) == 2
    for study in studies:
        read_candidates(study.candidates)
        read_space(study.space)


def test_readme_goes_from_tables_to_a_submission_in_twelve_lines() -> None:
    """Every name in the Python example is there, and the example is short."""
    (example,) = blocks("README.md", "python")
    owners = {"bf": set(bf.__all__), "run": set(dir(bf.Run)), "blend": set(dir(bf.Blend))}
    used = re.findall(r"\b(bf|run|blend)\.(\w+)", example)
    assert {owner for owner, _ in used} == owners.keys()
    assert not [f"{owner}.{name}" for owner, name in used if name not in owners[owner]]
    assert len(example.splitlines()) <= 12
    ast.parse(example)


def test_data_page_lists_every_key_and_metric() -> None:
    listed = set(re.findall(r"`([\w@]+)`", "\n".join(re.findall(r"^\|.*$", text_of("docs/data.md"), re.MULTILINE))))
    assert {*Task.model_fields, *METRICS} <= listed


def test_quoted_messages_are_printed() -> None:
    """What docs/faults.md says a user sees is a text of ours, or the system's."""
    rows = re.findall(r"^\|(?:[^|]+\|){2}([^|]+)\|[^|]+\|$", text_of("docs/faults.md"), re.MULTILINE)
    quotes = [
        quote for row in rows for quote in re.findall(r"`([^`]+ [^`]+)`", row) if not quote.startswith("blendfold ")
    ]
    assert len(quotes) > 10
    for quote in quotes:
        shown = quote.replace(os.strerror(errno.ENOSPC), "...")
        assert shown == "..." or all(part in messages() for part in shown.split("...") if len(part) > 3), quote


def test_study_page_lists_every_key() -> None:
    listed = {
        key
        for row in re.findall(r"^\| (`.*?) \|", text_of("docs/study.md"), re.MULTILINE)
        for key in re.findall(r"[\w.]+", row)
    }
    assert set(Study.model_fields) <= {key.split(".")[0] for key in listed}
    assert {"budget.candidates", "budget.hours", "budget.disk_gb"} <= listed


def test_the_drawing_of_the_house_is_true() -> None:
    """Every sub-package is drawn, and what a line imports of its own package is drawn below it."""
    (drawing,) = (block for block in blocks("docs/architecture.md", "text") if "┌─ search" in block)
    drawn = 0
    for box in drawing.split("┌─ ")[1:]:
        package = box.split()[0]
        floors = [re.findall(r"^│ (\w+)", floor, re.MULTILINE) for floor in box.split("├")]
        floor_of = {name: number for number, names in enumerate(floors) for name in names}
        assert {path.parent.name for path in (ROOT / package).glob("*/__init__.py")} <= floor_of.keys()
        for path, name in (
            (path, path.relative_to(ROOT / package).parts[0].removesuffix(".py"))
            for path in sources()
            if path.is_relative_to(ROOT / package)
        ):
            used = {
                node.module.split(".")[1]
                for node in ast.walk(sources()[path])
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{package}.")
            }
            above = [other for other in used & floor_of.keys() - {name} if floor_of[other] <= floor_of.get(name, -1)]
            assert not above, f"{path} imports {above}"
        drawn += len(floor_of)
    assert drawn > 20


def test_readme_is_short() -> None:
    assert len(text_of("README.md").split()) <= README_WORDS
