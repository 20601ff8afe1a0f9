"""Prediction tables of run directories, aligned by id into one matrix; what does not fit is refused."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from blend.objective import Floats
from blend.runs import choose_members, is_imported, list_candidates, read_label
from data_prep.errors import InputError
from data_prep.metrics import DEAD_BELOW, pearson
from data_prep.oof import UNKNOWN_SPLIT, OofStore, Provenance
from data_prep.prepared import Prepared
from data_prep.tables import HOLDOUT_FOLD, exists, join

SHOWN_IDS = 5


@dataclass(frozen=True)
class Member:
    """A candidate whose predictions take part in a blend."""

    candidate: str
    """Candidate id."""
    label: str
    family: str
    run: str
    """The run directory that holds its tables."""
    split_hash: str
    retried: tuple[int, ...] = ()
    """Folds that died once and were trained again with another seed and lower rates."""


@dataclass(frozen=True)
class Predictions:
    """Aligned predictions of the members; rows stand in the order of the prepared tables."""

    members: tuple[Member, ...]
    left_out: tuple[str, ...]
    """One sentence for each candidate that is no member: which and why."""
    oof: Floats
    """[rows, members], rows of the training folds."""
    score: Floats
    """[rows]"""
    fold: NDArray[np.int8]
    """[rows]"""
    group: NDArray[np.int32]
    """[rows]"""
    test: Floats
    """[test rows, members], means over a candidate's folds."""
    holdout: Floats | None
    """[holdout rows, members], means over a candidate's folds; None without holdout, or with mixed splits."""
    holdout_score: Floats | None
    notes: tuple[str, ...] = ()
    """What a person should know of the members, one sentence each."""


@dataclass(frozen=True)
class _Pool:
    """Rows that a column of predictions must cover, each once."""

    noun: str
    ids: pa.Array
    score: Floats | None
    fold: NDArray[np.int8] | None


@dataclass(frozen=True)
class _Pools:
    """The three pools of a prepared folder."""

    trained: NDArray[np.bool_]
    """[train rows]: not holdout."""
    oof: _Pool
    test: _Pool
    holdout: _Pool

    @classmethod
    def of(cls, data: Prepared) -> "_Pools":
        fold = data.train["fold"].to_numpy()
        trained = fold != HOLDOUT_FOLD
        score = data.train["score"].to_numpy().astype(np.float64)
        ids = data.train["id"].combine_chunks()
        return cls(
            trained=trained,
            oof=_Pool("out-of-fold", ids.filter(pa.array(trained)), score[trained], fold[trained]),
            test=_Pool("test", data.test["id"].combine_chunks(), None, None),
            holdout=_Pool("holdout", ids.filter(pa.array(~trained)), score[~trained], None),
        )


@dataclass(frozen=True)
class _Columns:
    """One member's aligned predictions."""

    member: Member
    oof: Floats
    test: Floats
    holdout: Floats | None


class _MissingRowsError(InputError):
    """Rows without a prediction, where every other check was passed."""


class _LeftOutError(Exception):
    """A candidate that cannot be a member for a reason that is nobody's fault."""


