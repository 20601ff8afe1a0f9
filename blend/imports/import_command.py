"""The verb `import`: take over predictions that others made."""

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import typer

from blend.imports.foreign_models import ImportRequest, read_request
from blend.imports.imported_models import ImportedModels, write_imported
from data_prep.console import activity, console, new_table, print_line
from data_prep.prepared import load_prepared
from data_prep.scoring.metrics import DEAD_BELOW
from data_prep.store.folder_lock import folder_lock
from data_prep.store.oof_store import UNKNOWN_SPLIT
from data_prep.wording import command, count

FILES = "File (.csv, .parquet, .npy, .arrow, .feather), folder, or pattern in quotes whose * names the model or fold."


def register(app: typer.Typer, fit: Callable[..., Any]) -> None:
    """Add the verb to a command line; `fit` is its verb that blends a run directory."""

    @app.command("import")
    def import_verb(
        *,
        oof: Annotated[str, typer.Option(help=f"Out-of-fold predictions. {FILES}")],
        data: Annotated[str, typer.Option(help="Prepared folder.")],
        out: Annotated[str, typer.Option(help="Run directory for imported models; may already hold some.")],
        test: Annotated[
            str | None,
            typer.Option(help="Test predictions, in the same form; files and columns pair by name.  [default: none]"),
        ] = None,
        name: Annotated[str | None, typer.Option(help="Name of the model; with many models, a prefix.")] = None,
        name_from: Annotated[
            str | None,
            typer.Option(help="What names models: `star`, `file`, `folder` (where the file is).  [default: see docs]"),
        ] = None,
        exclude: Annotated[list[str] | None, typer.Option(help="Column or model to leave out; repeatable.")] = None,
        family: Annotated[str | None, typer.Option(help="Family of all these models.  [default: each its own]")] = None,
        split: Annotated[
            str, typer.Option(help="Prepared folder with the folds that the models were trained on.")
        ] = UNKNOWN_SPLIT,
        fold_column: Annotated[
            str | None, typer.Option(help="Column of --oof with the folds that the models were trained on.")
        ] = None,
        trust_row_order: Annotated[
            bool, typer.Option("--trust-row-order", help="Rows without ids are in the order of the prepared files.")
        ] = False,
        id_column: Annotated[str | None, typer.Option(help="Id column.  [default: the task's, or id]")] = None,
        prediction_column: Annotated[
            list[str] | None, typer.Option(help="Prediction column; repeatable.  [default: numeric ones]")
        ] = None,
        fit_blend: Annotated[bool, typer.Option("--fit", help="Blend the run directory right away.")] = False,
        clip: Annotated[
            bool,
            typer.Option("--clip", help="With --fit: move predictions beyond the range to the nearest legal score."),
        ] = False,
    ) -> None:
        """Import predictions that others made: align, check and store them like those of our own models.

        Example: `blendfold import --oof team/oof --test team/test --data prepared/pppm --out runs/team --fit`
        """
        prepared = load_prepared(data)
        request = ImportRequest(
            oof=oof,
            test=test,
            name=name,
            family=family,
            split=split,
            trust_row_order=trust_row_order,
            id_column=id_column,
            prediction_columns=tuple(prediction_column or ()),
            fold_column=fold_column,
            exclude=tuple(exclude or ()),
            name_from=name_from,
        )
        with activity("reading and aligning predictions"):
            imported = read_request(request, prepared)
            with folder_lock(out):
                ids = write_imported(imported, out)
        _show(imported, ids)
        print_line(f"Wrote {count(len(ids), 'model')} to {out}.")
        if fit_blend:
            fit([out], data=data, clip=clip)
        else:
            alone = command("blendfold blend", out, options={"--data": data, "--clip": clip})
            together = command("blendfold blend RUN", out, options={"--clip": clip})
            print_line(f"Next: {alone}, or with your own run: {together}")


def _show(imported: ImportedModels, ids: dict[str, str]) -> None:
    data, numbers = imported.data, ("rows", "holdout", "test")
    table = new_table(
        f"Imported: {data.task.metric}", "model", "candidate", *numbers, "mean of folds", "pooled", n_text=2
    )
    table.columns[0].overflow = "fold"
    dead: list[str] = []
    for model in imported.models:
        covered = np.isfinite(model.oof)
        n_rows, n_holdout = int((covered & model.trained).sum()), int((covered & ~model.trained).sum())
        table.add_row(
            model.name,
            ids[model.name],
            f"{n_rows:,}",
            f"{n_holdout:,}" if data.manifest.rows["holdout"] else "-",
            "-" if model.test is None else f"{len(model.test):,}",
            f"{np.mean(model.fold_metrics()):.4f}",
            f"{model.pooled():.4f}",
        )
        if not model.least_pearson() >= DEAD_BELOW:
            dead.append(model.name)
    console.print(table)
    print_line("Every row matched: none is missing, unknown or repeated.")
    for note in imported.notes:
        print_line(note)
    if dead:
        print_line(f"Pearson below {DEAD_BELOW} in some fold, so `blendfold blend` leaves them out: {', '.join(dead)}")
    if imported.models[0].test is None:
        print_line("No test predictions: a blend of these models writes its evidence and no submission.")
    splits = {model.split_hash for model in imported.models}
    if len(splits) > 1:
        print_line(
            f"The models have {len(splits)} splits: `blend` refuses them together, or with --allow-mixed-splits "
            f"scores them by the folds of {data.path}."
        )
    if UNKNOWN_SPLIT in splits:
        print_line(
            "Split unknown: rows may have been trained on by the model that predicts them; nested scores can flatter. "
            "If you know the folds, name them with --fold-column, or with --split PREPARED."
        )
