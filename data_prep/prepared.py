"""The prepared folder: tables and a manifest, which every later step starts from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from data_prep.cpc import section_titles, shipped_texts
from data_prep.errors import InputError
from data_prep.frozen_record import GrowingRecord
from data_prep.store.files import exists, join
from data_prep.store.sealed_records import read_record, write_record
from data_prep.store.tables import (
    BLOCK_ROWS,
    CHECKSUM_KEY,
    checksum,
    column_names,
    metadata_of,
    read_table,
    write_table,
)
from data_prep.targets.target_columns import numbers_of
from data_prep.task import Task
from data_prep.wording import command


class PreparedManifest(GrowingRecord):
    """What a prepared folder holds and how it was made; stored as `manifest.json`."""

    later_fields: ClassVar[frozenset[str]] = frozenset({"extra", "split_column", "repeats"})

    task: Task
    scheme: str
    n_folds: int
    """Of all repeats together."""
    seed: int
    holdout: float
    """Requested share of train rows in the holdout (fold -1), in [0, 1)."""
    rows: dict[str, int]
    """Row counts: `train` (holdout not counted), `holdout`, `test`."""
    inputs: dict[str, str]
    """sha256 of each input file, by role (`train`, `test`, `cpc`)."""
    data_hash: str
    """Identifies texts and targets, but not the split."""
    split_hash: str
    """Identifies which row is in which fold."""
    section_titles: dict[str, str] | None = None
    """Title of each CPC section, by letter, which `context_text` begins with. None: no CPC codes, or an older version
    wrote the folder."""
    extra: dict[str, str] = Field(default={})
    """Checksum of each table in `extra/`, by role (`train`, `test`): columns that the task does not name."""
    split_column: str | None = None
    """The column of the train file that decided the folds (schemes `given` and `time`)."""
    repeats: int = 1
    """How often the rows were split, with seeds from `seed` on; the folds are numbered through."""

    @property
    def folds_per_repeat(self) -> int:
        """Number of folds that hold every row outside the holdout once."""
        return self.n_folds // self.repeats

    @property
    def in_repeats(self) -> str:
        """What follows the number of folds where there are several repeats."""
        return f" in {self.repeats} repeats" if self.repeats > 1 else ""

    @property
    def ledger_scheme(self) -> str:
        """The scheme as a ledger compares it: where every row is its own group, none takes groups apart."""
        alike = {"leave_group_out": "group"}
        if self.task.group_column is None:
            alike |= {"kfold": "group", "stratified": "stratified_group"}
        return alike.get(self.scheme, self.scheme)


@dataclass(frozen=True)
class Prepared:
    """A prepared folder in memory (tables stay memory-mapped)."""

    path: str
    manifest: PreparedManifest
    train: pa.Table
    """`train_schema`, then the columns that the task does not name."""
    test: pa.Table
    """`test_schema`, then the columns that the task does not name."""

    @property
    def task(self) -> Task:
        """The task that the folder was prepared for."""
        return self.manifest.task

    @property
    def targets(self) -> NDArray[np.float32]:
        """The targets of the train rows: [rows] of one number, else [rows, numbers]; NaN where missing."""
        return numbers_of(self.train, "score", self.task.target.names)

    @property
    def one_target(self) -> NDArray[np.float32]:
        """One number [rows] for each row's targets, as their kind makes it."""
        return self.task.target.one_number(self.targets)

    @property
    def folds(self) -> NDArray[np.int8]:
        """The fold of each train row in each repeat, [repeats, train rows]; -1 for the holdout."""
        return np.stack([self.train[name].to_numpy() for name in fold_columns(self.manifest.repeats)])

    def in_fold(self, fold: int) -> NDArray[np.bool_]:
        """Return which train rows are in a fold [train rows]; -1 is the holdout."""
        repeat = max(fold, 0) // self.manifest.folds_per_repeat
        return np.asarray(self.train[fold_columns(repeat + 1)[-1]].to_numpy() == fold)

    @property
    def has_test(self) -> bool:
        """Whether there are test rows to predict."""
        return bool(self.test.num_rows)

    @property
    def test_group(self) -> pa.ChunkedArray | None:
        """The group of each test row; None where the folder does not have it."""
        column = self.task.group_column
        return self.test[column] if column in self.test.column_names else None

    @property
    def section_titles(self) -> dict[str, str]:
        """Title of each CPC section, by letter.

        Raises:
            InputError: the titles that the folder was prepared with are unknown.
        """
        if self.manifest.section_titles is not None:
            return self.manifest.section_titles
        if "cpc" in self.manifest.inputs:
            raise InputError(
                f"{self.path}: prepared with your own titles by a version that did not keep section titles; "
                "prepare the data again into another folder to use class titles"
            )
        return section_titles(shipped_texts())


def fold_columns(repeats: int) -> list[str]:
    """Return the columns with the folds of each repeat: fold, fold_2, fold_3, ..."""
    return ["fold", *(f"fold_{number}" for number in range(2, repeats + 1))]


