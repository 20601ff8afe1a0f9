"""Verbs of the ledger: `python -m blend ledger add|show|plot`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from blend.ledger.cv_vs_leaderboard import CvVsLeaderboard, track
from blend.ledger.ledger_entry import KNOWN_SCHEMES, LedgerEntry, entry_of, find_submission
from blend.ledger.ledger_file import (
    LEDGER_FILE,
    LedgerUpdate,
    append_entry,
    read_ledger,
    read_or_start,
    update_scores,
    write_ledger,
)
from blend.ledger.ledger_report import describe, row_table, split_table
from data_prep.console import console, new_app
from data_prep.errors import InputError
from data_prep.scoring.metrics import METRICS
from data_prep.store.files import write_bytes

ledger_app = new_app("Keep every submission with its CV and leaderboard scores; see which CV tracks the leaderboard.")

LedgerFile = Annotated[str, typer.Option("--ledger", help="The ledger, a CSV file to edit by hand.")]
Board = Annotated[Literal["public", "private"], typer.Option(help="The leaderboard to compare CV with.")]


@ledger_app.command()
def add(
    *,
    submission: Annotated[str, typer.Option(help="The CSV file that was handed in, or the folder of its blend.")],
    public: Annotated[float | None, typer.Option(help="Its public leaderboard score.")] = None,
    private: Annotated[float | None, typer.Option(help="Its private one, when it is known.")] = None,
    note: Annotated[str, typer.Option(help="Anything to remember.")] = "",
    cv: Annotated[float | None, typer.Option(help="CV of a submission that was made elsewhere.")] = None,
    scheme: Annotated[str | None, typer.Option(help=f"Its split: {', '.join(KNOWN_SCHEMES)}.")] = None,
    metric: Annotated[str | None, typer.Option(help=f"Its metric: {', '.join(METRICS)}.  [default: pearson]")] = None,
    ledger: LedgerFile = LEDGER_FILE,
) -> None:
    """Note a submission's leaderboard scores beside its CV; given again, the same file's row gets the new scores.

    Example: `python -m blend ledger add --submission runs/demo/blends/first --public .8504 --note "four backbones"`
    """
    if public is None and private is None:
        raise InputError("give a leaderboard score with --public, --private or both")
    entries = read_or_start(ledger)
    path, sha256 = find_submission(submission)
    updated = update_scores(entries, sha256, public=public, private=private, note=note)
    if updated:
        if cv is not None or scheme is not None or metric is not None:
            raise InputError(f"{ledger} already has this file; change its CV, scheme or metric there, in its row")
        write_ledger(updated.entries, ledger)
        _say(_changes(updated))
    else:
        entry = replace(
            entry_of(path, sha256, cv=cv, scheme=scheme, metric=metric), public=public, private=private, note=note
        )
        write_ledger(append_entry(entries, entry), ledger)
        _say(f"{entry.title}: {_scores(entry)} ({entry.split})")
    _say(f"ledger written to {ledger}; next: `python -m blend ledger show --ledger {ledger}`")


def _scores(entry: LedgerEntry) -> str:
    named = [("CV", entry.cv), ("nested", entry.nested), ("public", entry.public), ("private", entry.private)]
    return ", ".join(f"{name} {score:.5g}" for name, score in named if score is not None)


def _changes(update: LedgerUpdate) -> str:
    changed = [
        f"{name} {getattr(update.before, name) or '-'} is now {getattr(update.after, name)}"
        for name in ("public", "private", "note")
        if getattr(update.before, name) != getattr(update.after, name)
    ]
    return f"{update.after.title} was there already: {', '.join(changed) or 'nothing has changed'}"


@ledger_app.command()
def show(*, board: Board = "public", ledger: LedgerFile = LEDGER_FILE) -> None:
    """Show every submission, what fell out of line, what leaks, and which split's CV tracks the leaderboard.

    Example: `python -m blend ledger show --ledger blend/memo_ledger.csv`
    """
    tracking = _track(ledger, board)
    console.print(row_table(tracking))
    console.print(split_table(tracking))
    for sentence in describe(tracking):
        _say(sentence)


@ledger_app.command()
def plot(
    *,
    out: Annotated[str, typer.Option(help="Picture to write: .svg, .png or .pdf.")] = "ledger.svg",
    board: Board = "public",
    ledger: LedgerFile = LEDGER_FILE,
) -> None:
    """Draw CV against the leaderboard, with lines, residuals and flags.

    Example: `python -m blend ledger plot --ledger blend/memo_ledger.csv --out memo.svg`
    """
    from blend.ledger.ledger_picture import KINDS, render_picture  # noqa: PLC0415 - matplotlib is slow to import

    if (kind := Path(out).suffix.removeprefix(".")) not in KINDS:
        raise InputError(f"--out {out}: a picture ends in one of {', '.join('.' + kind for kind in KINDS)}")
    tracking = _track(ledger, board)
    write_bytes(render_picture(tracking, kind), out)
    _say(f"picture written to {out}; its numbers: `python -m blend ledger show --ledger {ledger}`")


def _track(ledger: str, board: str) -> CvVsLeaderboard:
    tracking = track(read_ledger(ledger), board=board)
    if not tracking.schemes:
        raise InputError(
            f"{ledger}: no submission has both a cv and a {board} score; `python -m blend ledger add` notes them"
        )
    return tracking


def _say(sentence: str) -> None:
    console.print(sentence, highlight=False, markup=False, soft_wrap=True)
