"""`prepare`: from two CSV files to a prepared folder."""

import hashlib
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_prep.errors import InputError
from data_prep.prepare.folds import (
    check_measurable,
    check_split_settings,
    choose_holdout,
    number_by_appearance,
    split_rows,
)
from data_prep.prepare.pairs import Pairs, read_pairs
from data_prep.prepared import Prepared, PreparedManifest, hash_data, hash_split, load_prepared, write_prepared
from data_prep.store.files import exists, join, open_file
from data_prep.store.tables import HOLDOUT_FOLD
from data_prep.task import PPPM, Task


def prepare(
    *,
    train: str | Path,
    test: str | Path | None,
    out: str | Path,
    task: Task = PPPM,
    cpc: str | Path | None = None,
    scheme: str = "stratified_group",
    n_folds: int = 5,
    seed: int = 42,
    holdout: float = 0.0,
) -> Prepared:
    """Check both files, split the rows, and write the prepared folder; the same preparation is left unchanged.

    Without a `test` file there are no test rows.

    `cpc` holds titles as in Kaggle's `titles.csv`, instead of those that ship with the package; `holdout` is the share
    of the train rows, in whole groups, that is kept out of all folds.

    Raises:
        InputError: every fault of the settings or the files, or `out` holds another preparation; nothing is written.
    """
    if faults := check_split_settings(scheme, n_folds, holdout, seed, task):
        raise InputError(*faults)
    pairs = read_pairs(train, test, task, cpc=cpc, scheme=scheme, n_folds=n_folds)
    folds = _assign(pairs, task, scheme=scheme, n_folds=n_folds, seed=seed, holdout=holdout)
    table = pairs.train.append_column("group", pa.array(pairs.groups)).append_column("fold", pa.array(folds))
    n_holdout = int((folds == HOLDOUT_FOLD).sum())
    inputs = {"train": train, "test": test, "cpc": cpc}
    manifest = PreparedManifest(
        task=task,
        scheme=scheme,
        n_folds=n_folds,
        seed=seed,
        holdout=holdout,
        rows={"train": table.num_rows - n_holdout, "holdout": n_holdout, "test": pairs.test.num_rows},
        inputs={role: sha256_of(path) for role, path in inputs.items() if path is not None},
        data_hash=hash_data(table, pairs.test),
        split_hash=hash_split(table),
        section_titles=pairs.section_titles,
    )
    if exists(join(out, "manifest.json")):
        return _unchanged(out, manifest)
    write_prepared(out, manifest, table, pairs.test)
    del table, pairs  # what is loaded is mapped from the files
    return load_prepared(out)


def _assign(pairs: Pairs, task: Task, *, scheme: str, n_folds: int, seed: int, holdout: float) -> NDArray[np.int8]:
    """Return the fold of each train row, -1 for the holdout."""
    targets = pairs.train["score"].to_numpy()
    held = choose_holdout(pairs.groups, holdout, seed)
    folds = np.full(len(targets), HOLDOUT_FOLD, dtype=np.int8)
    folds[~held] = split_rows(
        scheme,
        targets=targets[~held],
        groups=number_by_appearance(pairs.groups[~held]),
        task=task,
        n_folds=n_folds,
        seed=seed,
    )
    check_measurable(folds, targets, task.metric)
    return folds


def _unchanged(out: str | Path, manifest: PreparedManifest) -> Prepared:
    """Return the preparation in `out`, which must be the same as `manifest`."""
    found = load_prepared(out)
    follows = {"section_titles"}  # these follow from the inputs; older versions did not write them
    wanted, there = manifest.model_dump(exclude=follows), found.manifest.model_dump(exclude=follows)
    if differing := [name for name in wanted if wanted[name] != there[name]]:
        raise InputError(
            f"{out}: already holds another preparation (it differs in {', '.join(differing)}); "
            "a prepared folder is never overwritten: choose another --out, or remove this one if nothing needs it"
        )
    return found


def sha256_of(path: str | Path) -> str:
    """Return the sha256 (hex) of a file."""
    with open_file(path) as file:
        return hashlib.file_digest(cast(Any, file), "sha256").hexdigest()
