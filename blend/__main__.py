"""Command line of blend: `fit` a blend, `import` predictions of others, `bundle` models to predict, keep a `ledger`."""

from collections.abc import Sequence
from typing import Annotated

import typer

from blend.blend_folder import RECORD_FILE, read_whole_blend
from blend.blend_record import TargetsRecord, WholeRecord
from blend.blend_runs import blend_runs
from blend.errors.errors_command import register as register_errors
from blend.evidence.blend_report import (
    left_out_sentences,
    more_sentences,
    sentences,
    tables,
    targets_sentences,
    targets_table,
)
from blend.fit.blend_settings import BlendSettings
from blend.imports.import_command import register
from blend.ledger.ledger_commands import ledger_app
from blend.write_bundle import write_bundle
from data_prep.console import activity, console, new_app, print_line, run_app
from data_prep.errors import InputError
from data_prep.prepared import load_prepared
from data_prep.scoring.metrics import DEAD_BELOW
from data_prep.store.files import join
from data_prep.submission.submission_manifest import SUBMISSION_FILE
from data_prep.wording import command, count

app = new_app("Blend out-of-fold predictions into a submission with a score that you can trust.")
WORSE = 3
"""Exit status where a simpler way is better than the blend that was written."""
app.add_typer(ledger_app, name="ledger")


@app.command()
def fit(
    runs: Annotated[list[str], typer.Argument(help="Run directories; the blend is written into the first.")],
    *,
    method: Annotated[
        str | None,
        typer.Option(help="A way to blend, such as `greedy` or `ridge+line`.  [default: the consensus of all]"),
    ] = None,
    parsimony: Annotated[
        bool,
        typer.Option("--parsimony", help="Take the fewest members within one standard error of the best."),
    ] = False,
    members: Annotated[
        str | None,
        typer.Option(help="Candidates to blend, all of them: ids or names of the study, separated by commas."),
    ] = None,
    max_members: Annotated[
        int | None, typer.Option(help="Choose at most this many members.  [default: any number]", min=1)
    ] = None,
    at_least_one_per: Annotated[
        str | None, typer.Option(help="`family`: every family takes part, even if it adds nothing.", metavar="family")
    ] = None,
    shared_weights: Annotated[
        bool,
        typer.Option("--shared-weights", help="Of several targets: let weights that all of them share compete, too."),
    ] = False,
    exclude: Annotated[list[str] | None, typer.Option(help="Candidate id to leave out; repeatable.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the blend.  [default: --members, else --method, else best]")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Blend in these runs to compare with.  [default: the last one written]")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Prepared folder.  [default: that of the first run]")] = None,
    allow_mixed_splits: Annotated[
        bool,
        typer.Option("--allow-mixed-splits", help="Also blend candidates of other splits of the same data."),
    ] = False,
    dead_below: Annotated[
        float, typer.Option(help="Leave out candidates whose Pearson is below this in any fold: they failed to learn.")
    ] = DEAD_BELOW,
    drop_drifting: Annotated[
        bool,
        typer.Option("--drop-drifting", help="Leave out candidates whose test predictions drift from the others'."),
    ] = False,
    clip: Annotated[
        bool, typer.Option("--clip", help="Move predictions beyond the task's range to the nearest legal score.")
    ] = False,
    score_on: Annotated[
        list[str] | None,
        typer.Option(help="Score only rows like the test: COLUMN=VALUE[,VALUE]; repeatable.", metavar="COLUMN=VALUE"),
    ] = None,
    fit_on: Annotated[
        list[str] | None, typer.Option(help="Fit only on such rows; repeatable.", metavar="COLUMN=VALUE")
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(help="File with ids and more columns for --score-on and --fit-on.", metavar="FILE"),
    ] = None,
    sample_submission: Annotated[
        str | None, typer.Option(help="CSV with the column names and the row order to use.", metavar="FILE")
    ] = None,
    no_submission: Annotated[
        bool, typer.Option("--no-submission", help="Only evidence; candidates may lack test predictions.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a blend of the same name.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show all evidence, not five lines of it.")] = False,
) -> None:
    """Choose members, fit weights, show the evidence, and write blend.json and submission.csv.

    Example: `blendfold blend runs/demo --members packed-mse,pair-cls --name first --clip`
    """
    if at_least_one_per not in (None, "family"):
        raise InputError(f"--at-least-one-per {at_least_one_per}: must be `family`")
    settings = BlendSettings(
        method=method,
        parsimony=parsimony,
        most_members=max_members,
        one_per_family=at_least_one_per == "family",
        drop_drifting=drop_drifting,
        shared_weights=shared_weights,
        score_on=tuple(score_on or ()),
        fit_on=tuple(fit_on or ()),
        clip=clip,
    )
    written = blend_runs(
        runs,
        settings,
        name=name,
        members=None if members is None else _split(members),
        exclude=exclude or (),
        against=against,
        data=data,
        allow_mixed_splits=allow_mixed_splits,
        dead_below=dead_below,
        rows=rows,
        sample_submission=sample_submission,
        with_test=not no_submission,
        force=force,
        note=print_line,
    )
    _show(written.record, written.about_earlier, written.folder, verbose=verbose)
    if written.is_worse:
        raise typer.Exit(WORSE)