def train_schema(task: Task, repeats: int = 1) -> pa.Schema:
    """Schema of `train.arrow`: id, texts, context_text where there are CPC codes, scores, any weight, group, folds."""
    scores = [(name, pa.float32()) for name in column_names("score", task.target.names)]
    weight = [("weight", pa.float32())] if task.weight_column else []
    folds = [(name, pa.int8()) for name in fold_columns(repeats)]
    return pa.schema([*_text_fields(task), *scores, *weight, ("group", pa.int32()), *folds])


def test_schema(task: Task) -> pa.Schema:
    """Schema of a prepared `test.arrow`: the train schema without score, group and fold."""
    return pa.schema(_text_fields(task))


def _text_fields(task: Task) -> list[tuple[str, pa.DataType]]:
    names = ["id", *task.text_columns, *(["context_text"] if task.cpc_column else [])]
    return [(name, pa.string()) for name in names]


def hash_data(train: pa.Table, test: pa.Table, repeats: int = 1) -> str:
    """Return the hash of everything but the split."""
    return checksum_of(checksum(train.drop_columns(["group", *fold_columns(repeats)])), checksum(test))


def hash_split(train: pa.Table, repeats: int = 1) -> str:
    """Return the hash of the assignment of ids to folds."""
    return checksum(train.select(["id", *fold_columns(repeats)]))


def checksum_of(*parts: str) -> str:
    """Return one checksum for several."""
    return checksum(pa.table({"part": pa.array(parts, pa.string())}))


def refold(data: Prepared, fold: NDArray[np.int8]) -> Prepared:
    """Return the same data with other folds [train rows], split once; the holdout stays."""
    groups = data.train["group"].to_numpy()
    n_folds = int(fold.max()) + 1
    train = data.train.drop_columns(fold_columns(data.manifest.repeats)[1:])
    train = train.set_column(train.column_names.index("fold"), "fold", pa.array(fold, pa.int8()))
    split = {
        "scheme": "kfold" if data.task.group_column is None or split_groups(groups, fold) else "group",
        "n_folds": n_folds,
        "repeats": 1,
        "split_hash": hash_split(train),
    }
    return Prepared(data.path, data.manifest.model_copy(update=split), train, data.test)


def split_groups(groups: NDArray[np.int32], fold: NDArray[np.int8]) -> int:
    """Return how many groups have rows in several folds."""
    pairs = np.unique(np.column_stack([groups, fold]), axis=0)
    return int((np.unique(pairs[:, 0], return_counts=True)[1] > 1).sum())


def write_prepared(
    folder: str | Path,
    manifest: PreparedManifest,
    train: pa.Table,
    test: pa.Table,
    extra: Mapping[str, pa.Table] = MappingProxyType({}),
) -> None:
    """Write both tables, those in `extra/`, then the manifest; a folder without a manifest is unfinished."""
    schemas = train_schema(manifest.task, manifest.repeats), test_schema(manifest.task)
    for name, table, schema in zip(("train", "test"), (train, test), schemas, strict=True):
        write_table(table, join(folder, f"{name}.arrow"), schema=schema, batch_rows=BLOCK_ROWS)
    for role, table in extra.items():
        write_table(table, _extra_path(folder, role), schema=table.schema, batch_rows=BLOCK_ROWS)
    write_record(manifest.model_dump(mode="json"), join(folder, "manifest.json"))


def load_prepared(folder: str | Path) -> Prepared:
    """Load and verify a prepared folder.

    Raises:
        InputError: not a prepared folder, or its tables do not belong to its manifest.
        DamagedTableError: a table was truncated or altered.
    """
    path = join(folder, "manifest.json")
    if not exists(path):
        raise InputError(
            f"{folder}: not a prepared folder (no manifest.json); "
            f"make one with `{command('blendfold prepare', options={'--out': folder})} ...`"
        )
    manifest = read_record(path, PreparedManifest.model_validate, remedy="prepare the data again")
    repeats = manifest.repeats
    train = read_table(join(folder, "train.arrow"), schema=train_schema(manifest.task, repeats))
    test = read_table(join(folder, "test.arrow"), schema=test_schema(manifest.task))
    hashes = (hash_data(train, test, repeats), hash_split(train, repeats))
    n_folds = (pc.max(train[fold_columns(repeats)[-1]]).as_py() or 0) + 1
    if (*hashes, n_folds) != (manifest.data_hash, manifest.split_hash, manifest.n_folds):
        raise InputError(f"{folder}: tables and manifest.json belong to different preparations; prepare the data again")
    tables = {"train": train, "test": test}
    for role, stamp in manifest.extra.items():
        tables[role] = _with_extra(tables[role], _extra_path(folder, role), stamp)
    return Prepared(path=str(folder), manifest=manifest, **tables)


def _extra_path(folder: str | Path, role: str) -> str:
    return join(folder, "extra", f"{role}.arrow")


def _with_extra(table: pa.Table, path: str, stamp: str) -> pa.Table:
    """Return a table with the columns of the file at `path`, whose checksum must be `stamp`."""
    extra = read_table(path)
    if metadata_of(extra)[CHECKSUM_KEY] != stamp or extra.num_rows != table.num_rows:
        raise InputError(f"{path}: belongs to another preparation than manifest.json; prepare the data again")
    for name, column in zip(extra.column_names, extra.columns, strict=True):
        table = table.append_column(name, column)
    return table