def load_predictions(
    runs: Sequence[str],
    data: Prepared,
    *,
    members: Collection[str] | None = None,
    exclude: Collection[str] = (),
    allow_mixed_splits: bool = False,
    dead_below: float = DEAD_BELOW,
) -> Predictions:
    """Load every finished candidate of `runs`, or only the `members`, aligned by id to the prepared tables.

    A member is a name of a run's study or a candidate id; one that cannot take part is an error. Otherwise left out,
    with a sentence each: candidates in `exclude`, with unfinished folds, dead in a fold (Pearson below `dead_below`,
    or not a number), or already taken from an earlier run. With mixed splits a candidate of another split is left out
    unless its folds cover all rows, and there is no holdout: other splits trained on its rows.

    Raises:
        InputError: unknown members, missing rows, two values for an id, scores other than the data's, predictions that
            are not finite, constant columns, other data, another split without `allow_mixed_splits`; all faults of
            all candidates.
    """
    pools = _Pools.of(data)
    columns: list[_Columns] = []
    faults: list[str] = []
    found = list_candidates(runs, exclude)
    chosen = found if members is None else choose_members(found, runs, members)
    n_others = len(found) - len(chosen)
    left_out = [f"other candidates: {n_others}, which were not asked for"] if n_others else []
    for run, candidate in chosen:
        try:
            _pass_over(candidate, exclude, columns)
            member = _describe(run, candidate, data, allow_mixed_splits=allow_mixed_splits)
            own_split = member.split_hash == data.manifest.split_hash
            columns.append(_load_columns(member, pools, own_split=own_split, dead_below=dead_below))
        except _LeftOutError as error:
            sentence = _sentence(run, candidate, str(error))
            (left_out if members is None else faults).append(sentence)
        except InputError as error:
            faults.extend(error.faults)
    if faults:
        raise InputError(*faults)
    if not columns:
        raise InputError(
            f"no candidate of {', '.join(runs)} can be blended; "
            f"a member needs all {data.manifest.n_folds} folds finished",
            *left_out,
        )
    holdout = [column.holdout for column in columns if column.holdout is not None]
    has_holdout = len(holdout) == len(columns)
    trained = pools.trained
    assert pools.oof.score is not None
    return Predictions(
        members=tuple(column.member for column in columns),
        left_out=tuple(left_out),
        oof=np.column_stack([column.oof for column in columns]),
        score=pools.oof.score,
        fold=data.train["fold"].to_numpy()[trained],
        group=data.train["group"].to_numpy()[trained],
        test=np.column_stack([column.test for column in columns]),
        holdout=np.column_stack(holdout) if has_holdout else None,
        holdout_score=pools.holdout.score if has_holdout else None,
        notes=_notes(columns, pools),
    )


def _notes(columns: Sequence[_Columns], pools: _Pools) -> tuple[str, ...]:
    notes = []
    if unknown := [column.member.label for column in columns if column.member.split_hash == UNKNOWN_SPLIT]:
        notes.append(
            f"split unknown of {len(unknown)} members ({', '.join(unknown)}): rows may have been trained on by the "
            "model that predicts them; nested scores can flatter"
        )
    lacking = [column.member.label for column in columns if column.holdout is None]
    if lacking and len(pools.holdout.ids):
        notes.append(f"no holdout score: {', '.join(lacking)} cannot be scored there")
    return tuple(notes)


def _pass_over(candidate: str, exclude: Collection[str], taken: "list[_Columns]") -> None:
    if candidate in exclude:
        raise _LeftOutError("excluded as asked")
    if earlier := [column.member.run for column in taken if column.member.candidate == candidate]:
        raise _LeftOutError(f"already taken from {earlier[0]}")


def _sentence(run: str, candidate: str, reason: str) -> str:
    return f"{candidate} {read_label(run, candidate)[0]}: {reason}"


def _describe(run: str, candidate: str, data: Prepared, *, allow_mixed_splits: bool) -> Member:
    store = OofStore(run)
    folds = store.folds(candidate)
    provenances = [Provenance.of(store.read("oof", candidate, fold)) for fold in folds]
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
            f"(split_hash {split[:12]}, expected {manifest.split_hash[:12]}); scores of mixed splits can flatter; "
            f"blend them all the same with --allow-mixed-splits, or leave it out with --exclude {candidate}"
        )
    if split == manifest.split_hash and len(folds) < manifest.n_folds:
        raise _LeftOutError(f"{len(folds)} of {manifest.n_folds} folds finished")
    label, family = read_label(run, candidate)
    retried = tuple(origin.fold for origin in provenances if origin.attempt)
    return Member(candidate=candidate, label=label, family=family, run=run, split_hash=split, retried=retried)


def _load_columns(member: Member, pools: _Pools, *, own_split: bool, dead_below: float) -> _Columns:
    has_holdout = own_split and len(pools.holdout.ids) > 0
    if has_holdout and is_imported(member.run, member.candidate):
        has_holdout = exists(join(member.run, "holdout", member.candidate))
    return _Columns(
        member=member,
        oof=_oof_column(member, pools.oof, own_split=own_split, dead_below=dead_below),
        test=_mean_column(member, "test", pools.test),
        holdout=_mean_column(member, "holdout", pools.holdout) if has_holdout else None,
    )


