"""Writes the pages `commands.md` and `settings.md` of the site from the code, so that they cannot go out of date.

MkDocs calls `on_files` (`hooks:` in `mkdocs.yml`).
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from blendfold.command_line import PANELS, load
from models.candidate import Candidate
from models.part_options import PART_OPTIONS, PartOption
from search.ladder.settings import LadderSettings

SETTINGS = """# Settings

What can stand under `candidates:` or `space:` of a [study](study.md), and under its `ladder:`.

## A candidate

`blendfold models explain --candidate NAME` shows what comes of them: which parameters learn at which rate.
Where a meaning says None, YAML says `null`.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add both pages."""
    files.append(File.generated(config, "commands.md", content=commands()))
    files.append(File.generated(config, "settings.md", content=settings()))
    return files


def commands() -> str:
    """Return all commands with their arguments and options, as Markdown."""
    parts = ["# Commands", "`blendfold VERB --help` prints the same."]
    for panel, verbs in PANELS.items():
        parts.append(f"## {panel}")
        for verb in verbs:
            parts.extend(described(f"blendfold {verb.name}", load(verb), level=3))
    return "\n\n".join(parts) + "\n"


def described(name: str, command: Any, *, level: int) -> Iterator[str]:
    """Yield the heading, usage, text and options of a command, then those of its subcommands."""
    context = typer.Context(command, info_name=name)
    yield f"{'#' * level} {name}"
    yield command.help.strip()
    subcommands = getattr(command, "commands", {})
    if not subcommands:
        yield f"```\n{name} {' '.join(command.collect_usage_pieces(context))}\n```"
        records = [each.get_help_record(context) for each in command.params if not getattr(each, "hidden", False)]
        rows = [row(f"`{usage}`", text.replace("[", r"\[")) for usage, text in filter(None, records)]
        yield "\n".join(["| argument or option | meaning |", "|---|---|", *rows])
    for verb, subcommand in subcommands.items():
        if not subcommand.hidden:
            yield from described(f"{name} {verb}", subcommand, level=level + 1)


def settings() -> str:
    """Return every setting with default and meaning, then the choices that have names, as Markdown."""
    parts = [SETTINGS, *fields(Candidate)]
    for kind, options in PART_OPTIONS.items():
        parts += [f"\n### Choices for {kind}\n", *choices(options)]
    parts += ["\n## The ladder\n", "[How it decides](ladder.md) explains the rules.\n", *fields(LadderSettings)]
    return "\n".join(parts) + "\n"


def fields(record: type[BaseModel]) -> Iterator[str]:
    """Yield a table of all fields of a class."""
    yield "| setting | default | values | meaning |\n|---|---|---|---|"
    for name, field in record.model_fields.items():
        values = f"[choices](#choices-for-{name})" if name in PART_OPTIONS else legal(field)
        yield row(f"`{name}`", f"`{in_yaml(field.default)}`", values, field.description or "")


def in_yaml(value: Any) -> str:
    """Return a value as a study file has it."""
    return value if isinstance(value, str) else json.dumps(value)


def legal(field: FieldInfo) -> str:
    """Return the choices of a field, or the bounds of a number."""
    choices = [f"`{each}`" for each in get_args(field.annotation) if isinstance(each, str)]
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    bounds = [
        f"{sign} {getattr(bound, kind):g}"
        for bound in field.metadata
        for kind, sign in signs.items()
        if hasattr(bound, kind)
    ]
    return ", ".join(choices or bounds)


def choices(options: Mapping[str, PartOption]) -> Iterator[str]:
    """Yield a table of what one field may name."""
    yield "| name | what it is | settings that only it has |\n|---|---|---|"
    for name, option in options.items():
        yield row(f"`{name}`", option.summary, ", ".join(f"`{each}`" for each in option.settings))


def row(*cells: str) -> str:
    """Return a line of a table."""
    return "| " + " | ".join(" ".join(cell.split()).replace("|", r"\|") for cell in cells) + " |"
