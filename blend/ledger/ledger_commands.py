"""Verbs of the ledger: `blendfold ledger add|show|plot`."""

from typing import Annotated, Literal

import typer

from blend.ledger.ledger_entry import KNOWN_SCHEMES, LedgerEntry
from blend.ledger.ledger_file import LEDGER_FILE, LedgerUpdate
from blend.ledger.ledger_report import describe, row_table, split_table
from blend.ledger.record_submission import record_submission
from blend.ledger.tracked_ledger import track_ledger
from data_prep.console import console, new_app, print_line
from data_prep.export import CsvOption, JsonOption, export
from data_prep.scoring.metrics import METRICS
from data_prep.wording import command

ledger_app = new_app(
    "Record every submission with its CV and leaderboard scores, and see which CV tracks the leaderboard."
)

LedgerFile = Annotated[str, typer.Option("--ledger", help="The ledger: a CSV file, which you may edit by hand.")]
Board = Annotated[Literal["public", "private"], typer.Option(help="The leaderboard to compare CV with.")]


@ledger_app.command()
def add(
    *,
    submission: Annotated[str, typer.Option(help="The submitted CSV file, or the folder of its blend.")],
    public: Annotated[float | None, typer.Option(help="Its public leaderboard score.")] = None,
    private: Annotated[float | None, typer.Option(help="Its private leaderboard score, if known.")] = None,
    note: Annotated[str, typer.Option(help="Any text.")] = "",
    cv: Annotated[float | None, typer.Option(help="CV of a submission that `blendfold blend` did not make.")] = None,
    scheme: Annotated[str | None, typer.Option(help=f"Its split: {', '.join(KNOWN_SCHEMES)}.")] = None,
    metric: Annotated[str | None, typer.Option(help=f"Its metric: {', '.join(METRICS)}.  [default: pearson]")] = None,
    ledger: LedgerFile = LEDGER_FILE,
) -> None:
    """Record a submission's leaderboard scores beside its CV; the same file again updates its row.

    Example: `blendfold ledger add --submission runs/demo/blends/first --public .8504 --note "four backbones"`
    """
    done = record_submission(
        ledger, submission, public=public, private=private, note=note, cv=cv, scheme=scheme, metric=metric
    )
    if isinstance(done, LedgerUpdate):
        print_line(_changes(done))
    else:
        print_line(f"{done.title}: {_scores(done)} ({done.split})")
    print_line(f"wrote {ledger}; next: {_show_command(ledger)}")


def _scores(entry: LedgerEntry) -> str:
    named = [("CV", entry.cv), ("nested", entry.nested), ("public", entry.public), ("private", entry.private)]
    return ", ".join(f"{name} {score:.5g}" for name, score in named if score is not None)


def _changes(update: LedgerUpdate) -> str:
    changed = [
        f"{name} {getattr(update.before, name) or '-'} is now {getattr(update.after, name)}"
        for name in ("public", "private", "note")
        if getattr(update.before, name) != getattr(update.after, name)
    ]
    return f"{update.after.title} was already in the ledger: {', '.join(changed) or 'nothing changed'}"


@ledger_app.command()
def show(
    *,
    board: Board = "public",
    ledger: LedgerFile = LEDGER_FILE,
    as_json: JsonOption = False,
    csv_file: CsvOption = None,
) -> None:
    """Show all submissions, outliers and leaks, and which split's CV tracks the leaderboard.

    Example: `blendfold ledger show --ledger studies/memo_ledger.csv`
    """
    tracking = track_ledger(ledger, board)
    rows = [
        {**vars(row.entry), "residual": row.residual, "flags": [f"{flag.kind}:{flag.by}" for flag in row.flags]}
        for row in tracking.rows
    ]
    if export({**vars(tracking), "sentences": describe(tracking)}, rows, as_json=as_json, csv_file=csv_file):
        return
    console.print(row_table(tracking))
    console.print(split_table(tracking))
    for sentence in describe(tracking):
        print_line(sentence)


@ledger_app.command()
def plot(
    *,
    out: Annotated[str, typer.Option(help="Picture to write: .svg, .png or .pdf.")] = "ledger.svg",
    board: Board = "public",
    ledger: LedgerFile = LEDGER_FILE,
) -> None:
    """Draw CV against the leaderboard, with lines, residuals and flags.

    Example: `blendfold ledger plot --ledger studies/memo_ledger.csv --out memo.svg`
    """
    from blend.ledger.ledger_picture import check_kind, write_picture  # noqa: PLC0415 - matplotlib is slow to import

    check_kind(out)
    write_picture(track_ledger(ledger, board), out)
    print_line(f"wrote {out}; next, its numbers: {_show_command(ledger, board)}")


def _show_command(ledger: str, board: str = "public") -> str:
    board_option = board if board != "public" else None
    return command("blendfold ledger show", options={"--board": board_option, "--ledger": ledger})