@app.command("bundle")
def bundle_verb(
    run: Annotated[str, typer.Argument(help="The run directory with the blend.")],
    *,
    blend: Annotated[str, typer.Option(help="Name of the blend.")],
    out: Annotated[str, typer.Option(help="Folder to write; new or empty.")],
    half: Annotated[bool, typer.Option("--fp16", help="Store weights in half precision: half the size.")] = False,
    data: Annotated[str | None, typer.Option(help="Prepared folder.  [default: the one in blend.json]")] = None,
) -> None:
    """Copy everything that a blend needs to predict into one folder, which works without network, Ray or this run.

    Example: `blendfold bundle runs/pppm --blend nelder-mead --out bundles/pppm --fp16`
    """
    record = read_whole_blend(run, blend)
    prepared = load_prepared(data or record.data)
    with activity("gathering") as show:
        contents = write_bundle(
            run, record, prepared, out, half=half, report=lambda path, size: show(f"{path}, {_size(size)}")
        )
    models = sum(len(member.folds) for member in contents.members)
    print_line(
        f"{count(len(contents.members), 'member')}, {count(models, 'model')}, {contents.precision}, "
        f"{_size(contents.total_bytes)}"
    )
    options = {"--bundle": out, "--test": "test.csv", "--out": "submission.csv"}
    print_line(f"wrote {out}; next: {command('blendfold predict', options=options)}")


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"


def _split(members: str) -> list[str]:
    names = [name.strip() for name in members.split(",") if name.strip()]
    if not names:
        raise InputError("--members is empty; leave it out to choose from all candidates")
    return names


def _show(record: WholeRecord, about_earlier: Sequence[str], folder: str, *, verbose: bool) -> None:
    for sentence in left_out_sentences(record):
        print_line(sentence)
    for target, blend in record.by_target.items():
        if verbose:
            for table in tables(blend):
                console.print(table)
            told = [*sentences(blend), *more_sentences(blend)] if target else []
            for sentence in told:
                print_line(f"{target}: {sentence}")
    if isinstance(record, TargetsRecord):
        console.print(targets_table(record))
        said = targets_sentences(record)
    else:
        said = [*sentences(record), *((*more_sentences(record), *about_earlier) if verbose else ())]
    for sentence in said:
        print_line(sentence)
    if record.submission is None:
        print_line(f"wrote no submission, for want of test predictions; the evidence is in {join(folder, RECORD_FILE)}")
        return
    rows = f"{count(record.submission.rows, 'row')}, {record.submission.clipped} clipped to the task's range"
    submission = join(folder, SUBMISSION_FILE)
    print_line(f"wrote {submission} ({rows}) and the evidence in {join(folder, RECORD_FILE)}")
    options = {"--submission": submission, "--public": "SCORE"}
    print_line(f"next: submit the file, then {command('blendfold ledger add', options=options)}")


register(app, fit)
register_errors(app)


if __name__ == "__main__":
    run_app(app)
