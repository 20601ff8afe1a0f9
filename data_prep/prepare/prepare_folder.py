"""`prepare`: from the files of a competition to a prepared folder."""

import hashlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_prep.errors import InputError
from data_prep.prepare.folds import (
    GIVEN,
    GROUPED_SCHEMES,
    LEAVE_GROUP_OUT,
    SCHEMES,
    TIME,
    check_measurable,
    check_split_settings,
    choose_holdout,
    number_by_appearance,
    settle_scheme,
    split_rows,
)
from data_prep.prepare.given_folds import folds_in_time, folds_of_column
from data_prep.prepare.pairs import Pairs, read_pairs
from data_prep.prepared import (
    Prepared,
    PreparedManifest,
    fold_columns,
    hash_data,
    hash_split,
    load_prepared,
    split_groups,
    write_prepared,
)
from data_prep.store.files import exists, join, open_file
from data_prep.store.tables import HOLDOUT_FOLD, checksum
from data_prep.store.text_encodings import known_encoding
from data_prep.task import PPPM, Task
from data_prep.wording import count


def prepare(
    *,
    train: str | Path,
    test: str | Path | None,
    out: str | Path,
    task: Task = PPPM,
    cpc: str | Path | None = None,
    scheme: str | None = None,
    n_folds: int = 5,
    repeats: int = 1,
    seed: int = 42,
    holdout: float = 0.0,
    fold_column: str | None = None,
    time_column: str | None = None,
    drop: Collection[str] = (),
    encoding: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Prepared:
    """Check both files, split the rows, and write the prepared folder; the same preparation is left unchanged.

    Without a `test` file there are no test rows. Without `scheme`, the split fits the task: stratified, and by groups
    if there are any, or as `fold_column` or `time_column` of train say. `cpc` holds titles as in Kaggle's `titles.csv`,
    instead of those that ship with the package; `holdout` is the share of the train rows, in whole groups (under
    `time_column`: the latest), that is kept out of all folds. `drop` names columns to leave out; `encoding` is that of
    text files which are not UTF-8. The rows are split `repeats` times, with seeds from `seed` on. `say` gets a sentence
    for everything that a person should know.

    Raises:
        InputError: every fault of the settings or the files, or `out` holds another preparation; nothing is written.
    """
    settled = settle_scheme(scheme, task, fold_column=fold_column, time_column=time_column)
    if faults := check_split_settings(
        settled, n_folds, holdout, seed, task, fold_column=fold_column, time_column=time_column, repeats=repeats
    ):
        raise InputError(*faults)
    pairs = read_pairs(
        train,
        test,
        task,
        cpc=cpc,
        scheme=settled,
        n_folds=n_folds,
        split_column=fold_column or time_column,
        drop=drop,
        encoding=known_encoding(encoding),
    )
    column = fold_column or time_column or ""
    names = fold_columns(repeats)
    _check_free(names[1:], pairs)
    folds = _assign(pairs, scheme=settled, column=column, n_folds=n_folds, seed=seed, holdout=holdout)
    for sentence in (*pairs.said, *_about_split(settled, folds, pairs, asked=scheme)):
        say(sentence)
    table = pairs.train.append_column("group", pa.array(pairs.groups)).append_column("fold", pa.array(folds))
    for repeat, name in enumerate(names[1:], start=1):
        again = _split(pairs, folds == HOLDOUT_FOLD, scheme=settled, n_folds=n_folds, seed=seed + repeat, repeat=repeat)
        table = table.append_column(name, pa.array(again))
    n_holdout = int((folds == HOLDOUT_FOLD).sum())
    inputs = {"train": train, "test": test, "cpc": cpc}
    manifest = PreparedManifest(
        task=pairs.task,
        scheme=settled,
        n_folds=(int(folds.max()) + 1) * repeats,
        seed=seed,
        holdout=holdout,
        rows={"train": table.num_rows - n_holdout, "holdout": n_holdout, "test": pairs.test.num_rows},
        inputs={role: sha256_of(path) for role, path in inputs.items() if path is not None},
        data_hash=hash_data(table, pairs.test, repeats),
        split_hash=hash_split(table, repeats),
        section_titles=pairs.section_titles,
        extra={role: checksum(rows) for role, rows in pairs.extra.items()},
        split_column=column or None,
        repeats=repeats,
    )
    if exists(join(out, "manifest.json")):
        return _unchanged(out, manifest)
    write_prepared(out, manifest, table, pairs.test, pairs.extra)
    del table, pairs  # what is loaded is mapped from the files
    return load_prepared(out)


def _assign(pairs: Pairs, *, scheme: str, column: str, n_folds: int, seed: int, holdout: float) -> NDArray[np.int8]:
    """Return the fold of each train row, -1 for the holdout."""
    if scheme in (GIVEN, TIME):
        assert pairs.split_column is not None
        values = pairs.split_column
        folds = (
            folds_of_column(values, column)
            if scheme == GIVEN
            else folds_in_time(values, column, n_folds=n_folds, holdout=holdout)
        )
    else:
        held = choose_holdout(pairs.groups, holdout, seed)
        return _split(pairs, held, scheme=scheme, n_folds=n_folds, seed=seed)
    check_measurable(folds, pairs.targets, pairs.task)
    return folds


def _split(
    pairs: Pairs, held: NDArray[np.bool_], *, scheme: str, n_folds: int, seed: int, repeat: int = 0
) -> NDArray[np.int8]:
    """Return the fold of each train row in a repeat (from 0), numbered through; -1 where `held` out of all folds."""
    folds = np.full(len(held), HOLDOUT_FOLD, dtype=np.int8)
    groups = number_by_appearance(pairs.groups[~held])
    if scheme == LEAVE_GROUP_OUT:
        folds[~held] = groups
    else:
        targets = pairs.task.target.one_number(pairs.targets)[~held]
        own = split_rows(scheme, targets=targets, groups=groups, task=pairs.task, n_folds=n_folds, seed=seed)
        folds[~held] = own + repeat * n_folds
    check_measurable(folds, pairs.targets, pairs.task)
    return folds


def _check_free(names: Collection[str], pairs: Pairs) -> None:
    """Check that no column of train has one of these names; InputError."""
    if taken := [
        name for table in (pairs.train, *pairs.extra.values()) for name in table.column_names if name in names
    ]:
        raise InputError(
            f"column {', '.join(dict.fromkeys(taken))}: --repeats keeps folds under this name; rename it, or leave it "
            "out with --drop"
        )


def _about_split(scheme: str, folds: NDArray[np.int8], pairs: Pairs, *, asked: str | None) -> list[str]:
    """Return what a person should know about a split that was not asked for in so many words."""
    if asked is None and scheme == "stratified":
        return ["Split: stratified, because the task has no group_column; name one if rows belong together."]
    if scheme not in (*GROUPED_SCHEMES, *SCHEMES, LEAVE_GROUP_OUT) and pairs.task.group_column:
        n_split = split_groups(pairs.groups, folds)
        return [f"{count(n_split, 'group')} of the task have rows in several folds."] if n_split else []
    return []


def _unchanged(out: str | Path, manifest: PreparedManifest) -> Prepared:
    """Return the preparation in `out`, which must be the same as `manifest`."""
    found = load_prepared(out)
    follows = {"section_titles"}  # these follow from the inputs; older versions did not write them
    wanted, there = manifest.model_dump(exclude=follows), found.manifest.model_dump(exclude=follows)
    if differing := [name for name in {**wanted, **there} if wanted.get(name) != there.get(name)]:
        raise InputError(
            f"{out}: already holds another preparation (it differs in {', '.join(differing)}); "
            "a prepared folder is never overwritten: choose another --out, or remove this one if nothing needs it"
        )
    return found


def sha256_of(path: str | Path) -> str:
    """Return the sha256 (hex) of a file."""
    with open_file(path) as file:
        return hashlib.file_digest(cast(Any, file), "sha256").hexdigest()
