"""Prepared data in Python: `prepare`, `audit`, and `PreparedData`, which both use."""

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from blendfold.python.csv_tables import Table, csv_files
from data_prep.audit.audit_report import AuditReport, write_audit
from data_prep.errors import InputError
from data_prep.prepare.prepare_folder import prepare as prepare_folder
from data_prep.prepared import Prepared, PreparedManifest, load_prepared
from data_prep.store.tables import column_names
from data_prep.store.yaml_documents import check_document
from data_prep.task import PPPM, Task
from data_prep.task_file import read_task

TASKS = {"pppm": PPPM}
"""Tasks that need no file."""


class PreparedData(os.PathLike[str]):
    """A prepared folder: checked texts and scores, frozen folds.

    Args:
        path: the folder, or a `pyarrow.fs` URI, that `prepare` wrote.

    Raises:
        InputError: not a prepared folder, or its tables are damaged.

    Examples:
        >>> data = bf.PreparedData("prepared/sample")
        >>> data.train.shape, data.test.shape
        ((1500, 8), (245, 5))
        >>> data.folds["rows"].tolist()
        [386, 380, 367, 367]
    """

    def __init__(self, path: str | Path) -> None:
        self._prepared = load_prepared(path)

    @property
    def path(self) -> str:
        """The folder."""
        return self._prepared.path

    @property
    def task(self) -> Task:
        """Columns, legal scores and metric."""
        return self._prepared.task

    @property
    def manifest(self) -> PreparedManifest:
        """How the folder was made, with the hashes of data and split."""
        return self._prepared.manifest

    @cached_property
    def train(self) -> pd.DataFrame:
        """The train rows in their order: id, texts, any context_text, scores, group, fold (-1: holdout).

        With repeats, fold_2, fold_3, ... are the folds of the others.
        """
        return _frame(self._prepared.train)

    @cached_property
    def test(self) -> pd.DataFrame:
        """The test rows in their order: id, texts, any context_text."""
        return _frame(self._prepared.test)

    @property
    def folds(self) -> pd.DataFrame:
        """Rows, groups and mean score of each fold (index `fold`); of several targets or classes, the mean of each."""
        numbers = np.unique(self._prepared.folds).tolist()
        parts = pd.concat(
            self.train[self._prepared.in_fold(fold)].assign(fold=np.int8(fold)) for fold in numbers
        ).groupby("fold")
        scores = column_names("score", self.task.target.names)
        means = {name.replace("score", "mean", 1): (name, "mean") for name in scores}
        return parts.agg(rows=("id", "size"), groups=("group", "nunique"), **means)

    def __fspath__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        numbers = {role: self.manifest.rows[role] for role in ("train", "holdout", "test")}
        rows = ", ".join(f"{number:,} {role}" for role, number in numbers.items() if number)
        return f"PreparedData({self.path!r}: task {self.task.name}, {rows}, {self.manifest.n_folds} folds)"


DataSource: TypeAlias = PreparedData | str | Path
"""Prepared data, or the path or URI of their folder."""


def prepare(
    train: Table,
    test: Table | None = None,
    *,
    task: Task | Mapping[str, Any] | str | Path = "pppm",
    out: str | Path | None = None,
    cpc: Table | None = None,
    scheme: str = "stratified_group",
    folds: int = 5,
    repeats: int = 1,
    seed: int = 42,
    holdout: float = 0.0,
) -> PreparedData:
    """Check both tables, split the rows into folds and write a prepared folder, as `blendfold prepare` does.

    Args:
        train: ids, texts and scores; a DataFrame, or the path of a CSV file.
        test: ids and texts; None: no test rows, which only blends of imported models do without.
        task: `pppm`, the path of a task file, or what such a file holds.
        out: the folder to write; None: `prepared/` and the task's name. The same preparation is left as it is, another
            one is never overwritten.
        cpc: CPC titles like Kaggle's titles.csv; None: those that ship with blendfold.
        scheme: `kfold`, `stratified`, `group` or `stratified_group`.
        folds: number of folds.
        repeats: how often to split, each time by another seed.
        seed: random seed of the split.
        holdout: share of rows to keep out of all folds, in whole groups.

    Raises:
        InputError: every fault of both tables and of the settings.

    Examples:
        >>> train = pd.read_csv("train.csv", keep_default_na=False)
        >>> test = pd.read_csv("test.csv", keep_default_na=False)
        >>> bf.prepare(train, test, folds=4, out="prepared/sample")
        PreparedData('prepared/sample': task pppm, 1,500 train, 245 test, 4 folds)
    """
    settled = _read_task(task)
    folder = str(out or Path("prepared", settled.name))
    with csv_files(train=train, test=test, cpc=cpc) as paths:
        assert paths["train"] is not None
        prepare_folder(
            train=paths["train"],
            test=paths["test"],
            out=folder,
            task=settled,
            cpc=paths["cpc"],
            scheme=scheme,
            n_folds=folds,
            repeats=repeats,
            seed=seed,
            holdout=holdout,
        )
    return PreparedData(folder)


def audit(data: DataSource) -> AuditReport:
    """Report leakage, repeated rows and other traps; writes audit.json, as `blendfold audit` does.

    Examples:
        >>> report = bf.audit("prepared/sample")
        >>> report.repeated_rows.rows, report.linked_groups
        (0, 87)
    """
    return write_audit(load(data))


def load(data: DataSource) -> Prepared:
    """Return prepared data as the packages below use them."""
    return data._prepared if isinstance(data, PreparedData) else load_prepared(data)


def _read_task(task: Task | Mapping[str, Any] | str | Path) -> Task:
    if isinstance(task, Task):
        return task
    if isinstance(task, Mapping):
        return check_document(dict(task), Task, where="task")
    if str(task) in TASKS:
        return TASKS[str(task)]
    if not Path(task).suffix and "://" not in str(task):
        raise InputError(f"task {str(task)!r}: known are {', '.join(TASKS)}; else give a task file or what one holds")
    return read_task(task)


def _frame(table: Any) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    return frame