def _oof_column(member: Member, rows: _Pool, *, own_split: bool, dead_below: float) -> Floats:
    """Return the aligned out-of-fold predictions of a member, checked."""
    store = OofStore(member.run)
    pool = rows if own_split else replace(rows, fold=None)
    tables = {fold: store.read("oof", member.candidate, fold) for fold in store.folds(member.candidate)}
    faults = [
        fault
        for fold, table in tables.items()
        for fault in _check_values(table, pool, store.path("oof", member.candidate, fold), member.candidate)
    ]
    if faults:
        raise InputError(*faults)
    folder = join(member.run, "oof", member.candidate)
    try:
        column = _align(pa.concat_tables(tables.values()), pool, folder, member.candidate)
    except _MissingRowsError as error:
        if own_split:
            raise
        raise _LeftOutError("its finished folds do not cover all rows of this split") from error
    if np.ptp(column) == 0.0:
        raise InputError(
            f"{folder}: candidate {member.candidate} predicts {column[0]:g} for all {len(column)} rows; "
            f"a constant column cannot be blended, leave it out with --exclude {member.candidate}"
        )
    for fold, table in tables.items():
        value = pearson(table["score"].to_numpy(), table["prediction"].to_numpy())
        if not value >= dead_below:
            raise _LeftOutError(f"dead in fold {fold} (Pearson {value:.3f})")
    return column


def _mean_column(member: Member, kind: str, pool: _Pool) -> Floats:
    """Return a member's predictions for `pool`, the mean over its folds."""
    store = OofStore(member.run)
    faults: list[str] = []
    columns: list[Floats] = []
    for fold in store.folds(member.candidate):
        try:
            columns.append(
                _read_column(
                    store.read(kind, member.candidate, fold),
                    pool,
                    store.path(kind, member.candidate, fold),
                    member.candidate,
                )
            )
        except InputError as error:
            faults.extend(error.faults)
    if faults:
        raise InputError(*faults)
    return np.asarray(np.mean(columns, axis=0))


def _read_column(table: pa.Table, pool: _Pool, path: str, candidate: str) -> Floats:
    if faults := _check_values(table, pool, path, candidate):
        raise InputError(*faults)
    return _align(table, pool, path, candidate)


def _check_values(table: pa.Table, pool: _Pool, path: str, candidate: str) -> list[str]:
    """Return what is wrong with the rows that are there."""
    remedy = f"the file does not belong to this data; leave the candidate out with --exclude {candidate}"
    ids = table["id"].combine_chunks()
    position = pc.index_in(ids, value_set=pool.ids)
    known = position.is_valid().to_numpy(zero_copy_only=False)
    place = position.fill_null(0).to_numpy()
    prediction = table["prediction"].to_numpy()
    wrong = {
        f"are no {pool.noun} rows of the prepared data; {remedy}": ~known,
        f"have a prediction that is NaN or infinite; leave the candidate out with --exclude {candidate}": ~np.isfinite(
            prediction
        ),
    }
    if pool.score is not None:
        wrong[f"have another score than the prepared data; {remedy}"] = known & (
            table["score"].to_numpy() != pool.score[place].astype(np.float32)
        )
    if pool.fold is not None:
        wrong[f"stand in another fold than in the prepared data; {remedy}"] = known & (
            table["fold"].to_numpy() != pool.fold[place]
        )
    return [
        f"{path}: candidate {candidate}: {int(mask.sum())} of {len(ids)} rows {what} (ids {_show(ids, mask)})"
        for what, mask in wrong.items()
        if mask.any()
    ]


def _align(table: pa.Table, pool: _Pool, path: str, candidate: str) -> Floats:
    """Return predictions [rows of the pool]; every row must be there exactly once."""
    position = pc.index_in(table["id"].combine_chunks(), value_set=pool.ids).to_numpy()
    times = np.bincount(position, minlength=len(pool.ids))
    if (times > 1).any():
        raise InputError(
            f"{path}: candidate {candidate}: {int((times > 1).sum())} ids have two or more {pool.noun} predictions "
            f"(ids {_show(pool.ids, times > 1)}); leave the candidate out with --exclude {candidate}"
        )
    if (times == 0).any():
        raise _MissingRowsError(
            f"{path}: candidate {candidate}: {int((times == 0).sum())} of {len(pool.ids)} rows have no {pool.noun} "
            f"prediction (ids {_show(pool.ids, times == 0)}); leave the candidate out with --exclude {candidate}"
        )
    column = np.empty(len(pool.ids))
    column[position] = table["prediction"].to_numpy()
    return column


def _show(ids: pa.Array, mask: NDArray[np.bool_]) -> str:
    shown = [str(value) for value in ids.filter(pa.array(mask)).slice(0, SHOWN_IDS).to_pylist()]
    return ", ".join(shown) + (", ..." if mask.sum() > SHOWN_IDS else "")
