"""Bundles in Python: `bundle` gathers what a blend needs to predict, `predict` uses it on new rows."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from blendfold.python.csv_tables import Table, csv_files
from data_prep.console import activity

if TYPE_CHECKING:
    from blendfold.python.prepared_data import DataSource


def bundle(run: Any, out: str | Path, *, blend: str, fp16: bool = False, data: "DataSource | None" = None) -> Path:
    """Copy everything that a blend needs to predict into one folder, as `blendfold bundle` does; return the folder.

    Args:
        run: a `Run`, or the path of its directory.
        out: the folder to write; new or empty.
        blend: name of the blend.
        fp16: whether to store weights in half precision.
        data: prepared data; None: those that the blend names.

    Raises:
        InputError: no such blend, weights that were not kept (`Run.refit` trains them again), or `out` is not empty.

    Examples:
        >>> bf.bundle("runs/first", "bundles/first", blend="best").name
        'first'
    """
    from blend.blend_folder import read_whole_blend  # noqa: PLC0415 - `predict` runs without these
    from blend.write_bundle import write_bundle  # noqa: PLC0415
    from blendfold.python.prepared_data import load  # noqa: PLC0415

    path = str(getattr(run, "path", run))
    record = read_whole_blend(path, blend)
    with activity("gathering") as show:
        write_bundle(path, record, load(data or record.data), str(out), half=fp16, report=lambda name, _: show(name))
    return Path(out)


def predict(
    bundle: str | Path,
    test: Table,
    *,
    out: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    cpc: str | Path | None = None,
) -> pd.DataFrame:
    """Predict new rows with a bundle, as `blendfold predict` does: no network, no Ray, no other file of the run.

    Args:
        bundle: the folder that `bundle` wrote.
        test: ids and texts; a DataFrame, or the path of a CSV file.
        out: a file to write, such as submission.csv; None: only return the table.
        device: `auto`, `cpu` or `cuda`.
        threads: CPU threads; None: all cores.
        cpc: titles of CPC codes instead of the bundle's.

    Returns:
        ids and scores [test rows], in the order of `test`.

    Raises:
        InputError: the bundle, the table or the device do not fit.

    Examples:
        >>> scores = bf.predict("bundles/first", "test.csv")
        >>> difference = scores["score"] - bf.Blend("runs/first", "best").submission["score"]
        >>> bool(difference.abs().max() < 1e-4)
        True
    """
    from models.bundle.predict_command import write_submission  # noqa: PLC0415 - torch

    with tempfile.TemporaryDirectory(prefix="blendfold-") as folder, csv_files(test=test) as paths:
        path = str(out or Path(folder, "submission.csv"))
        titles = None if cpc is None else str(cpc)
        write_submission(str(bundle), str(paths["test"]), path, device=device, threads=threads, cpc=titles)
        return read_submission(path)


def read_submission(path: str) -> pd.DataFrame:
    """Return a submission [test rows]: the first column holds ids, as texts."""
    from data_prep.store.files import open_file  # noqa: PLC0415

    with open_file(path) as file:
        return pd.read_csv(file, dtype={0: str}, keep_default_na=False)
