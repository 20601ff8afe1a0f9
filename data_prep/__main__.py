"""Command line of data_prep: prepare a data set, and audit a prepared one."""

import subprocess
import sys
from typing import Annotated

import numpy as np
import pyarrow.compute as pc
import typer
from rich.table import Table

from data_prep.console import activity, console, new_app, print_line, run_app
from data_prep.errors import InputError
from data_prep.export import CsvOption, JsonOption, export
from data_prep.prepare.prepare_folder import prepare
from data_prep.prepared import Prepared, load_prepared
from data_prep.store.files import exists, join
from data_prep.store.tables import HOLDOUT_FOLD, one_array
from data_prep.target_counts import count_targets, targets_table
from data_prep.task import PPPM
from data_prep.task_file import read_task
from data_prep.wording import command, count

app = new_app("Turn the files of a competition into a prepared folder with checked texts and scores and fixed folds.")


@app.command("prepare")
def prepare_verb(
    *,
    train: Annotated[
        str, typer.Option(help="Texts and scores: CSV (also tabs, `;`), JSON lines, Parquet or Arrow, path or URI.")
    ],
    out: Annotated[str, typer.Option(help="Prepared folder to write.")],
    test: Annotated[
        str | None, typer.Option(help="The same without scores; without it, there is no submission.  [default: none]")
    ] = None,
    cpc: Annotated[str | None, typer.Option(help="CPC titles like Kaggle's titles.csv.  [default: shipped]")] = None,
    task: Annotated[str | None, typer.Option(help="Task file in YAML.  [default: PPPM]")] = None,
    scheme: Annotated[
        str | None,
        typer.Option(
            help="kfold, stratified, group, stratified_group, leave_group_out or time.  "
            "[default: stratified_group, or stratified where the task has no groups]"
        ),
    ] = None,
    folds: Annotated[int, typer.Option(help="Number of folds.")] = 5,
    repeats: Annotated[int, typer.Option(help="How often to split, each time by another seed: repeated k-fold.")] = 1,
    seed: Annotated[int, typer.Option(help="Random seed of the split.")] = 42,
    holdout: Annotated[float, typer.Option(help="Share of rows to keep out of all folds, in whole groups.")] = 0.0,
    fold_column: Annotated[
        str | None, typer.Option(help="Column of train with the fold of each row; -1: holdout.  [default: none]")
    ] = None,
    time_column: Annotated[
        str | None, typer.Option(help="Column of train with times: folds are stretches of it.  [default: none]")
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option(help="Column to leave out; repeatable.  [default: keep all in extra/]")
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="Of text files, such as windows-1252.  [default: utf-8]")] = None,
) -> None:
    """Check both files, split the rows into folds and write a prepared folder.

    Example: `blendfold prepare --train train.csv --test test.csv --folds 5 --out data/pppm`
    """
    settled = PPPM if task is None else read_task(task)
    was_there = exists(join(out, "manifest.json"))
    prepared = prepare(
        train=train,
        test=test,
        out=out,
        task=settled,
        cpc=cpc,
        scheme=scheme,
        n_folds=folds,
        repeats=repeats,
        seed=seed,
        holdout=holdout,
        fold_column=fold_column,
        time_column=time_column,
        drop=drop or (),
        encoding=encoding,
        say=print_line,
    )
    _show(prepared)
    if was_there:
        print_line(f"{out} already held this preparation; nothing was changed.")
    else:
        extra = ", extra/" if prepared.manifest.extra else ""
        print_line(f"Wrote train.arrow, test.arrow{extra} and manifest.json to {out}.")
    print_line(f"Next: {command('blendfold audit', out)}")


def _show(prepared: Prepared) -> None:
    manifest = prepared.manifest
    groups = prepared.train["group"].to_numpy()
    targets, counts = prepared.targets, count_targets(prepared)
    levels = () if counts else manifest.task.score_levels or ()
    split = f"{manifest.scheme}, {manifest.n_folds} folds{manifest.in_repeats}, seed {manifest.seed}"
    table = Table(title=f"{manifest.task.name}: {split}{'; share of each score' if levels else ''}")
    for name in ("fold", "rows", "groups", *(f"{level:g}" for level in levels), *([] if counts else ["mean"])):
        table.add_column(name, justify="right", no_wrap=True)
    for fold in np.unique(prepared.folds).tolist():
        mine = prepared.in_fold(fold)
        shares = [f"{np.isclose(targets[mine], level).mean():.1%}" for level in levels]
        name = "holdout" if fold == HOLDOUT_FOLD else str(fold)
        n_groups = len(np.unique(groups[mine]))
        mean = [] if counts else [f"{targets[mine].mean():.4f}"]
        table.add_row(name, f"{mine.sum():,}", f"{n_groups:,}", *shares, *mean)
    table.add_section()
    table.add_row("test", f"{manifest.rows['test']:,}")
    console.print(table)
    if counts:
        console.print(targets_table(counts))
    if n_shared := pc.sum(pc.is_in(prepared.test["id"], value_set=one_array(prepared.train["id"]))).as_py():
        print_line(f"{count(n_shared, 'id')} of test occur in train too; rows are told apart by their file.")
    print_line(f"data_hash  {manifest.data_hash}\nsplit_hash {manifest.split_hash}")


@app.command("audit")
def audit_verb(
    folder: Annotated[str, typer.Argument(help="Prepared folder.")],
    *,
    backbone: Annotated[
        str | None,
        typer.Option(help="Also show how long the texts are for this backbone, as `blendfold models tokens` does."),
    ] = None,
    as_json: JsonOption = False,
    csv_file: CsvOption = None,
) -> None:
    """Report leakage, repeated rows and other traps in a prepared folder; writes audit.json into it.

    Example: `blendfold audit data/pppm --backbone minilm-l6`
    """
    from data_prep.audit.audit_report import write_audit  # noqa: PLC0415 - pandas and scikit-learn are slow to import
    from data_prep.audit.audit_tables import audit_tables  # noqa: PLC0415

    with activity("counting, then measuring leakage (about half a minute for 36,000 rows)"):
        report = write_audit(load_prepared(folder))
    if export(report, report.folds, as_json=as_json, csv_file=csv_file):
        return
    for table in audit_tables(report):
        console.print(table)
    print_line(f"Wrote {join(folder, 'audit.json')}.")
    if backbone is None:
        print_line(f"Lengths of its texts: {command('blendfold audit', folder)} --backbone NAME")
    else:  # in a process of its own: data_prep knows no models; -P: not those in the user's folder
        counted = subprocess.run(
            [sys.executable, "-P", "-m", "models", "tokens", folder, "--backbone", backbone],
            capture_output=True,
            text=True,
            check=False,
        )
        if counted.returncode:
            raise InputError(counted.stderr.strip().removeprefix("error: "))
        print_line(counted.stdout.rstrip())
    print_line(f"Next: set `data: {folder}` in a study file, then blendfold run STUDY.yaml")


if __name__ == "__main__":
    run_app(app)
