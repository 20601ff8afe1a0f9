"""Load the prediction tables of run directories, align them by id, and refuse what does not fit the data."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from blend.members.member_predictions import Floats32, Member, MemberColumns, MemberPredictions
from blend.members.numeric_columns import numeric_columns
from blend.members.row_alignment import (
    ExpectedRows,
    ExpectedRowSets,
    MissingRowsError,
    align,
    check_values,
    has_ids,
    values_of,
)
from blend.members.run_dirs import choose_members, list_candidates, read_imported, read_label
from data_prep.errors import InputError
from data_prep.prepared import Prepared
from data_prep.scoring.metrics import DEAD_BELOW, pearson
from data_prep.store.files import exists, join
from data_prep.store.oof_store import UNKNOWN_SPLIT, OofStore, Provenance
from data_prep.target_views import Narrow, TargetView, target_views


class _LeftOutError(Exception):
    """A candidate cannot be a member, but that is not an error."""


def load_predictions(
    runs: Sequence[str],
    data: Prepared,
    view: TargetView | None = None,
    *,
    members: Collection[str] | None = None,
    exclude: Collection[str] = (),
    allow_mixed_splits: bool = False,
    dead_below: float = DEAD_BELOW,
    with_test: bool = True,
) -> MemberPredictions:
    """Load every finished candidate of `runs`, or only the `members`, aligned by id to the prepared tables.

    Rows and numbers are those of a `view` of the data (None: of the task's first).

    A member is a candidate id or a name in a run's study; a member that cannot take part is an error. Without
    `members`, candidates are left out, with a sentence each, if they are in `exclude`, have unfinished folds, are
    constant, failed to learn a fold (Pearson below `dead_below`, or not a number), or came with an earlier run already.
    Of several targets one may be learned by none: then they all take part.
    One of another split is left out unless its folds cover all rows; it has no holdout: it was trained on those.
    `with_test`: one without test predictions is left out, too, if others have them; else nobody's are loaded.

    Raises:
        InputError: faults of members, rows, ids, scores, values, data or splits; all faults of all candidates.
    """
    view = view or target_views(data.task)[0]
    whole, data, narrow = data, view.data(data), view.narrow
    row_sets = ExpectedRowSets.of(data)
    if empty := [fold for fold, rows in enumerate(row_sets.by_fold) if not len(rows.ids)]:
        raise InputError(
            f"{data.path}: no row of fold {', '.join(map(str, empty))} has a {data.task.score_column}, so nothing is "
            "scored there; prepare the data with fewer folds, or leave this target out of the task"
        )
    taken: list[tuple[Member, MemberColumns]] = []
    faults: list[str] = []
    found = list_candidates(runs, exclude)
    chosen = found if members is None else choose_members(found, runs, members)
    n_others = len(found) - len(chosen)
    left_out = [f"other candidates: {n_others}, which were not asked for"] if n_others else []
    for run, candidate in chosen:
        try:
            _check_wanted(candidate, exclude, [member for member, _ in taken])
            store = OofStore(run)
            tables = {fold: store.read("oof", candidate, fold) for fold in store.folds(candidate)}
            member = _describe(run, candidate, data, tables, allow_mixed_splits=allow_mixed_splits)
            tables = {fold: narrow(table) for fold, table in tables.items()}
            own_split = member.split_hash == data.manifest.split_hash
            columns = _load_columns(member, tables, row_sets, narrow, own_split=own_split, dead_below=dead_below)
            taken.append((member, columns if with_test else replace(columns, test=())))
        except _LeftOutError as error:
            sentence = f"{candidate} {read_label(run, candidate)[0]}: {error}"
            (left_out if members is None else faults).append(sentence)
        except InputError as error:
            faults.extend(error.faults)
    if untested := [member for member, columns in taken if not columns.test]:
        tested = [(member, columns) for member, columns in taken if columns.test]
        sentences = [
            f"{member.candidate} {member.label}: has no test predictions, which others have; --no-submission blends all"
            for member in untested
        ]
        if tested:
            taken = tested
            (left_out if members is None else faults).extend(sentences)
    if faults:
        raise InputError(*faults)
    if not taken and view.name and members is None and dead_below > -np.inf:
        found_all = load_predictions(
            runs,
            whole,
            view,
            exclude=exclude,
            allow_mixed_splits=allow_mixed_splits,
            dead_below=-np.inf,
            with_test=with_test,
        )
        sentence = "no candidate learned this target in every fold, so those that failed to take part as well"
        return replace(found_all, left_out=(sentence, *found_all.left_out))
    if not taken:
        raise InputError(
            f"no candidate of {', '.join(runs)} can be blended; a member needs all {data.manifest.n_folds} folds",
            *left_out,
        )
    numeric, columns_left_out = numeric_columns(data, row_sets)
    assert row_sets.oof.target is not None
    assert row_sets.oof.fold is not None
    return MemberPredictions(
        members=tuple(member for member, _ in taken),
        left_out=(*left_out, *columns_left_out),
        columns=tuple(columns for _, columns in taken),
        ids=row_sets.oof.ids,
        target=row_sets.oof.target,
        fold=row_sets.oof.fold,
        group=row_sets.group,
        row=row_sets.row,
        holdout_target=row_sets.holdout.target if len(row_sets.holdout.ids) else None,
        numeric=numeric,
    )


def _check_wanted(candidate: str, exclude: Collection[str], taken: Sequence[Member]) -> None:
    if candidate in exclude:
        raise _LeftOutError("excluded as asked")
    if earlier := [member.run for member in taken if member.candidate == candidate]:
        raise _LeftOutError(f"already taken from {earlier[0]}")


def _describe(
    run: str, candidate: str, data: Prepared, tables: dict[int, pa.Table], *, allow_mixed_splits: bool
) -> Member:
    provenances = [Provenance.of(table) for table in tables.values()]
    folder = join(run, "oof", candidate)
    manifest = data.manifest
    if any(origin.data_hash != manifest.data_hash for origin in provenances):
        raise InputError(
            f"{folder}: candidate {candidate} was trained on other data than {data.path} "
            f"(data_hash {provenances[0].data_hash[:12]}, expected {manifest.data_hash[:12]}); "
            f"blend runs over the same data, or leave it out with --exclude {candidate}"
        )
    splits = {origin.split_hash for origin in provenances}
    if len(splits) > 1:
        raise InputError(
            f"{folder}: the folds of candidate {candidate} come from {len(splits)} different splits; "
            f"leave it out with --exclude {candidate}"
        )
    split = splits.pop()
    if split not in (manifest.split_hash, UNKNOWN_SPLIT) and not allow_mixed_splits:
        raise InputError(
            f"{folder}: candidate {candidate} was trained on another split than {data.path} "
            f"(split_hash {split[:12]}, expected {manifest.split_hash[:12]}); nested scores of mixed splits can be too "
            f"good; blend it anyway with --allow-mixed-splits, or leave it out with --exclude {candidate}"
        )
    if split == manifest.split_hash and len(tables) < manifest.n_folds:
        raise _LeftOutError(f"{len(tables)} of {manifest.n_folds} folds finished")
    label, family = read_label(run, candidate)
    retried = tuple(origin.fold for origin in provenances if origin.attempt)
    return Member(candidate=candidate, label=label, family=family, run=run, split_hash=split, retried=retried)


def _load_columns(
    member: Member,
    tables: dict[int, pa.Table],
    row_sets: ExpectedRowSets,
    narrow: Narrow,
    *,
    own_split: bool,
    dead_below: float,
) -> MemberColumns:
    has_holdout, imported = own_split and len(row_sets.holdout.ids) > 0, read_imported(member.run, member.candidate)
    if has_holdout and imported:
        has_holdout = exists(join(member.run, "holdout", member.candidate))
    has_test = len(row_sets.test.ids) > 0 and (imported is None or "test" in imported)
    return MemberColumns(
        oof=_load_oof(member, tables, row_sets, own_split=own_split, dead_below=dead_below),
        test=_distinct(_load_folds(member, "test", row_sets.test, narrow)) if has_test else (),
        holdout=_load_folds(member, "holdout", row_sets.holdout, narrow) if has_holdout else (),
    )


def _load_oof(
    member: Member, tables: dict[int, pa.Table], row_sets: ExpectedRowSets, *, own_split: bool, dead_below: float
) -> tuple[Floats32, ...]:
    """Return the out-of-fold predictions of a member by fold of the prepared data, checked."""
    store = OofStore(member.run)
    rows = row_sets.oof if own_split else replace(row_sets.oof, fold=None)
    if row_sets.row is not None and not own_split:
        raise _LeftOutError("its folds are not those of this split, which has repeats")
    as_prepared = own_split and all(has_ids(table, row_sets.by_fold[fold]) for fold, table in tables.items())
    faults = [
        fault
        for fold, table in tables.items()
        for fault in check_values(
            table,
            row_sets.by_fold[fold] if as_prepared or row_sets.row is not None else rows,
            store.path("oof", member.candidate, fold),
            member.candidate,
        )
    ]
    if faults:
        raise InputError(*faults)
    folder = join(member.run, "oof", member.candidate)
    if as_prepared:
        parts = tuple(values_of(table) for table in tables.values())
    elif row_sets.row is not None:
        by_fold = zip(tables.values(), row_sets.by_fold, strict=True)
        parts = tuple(_read_column(table, of_fold, folder, member.candidate) for table, of_fold in by_fold)
    else:
        parts = _rearrange(pa.concat_tables(tables.values()), row_sets, rows, folder, member, own_split=own_split)
    first = parts[0][0]
    if all((part == first).all() for part in parts):
        raise _LeftOutError(f"predicts {first:g} for all {len(rows.ids)} rows")
    for fold, table in tables.items():
        value = pearson(table["score"].to_numpy(), table["prediction"].to_numpy())
        if not value >= dead_below:
            raise _LeftOutError(f"dead in fold {fold} (Pearson {value:.3f})")
    return parts


def _rearrange(
    table: pa.Table, row_sets: ExpectedRowSets, rows: ExpectedRows, folder: str, member: Member, *, own_split: bool
) -> tuple[Floats32, ...]:
    """Return predictions in the order of the prepared data, by its folds."""
    try:
        order = align(table, rows, folder, member.candidate)
    except MissingRowsError as error:
        if own_split:
            raise
        raise _LeftOutError("its finished folds do not cover all rows of this split") from error
    ends = np.cumsum([len(part.ids) for part in row_sets.by_fold])[:-1]
    return tuple(np.split(table["prediction"].to_numpy()[order], ends))


def _load_folds(member: Member, kind: str, rows: ExpectedRows, narrow: Narrow) -> tuple[Floats32, ...]:
    """Return a member's predictions for `rows`, one column for each of its folds."""
    store = OofStore(member.run)
    faults: list[str] = []
    columns: list[Floats32] = []
    for fold in store.folds(member.candidate):
        path = store.path(kind, member.candidate, fold)
        try:
            table = narrow(store.read(kind, member.candidate, fold))
            columns.append(_read_column(table, rows, path, member.candidate))
        except InputError as error:
            faults.extend(error.faults)
    if faults:
        raise InputError(*faults)
    return tuple(columns)


def _distinct(columns: tuple[Floats32, ...]) -> tuple[Floats32, ...]:
    """Return one column in place of copies of it: an imported model has one for all of its folds."""
    first, *others = columns
    return (first,) if all(np.array_equal(first, other) for other in others) else columns


def _read_column(table: pa.Table, rows: ExpectedRows, path: str, candidate: str) -> Floats32:
    if faults := check_values(table, rows, path, candidate):
        raise InputError(*faults)
    if has_ids(table, rows):
        return values_of(table)
    return np.asarray(table["prediction"].to_numpy()[align(table, rows, path, candidate)])
