"""Writes the page `commands.md` of the site from the command lines themselves, so that it cannot go out of date.

MkDocs calls `on_files` (`hooks:` in `mkdocs.yml`).
"""

import importlib
from collections.abc import Iterator
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PROGRAMS = {f"python -m {package}": f"{package}.__main__" for package in ("data_prep", "models", "search", "blend")}
"""The module that holds `app`, by what a user types."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page."""
    files.append(File.generated(config, "commands.md", content=page()))
    return files


def page() -> str:
    """Return all commands with their arguments and options, as Markdown."""
    parts = ["# Commands", "Each command prints this with `--help`, too."]
    for name, module in PROGRAMS.items():
        parts.extend(described(name, typer.main.get_command(importlib.import_module(module).app), level=2))
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
        yield "\n".join(["| argument or option | |", "|---|---|", *(row(*record) for record in records if record)])
    for verb, subcommand in subcommands.items():
        if not subcommand.hidden:
            yield from described(f"{name} {verb}", subcommand, level=level + 1)


def row(usage: str, text: str) -> str:
    """Return a line of the table of options."""
    cells = (f"`{usage}`", " ".join(text.split()).replace("[", r"\["))
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
