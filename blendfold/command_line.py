"""The command line `blendfold`: the verbs of all packages under one name, each loaded when it is used."""

import importlib
import importlib.metadata
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from data_prep.console import new_app, print_line


@dataclass(frozen=True)
class Verb:
    """A verb, and the command line of ours that has its code."""

    name: str
    summary: str
    app: str
    """The module with the typer application `app` that has the verb."""
    source: str | None = None
    """Its name there; None: the same."""


DATA, MODELS, SEARCH, BLEND = (f"{package}.__main__" for package in ("data_prep", "models", "search", "blend"))
REPORT = "blendfold.report.report_command"
INIT = "blendfold.init_command"
PANELS: dict[str, tuple[Verb, ...]] = {
    "Prepare": (
        Verb("init", "Guess a task file and write a first study, from your files.", INIT),
        Verb("prepare", "Check your files, freeze the folds.", DATA),
        Verb("audit", "Show leakage, repeated rows and other traps.", DATA),
        Verb("models", "List what there is to choose; explain, count tokens, train one fold.", MODELS, "*"),
    ),
    "Search": (
        Verb("plan", "Estimate hours, money, memory and disk of a study.", SEARCH),
        Verb("run", "Run a study, or continue it.", SEARCH),
        Verb("refit", "Train folds again whose weights were not kept.", SEARCH),
        Verb("replay", "Replay recorded curves with other schedulers.", SEARCH),
    ),
    "Search on a cluster": (
        Verb("aws", "Create what a cluster on AWS needs, once.", SEARCH),
        Verb("launch", "Run a study and its blend as a job of a cluster.", SEARCH),
        Verb("attach", "Follow the log of a launched job.", SEARCH),
        Verb("stop", "Stop a launched job.", SEARCH),
        Verb("fetch", "Copy tables, blends and the submission home.", SEARCH),
    ),
    "Look": (
        Verb("status", "Show what runs, what waits, what is best.", SEARCH),
        Verb("leaderboard", "Rank the candidates, and show which differences are noise.", SEARCH),
        Verb("explain", "Tell the story of each candidate: scores, decisions, cost.", SEARCH),
        Verb("report", "Write a run as one page to read, show and print.", REPORT),
        Verb("track", "Write a run for TensorBoard or MLflow.", SEARCH),
    ),
    "Blend": (
        Verb("blend", "Choose members, fit weights, write the submission and its evidence.", BLEND, "fit"),
        Verb("errors", "Show where predictions are wrong: worst rows, slices, contradictions.", BLEND),
        Verb("import", "Take over predictions that others made.", BLEND),
    ),
    "Submit": (
        Verb("bundle", "Copy all that a blend needs to predict into one folder.", BLEND),
        Verb("predict", "Predict new rows with a bundle.", MODELS),
        Verb("ledger", "Compare CV with the leaderboard.", BLEND),
    ),
}
"""The verbs in the order of what users do."""
ELSEWHERE = frozenset({"predict"})
"""Verbs of `models` that stand on their own."""


class LazyGroup(TyperGroup):
    """Knows the name and the summary of each verb, and loads its code only when it is called."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._verbs = {verb.name: verb for verbs in PANELS.values() for verb in verbs}
        for panel, verbs in PANELS.items():
            for verb in verbs:
                self.add_command(TyperCommand(name=verb.name, help=verb.summary, rich_help_panel=panel))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the verb that the arguments begin with, its code loaded, and the arguments after it."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, None if name is None else load(self._verbs[name]), rest


def load(verb: Verb) -> Any:
    """Return the command of a verb."""
    command: Any = typer.main.get_command(importlib.import_module(verb.app).app)
    if not hasattr(command, "commands"):  # the only verb there
        return command
    if verb.source == "*":
        command.commands = {name: each for name, each in command.commands.items() if name not in ELSEWHERE}
        return command
    return command.commands[verb.source or verb.name]


def _show_version(asked: bool) -> None:
    if asked:
        print_line(f"blendfold {importlib.metadata.version('blendfold')}")
        raise typer.Exit


app = new_app(
    "Search for an ensemble of transformers, and blend it into a submission with a score that you can trust.",
    cls=LazyGroup,
    add_completion=True,
)


@app.callback()
def root(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Search for an ensemble of transformers, and blend it into a submission with a score that you can trust.

    Example: `blendfold prepare --train train.csv --test test.csv --out prepared/pppm`
    """
