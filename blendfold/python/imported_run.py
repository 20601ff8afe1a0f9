"""`import_predictions`: predictions that others made, as a run like those of our own models."""

from collections.abc import Sequence
from pathlib import Path

from blend.imports.foreign_models import ImportRequest, read_request
from blend.imports.imported_models import write_imported
from blendfold.python.prepared_data import DataSource, load
from blendfold.python.run import Run
from data_prep.console import activity
from data_prep.store.folder_lock import folder_lock
from data_prep.store.oof_store import UNKNOWN_SPLIT


def import_predictions(
    oof: str | Path,
    data: DataSource,
    *,
    out: str | Path,
    test: str | Path | None = None,
    name: str | None = None,
    name_from: str | None = None,
    exclude: Sequence[str] = (),
    family: str | None = None,
    split: str | Path = UNKNOWN_SPLIT,
    fold_column: str | None = None,
    trust_row_order: bool = False,
    id_column: str | None = None,
    prediction_columns: Sequence[str] = (),
) -> Run:
    """Align, check and store predictions that others made, as `blendfold import` does; blend the run that it returns.

    Args:
        oof: out-of-fold predictions: a file (.csv, .parquet, .npy, .arrow, .feather), a folder, or a pattern whose `*`
            names the model or fold.
        data: prepared data.
        out: run directory for imported models; may already hold some.
        test: test predictions in the same form; None: a blend of these models has no submission.
        name: name of the model; with many, a prefix.
        name_from: what names models: `star`, `file` or `folder`.
        exclude: columns or models to leave out.
        family: family of all these models; None: each its own.
        split: prepared folder with the folds that the models were trained on.
        fold_column: column of `oof` with these folds.
        trust_row_order: whether rows without ids are in the order of the prepared files.
        id_column: None: the task's, or `id`.
        prediction_columns: none: numeric ones.

    Raises:
        InputError: every fault of the files.
    """
    request = ImportRequest(
        oof=str(oof),
        test=None if test is None else str(test),
        name=name,
        family=family,
        split=str(split),
        trust_row_order=trust_row_order,
        id_column=id_column,
        prediction_columns=tuple(prediction_columns),
        fold_column=fold_column,
        exclude=tuple(exclude),
        name_from=name_from,
    )
    with activity("reading and aligning predictions"):
        imported = read_request(request, load(data))
        with folder_lock(str(out)):
            write_imported(imported, str(out))
    return Run(out)
