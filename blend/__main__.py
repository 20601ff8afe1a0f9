"""Command line of the blend: `fit` weights, `bundle` what predicts."""

import re
from typing import Annotated

import typer
from rich.table import Table

from blend.bundle import read_blend, write_bundle
from blend.fitting import RECORD_FILE, SUBMISSION_FILE, FittedBlend, fit_blend, write_blend
from blend.predictions import load_predictions
from blend.record import Blend, EvidenceRecord
from blend.runs import find_data
from blend.weights import METHODS
from data_prep.console import console, new_app, run_app
from data_prep.errors import InputError
from data_prep.metrics import DEAD_BELOW
from data_prep.oof import retried_note
from data_prep.prepared import load_prepared
from data_prep.tables import join

app = new_app("Blend out-of-fold predictions into a submission whose score one can believe.")


@app.command()
def fit(
    runs: Annotated[list[str], typer.Argument(help="Run directories; the blend is written into the first.")],
    *,
    method: Annotated[str, typer.Option(help=f"One of {', '.join(METHODS)}.")] = "nelder-mead",
    members: Annotated[
        str | None, typer.Option(help="Names of the study or candidate ids to blend, with commas between them.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the blend.  [default: the members', or the method]")] = None,
    data: Annotated[str | None, typer.Option(help="Prepared folder; the first run's study names it.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Candidate id to leave out; may be repeated.")] = None,
    allow_mixed_splits: Annotated[
        bool, typer.Option("--allow-mixed-splits", help="Blend candidates of other splits of the same data too.")
    ] = False,
    dead_below: Annotated[
        float, typer.Option(help="A candidate with a fold whose Pearson is below this has learned nothing.")
    ] = DEAD_BELOW,
    force: Annotated[bool, typer.Option("--force", help="Replace a blend of the same name.")] = False,
) -> None:
    """Fit weights, show the evidence, write blend.json and submission.csv.

    Example: `python -m blend fit runs/demo --members packed-mse,pair-cls --name first`
    """
    chosen = None if members is None else _split(members)
    name = name or "-".join(chosen or [method])
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise InputError(f"--name {name!r}: use letters, digits, dots, dashes and underscores; it names a folder")
    prepared = load_prepared(data or find_data(runs[0]))
    with console.status("reading predictions"):
        predictions = load_predictions(
            runs,
            prepared,
            members=chosen,
            exclude=exclude or (),
            allow_mixed_splits=allow_mixed_splits,
            dead_below=dead_below,
        )
    with console.status(f"fitting {len(predictions.members)} members with {method}, then without each fold"):
        fitted = fit_blend(predictions, prepared, method=method, name=name)
    folder = join(runs[0], "blends", name)
    write_blend(fitted, folder, force=force)
    _show(fitted, folder)


@app.command("bundle")
def bundle_verb(
    run: Annotated[str, typer.Argument(help="The run directory with the blend.")],
    *,
    blend: Annotated[str, typer.Option(help="Name of the blend.")],
    out: Annotated[str, typer.Option(help="Folder to make; new or empty.")],
    half: Annotated[bool, typer.Option("--fp16", help="Store weights in half precision: half the size.")] = False,
    data: Annotated[str | None, typer.Option(help="Prepared folder.  [default: the one that blend.json names]")] = None,
) -> None:
    """Gather all that a blend needs to predict new rows into one folder, to be used without network, Ray or this run.

    Example: `python -m blend bundle runs/pppm --blend nelder-mead --out bundles/pppm --fp16`
    """
    record = read_blend(run, blend)
    prepared = load_prepared(data or record.data)
    with console.status("gathering") as status:
        contents = write_bundle(
            run, record, prepared, out, half=half, tell=lambda path, size: status.update(f"{path}, {_size(size)}")
        )
    models = sum(len(member.folds) for member in contents.members)
    _say(f"{len(contents.members)} members, {models} models, {contents.precision}, {_size(contents.total_bytes)}")
    _say(f"wrote {out}; next: python -m models predict --bundle {out} --test test.csv --out submission.csv")


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"


def _say(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _split(members: str) -> list[str]:
    names = [name.strip() for name in members.split(",") if name.strip()]
    if not names:
        raise InputError("--members names no candidate; leave it out to blend all")
    return names


def _show(fitted: FittedBlend, folder: str) -> None:
    record = fitted.record
    for sentence in record.left_out:
        console.print(f"left out: {sentence}", highlight=False, markup=False)
    console.print(_member_table(record))
    console.print(_score_table(record))
    for sentence in describe(record):
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)
    rows = f"{record.submission.rows} rows, {record.submission.clipped} clipped to the task's range"
    for line in (
        f"evidence written to {join(folder, RECORD_FILE)}",
        f"submission written to {join(folder, SUBMISSION_FILE)} ({rows}); it is ready to be handed in",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def describe(record: Blend) -> list[str]:
    """Return what the evidence says, one sentence a line."""
    search, certificate = record.search, record.certificate
    state = "converged" if search.converged else "did NOT converge"
    sentences = [f"{record.method}: {state} after {search.evaluations} evaluations, {search.restarts} restarts"]
    if certificate:
        sentences.append(
            f"certificate: pooled Pearson {certificate.pearson:.6f}, exact optimum with non-negative weights "
            f"{certificate.exact:.6f}, gap {max(certificate.gap, 0.0):.1e}"
        )
    for comparison in record.comparisons:
        verdict = "within noise" if comparison.is_noise else ("better" if comparison.difference > 0 else "WORSE")
        sentences.append(
            f"nested blend against {comparison.against}: {comparison.difference:+.4f} "
            f"(standard error {comparison.standard_error:.4f}): {verdict}"
        )
    against_best = record.comparisons[0]
    if against_best.is_noise or against_best.difference < 0:
        sentences.append("The blend is not better than its best member beyond noise.")
    return sentences


def _member_table(record: Blend) -> Table:
    table = Table(
        title=f"Members of {record.name}: weight, its range without one fold, {record.metric} (mean of folds, pooled)"
    )
    table.add_column("candidate")
    table.add_column("label", overflow="fold")
    for column in ("weight", "nested", "folds", "pooled"):
        table.add_column(column, justify="right")
    for member in sorted(record.members, key=lambda member: -member.weight):
        table.add_row(
            member.candidate,
            member.label + retried_note(member.retried),
            f"{member.weight:.3f}",
            f"{min(member.nested_weights):.2f}-{max(member.nested_weights):.2f}",
            f"{member.fold_mean:.4f}",
            f"{member.pooled:.4f}",
        )
    return table


def _score_table(record: Blend) -> Table:
    table = Table(title=f"Scores ({record.metric}): mean of folds / pooled")
    table.add_column("")
    for column in ("in-sample", "nested", "holdout"):
        table.add_column(column, justify="right")
    titles = {"blend": f"blend ({record.method})", "best_single": "best member", "mean": "plain mean"}
    for key, evidence in record.scores.items():
        table.add_row(titles[key], *_cells(evidence))
    return table


def _cells(evidence: EvidenceRecord) -> tuple[str, str, str]:
    in_sample, nested = evidence.in_sample, evidence.nested
    return (
        f"{in_sample.fold_mean:.4f} / {in_sample.pooled:.4f}",
        f"{nested.fold_mean:.4f} / {nested.pooled:.4f}",
        "-" if evidence.holdout is None else f"{evidence.holdout:.4f}",
    )


if __name__ == "__main__":
    run_app(app)
