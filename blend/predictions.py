"""Prediction tables of run directories, aligned by id into one matrix; what does not fit is refused."""

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from blend.runs import choose_members, is_imported, list_candidates, read_label
from blend.sums import Sums, measure, total
from data_prep.combination import Floats
from data_prep.errors import InputError
from data_prep.metrics import DEAD_BELOW, pearson
from data_prep.oof import UNKNOWN_SPLIT, OofStore, Provenance
from data_prep.prepared import Prepared
from data_prep.tables import HOLDOUT_FOLD, exists, join, one_array

Floats32 = NDArray[np.float32]

SHOWN_IDS = 5
BLOCK_CELLS = 4_000_000
"""Predictions that are held at once while sums are taken: 32 MB."""


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


@dataclass(frozen=True, eq=False)
class Columns:
    """One member's predictions; long ones stay in their files, memory-mapped."""

    oof: tuple[Floats32, ...]
    """For each fold of the prepared data [rows of the fold], in prepared order."""
    own_fold: tuple[NDArray[np.int8], ...] | None
    """Number of the candidate's own fold for each row of `oof`; None: the fold of the prepared data."""
    test: tuple[Floats32, ...]
    """For each of the candidate's folds [test rows]."""
    holdout: tuple[Floats32, ...]
    """For each of the candidate's folds [holdout rows]; empty without holdout, and where other splits trained on it."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """Aligned predictions of the members; rows stand fold by fold, inside a fold in prepared order."""

    members: tuple[Member, ...]
    left_out: tuple[str, ...]
    """One sentence for each candidate that is no member: which and why."""
    columns: tuple[Columns, ...]
    """One for each member."""
    ids: pa.Array
    """[rows], of the training folds."""
    score: Floats
    """[rows]"""
    fold: NDArray[np.int8]
    """[rows], ascending."""
    group: NDArray[np.int32]
    """[rows]"""
    holdout_score: Floats | None
    """[holdout rows]; None without holdout."""

    @cached_property
    def folds(self) -> tuple[slice, ...]:
        """The rows of each fold."""
        ends = np.cumsum(np.unique(self.fold, return_counts=True)[1]).tolist()
        return tuple(slice(start, end) for start, end in zip([0, *ends], ends, strict=False))

    def oof(self, members: Iterable[int]) -> Floats:
        """Return the out-of-fold predictions of some members, [rows, chosen]."""
        return self._gather(members, self.folds)

    def oof_in(self, fold: int, members: Iterable[int]) -> Floats:
        """Return the out-of-fold predictions of some members for the rows of one fold, [rows of the fold, chosen]."""
        return self._gather(members, self.folds[fold : fold + 1], first=fold)

    def _gather(self, members: Iterable[int], folds: Sequence[slice], *, first: int = 0) -> Floats:
        """Return predictions of successive folds, filled in column by column: nothing is held twice."""
        chosen, start = list(members), folds[0].start
        gathered = np.empty((folds[-1].stop - start, len(chosen)))
        for place, member in enumerate(chosen):
            for part, rows in zip(self.columns[member].oof[first:], folds, strict=False):
                gathered[rows.start - start : rows.stop - start, place] = part
        return gathered

    def own_folds(self, member: int) -> NDArray[np.int8]:
        """Return the candidate's own fold of each row, [rows]."""
        own = self.columns[member].own_fold
        return self.fold if own is None else np.concatenate(own)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of the members, one sentence each."""
        told = []
        if unknown := [member.label for member in self.members if member.split_hash == UNKNOWN_SPLIT]:
            told.append(
                f"split unknown of {len(unknown)} candidates ({', '.join(unknown)}): rows may have been trained on by "
                "the model that predicts them; nested scores can flatter"
            )
        named = {member.split_hash for member in self.members} - {UNKNOWN_SPLIT}
        if len(named) > 1:
            told.append(f"candidates of {len(named)} splits: rows may have been trained on; nested scores can flatter")
        pairs = zip(self.members, self.columns, strict=True)
        lacking = [member.label for member, columns in pairs if not columns.holdout]
        if lacking and self.holdout_score is not None:
            told.append(f"no holdout score with {', '.join(lacking)}: no predictions for the holdout")
        return tuple(told)

    def sums(self) -> tuple[Sums, ...]:
        """Return the sums of every fold over all members, read block by block."""
        return tuple(total(self._blocks(fold)) for fold in range(len(self.folds)))

    def _blocks(self, fold: int) -> Iterator[Sums]:
        parts, score = [member.oof[fold] for member in self.columns], self.score[self.folds[fold]]
        size = max(1, BLOCK_CELLS // len(parts))
        for start in range(0, len(score), size):
            block = np.stack([part[start : start + size] for part in parts]).astype(np.float64).T
            yield measure(block, score[start : start + size])


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

    oof: _Pool
    """Rows stand fold by fold."""
    group: NDArray[np.int32]
    """Of the rows of `oof`."""
    by_fold: tuple[_Pool, ...]
    """`oof` in parts."""
    test: _Pool
    holdout: _Pool

    @classmethod
    def of(cls, data: Prepared) -> "_Pools":
        fold = data.train["fold"].to_numpy()
        order = np.argsort(fold, kind="stable")
        order = order[fold[order] != HOLDOUT_FOLD]
        rows, ids = pa.array(order), one_array(data.train["id"])
        score = data.train["score"].to_numpy().astype(np.float64)
        held = fold == HOLDOUT_FOLD
        oof = _Pool("out-of-fold", ids.take(rows), score[order], fold[order])
        ends = np.searchsorted(fold[order], np.arange(data.manifest.n_folds + 1))
        return cls(
            oof=oof,
            group=data.train["group"].to_numpy()[order],
            by_fold=tuple(
                _Pool("out-of-fold", oof.ids[start:end], score[order[start:end]], fold[order[start:end]])
                for start, end in itertools.pairwise(ends.tolist())
            ),
            test=_Pool("test", one_array(data.test["id"]), None, None),
            holdout=_Pool("holdout", ids.filter(pa.array(held)), score[held], None),
        )


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
    with a sentence each: candidates in `exclude`, with unfinished folds, constant, dead in a fold (Pearson below
    `dead_below`, or not a number), or already taken from an earlier run. With mixed splits a candidate of another split
    is left out unless its folds cover all rows, and it has no holdout: other splits trained on its rows.

    Raises:
        InputError: unknown members, missing rows, two values for an id, scores other than the data's, predictions that
            are not finite, other data, another split without `allow_mixed_splits`; all faults of all candidates.
    """
    pools = _Pools.of(data)
    taken: list[tuple[Member, Columns]] = []
    faults: list[str] = []
    found = list_candidates(runs, exclude)
    chosen = found if members is None else choose_members(found, runs, members)
    n_others = len(found) - len(chosen)
    left_out = [f"other candidates: {n_others}, which were not asked for"] if n_others else []
    for run, candidate in chosen:
        try:
            _pass_over(candidate, exclude, [member for member, _ in taken])
            tables = _read_oof(run, candidate)
            member = _describe(run, candidate, data, tables, allow_mixed_splits=allow_mixed_splits)
            own_split = member.split_hash == data.manifest.split_hash
            taken.append((member, _load_columns(member, tables, pools, own_split=own_split, dead_below=dead_below)))
        except _LeftOutError as error:
            sentence = _sentence(run, candidate, str(error))
            (left_out if members is None else faults).append(sentence)
        except InputError as error:
            faults.extend(error.faults)
    if faults:
        raise InputError(*faults)
    if not taken:
        raise InputError(
            f"no candidate of {', '.join(runs)} can be blended; "
            f"a member needs all {data.manifest.n_folds} folds finished",
            *left_out,
        )
    assert pools.oof.score is not None
    assert pools.oof.fold is not None
    return Predictions(
        members=tuple(member for member, _ in taken),
        left_out=tuple(left_out),
        columns=tuple(columns for _, columns in taken),
        ids=pools.oof.ids,
        score=pools.oof.score,
        fold=pools.oof.fold,
        group=pools.group,
        holdout_score=pools.holdout.score if len(pools.holdout.ids) else None,
    )


def _pass_over(candidate: str, exclude: Collection[str], taken: Sequence[Member]) -> None:
    if candidate in exclude:
        raise _LeftOutError("excluded as asked")
    if earlier := [member.run for member in taken if member.candidate == candidate]:
        raise _LeftOutError(f"already taken from {earlier[0]}")


def _sentence(run: str, candidate: str, reason: str) -> str:
    return f"{candidate} {read_label(run, candidate)[0]}: {reason}"


def _read_oof(run: str, candidate: str) -> dict[int, pa.Table]:
    """Return a candidate's out-of-fold tables, verified, by fold."""
    store = OofStore(run)
    return {fold: store.read("oof", candidate, fold) for fold in store.folds(candidate)}


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
            f"(split_hash {split[:12]}, expected {manifest.split_hash[:12]}); scores of mixed splits can flatter; "
            f"blend them all the same with --allow-mixed-splits, or leave it out with --exclude {candidate}"
        )
    if split == manifest.split_hash and len(tables) < manifest.n_folds:
        raise _LeftOutError(f"{len(tables)} of {manifest.n_folds} folds finished")
    label, family = read_label(run, candidate)
    retried = tuple(origin.fold for origin in provenances if origin.attempt)
    return Member(candidate=candidate, label=label, family=family, run=run, split_hash=split, retried=retried)


def _load_columns(
    member: Member, tables: dict[int, pa.Table], pools: _Pools, *, own_split: bool, dead_below: float
) -> Columns:
    oof, own_fold = _oof_parts(member, tables, pools, own_split=own_split, dead_below=dead_below)
    has_holdout = own_split and len(pools.holdout.ids) > 0
    if has_holdout and is_imported(member.run, member.candidate):
        has_holdout = exists(join(member.run, "holdout", member.candidate))
    return Columns(
        oof=oof,
        own_fold=own_fold,
        test=_fold_columns(member, "test", pools.test),
        holdout=_fold_columns(member, "holdout", pools.holdout) if has_holdout else (),
    )


def _oof_parts(
    member: Member, tables: dict[int, pa.Table], pools: _Pools, *, own_split: bool, dead_below: float
) -> tuple[tuple[Floats32, ...], tuple[NDArray[np.int8], ...] | None]:
    """Return the out-of-fold predictions of a member by fold of the prepared data, checked, and its own folds."""
    store = OofStore(member.run)
    pool = pools.oof if own_split else replace(pools.oof, fold=None)
    as_prepared = own_split and all(_has_ids(table, pools.by_fold[fold]) for fold, table in tables.items())
    faults = [
        fault
        for fold, table in tables.items()
        for fault in _check_values(
            table,
            pools.by_fold[fold] if as_prepared else pool,
            store.path("oof", member.candidate, fold),
            member.candidate,
        )
    ]
    if faults:
        raise InputError(*faults)
    folder = join(member.run, "oof", member.candidate)
    if as_prepared:
        parts, own_fold = tuple(_values(table) for table in tables.values()), None
    else:
        parts, own_fold = _rearrange(
            pa.concat_tables(tables.values()), pools, pool, folder, member, own_split=own_split
        )
    first = parts[0][0]
    if all((part == first).all() for part in parts):
        raise _LeftOutError(f"predicts {first:g} for all {len(pool.ids)} rows")
    for fold, table in tables.items():
        value = pearson(table["score"].to_numpy(), table["prediction"].to_numpy())
        if not value >= dead_below:
            raise _LeftOutError(f"dead in fold {fold} (Pearson {value:.3f})")
    return parts, own_fold


def _rearrange(
    table: pa.Table, pools: _Pools, pool: _Pool, folder: str, member: Member, *, own_split: bool
) -> tuple[tuple[Floats32, ...], tuple[NDArray[np.int8], ...] | None]:
    """Return predictions in the order of the prepared data, by its folds, and the candidate's own fold of each row."""
    try:
        order = _align(table, pool, folder, member.candidate)
    except _MissingRowsError as error:
        if own_split:
            raise
        raise _LeftOutError("its finished folds do not cover all rows of this split") from error
    ends = np.cumsum([len(part.ids) for part in pools.by_fold])[:-1]
    prediction, fold = table["prediction"].to_numpy()[order], table["fold"].to_numpy()[order]
    return tuple(np.split(prediction, ends)), None if own_split else tuple(np.split(fold, ends))


def _fold_columns(member: Member, kind: str, pool: _Pool) -> tuple[Floats32, ...]:
    """Return a member's predictions for `pool`, one column for each of its folds."""
    store = OofStore(member.run)
    faults: list[str] = []
    columns: list[Floats32] = []
    for fold in store.folds(member.candidate):
        path = store.path(kind, member.candidate, fold)
        try:
            columns.append(_read_column(store.read(kind, member.candidate, fold), pool, path, member.candidate))
        except InputError as error:
            faults.extend(error.faults)
    if faults:
        raise InputError(*faults)
    return tuple(columns)


def _read_column(table: pa.Table, pool: _Pool, path: str, candidate: str) -> Floats32:
    if faults := _check_values(table, pool, path, candidate):
        raise InputError(*faults)
    if _has_ids(table, pool):
        return _values(table)
    return np.asarray(table["prediction"].to_numpy()[_align(table, pool, path, candidate)])


def _has_ids(table: pa.Table, pool: _Pool) -> bool:
    """Tell whether a table's rows are those of the pool, in its order."""
    return bool(one_array(table["id"]).equals(pool.ids))


def _values(table: pa.Table) -> Floats32:
    """Return a table's predictions; they stay in the file where they lie there in one piece."""
    return np.asarray(one_array(table["prediction"]).to_numpy())


def _check_values(table: pa.Table, pool: _Pool, path: str, candidate: str) -> list[str]:
    """Return what is wrong with the rows that are there."""
    remedy = f"the file does not belong to this data; leave the candidate out with --exclude {candidate}"
    ids = one_array(table["id"])
    if _has_ids(table, pool):
        known, place = np.ones(len(ids), dtype=np.bool_), np.arange(len(ids))
    else:
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


def _align(table: pa.Table, pool: _Pool, path: str, candidate: str) -> NDArray[np.intp]:
    """Return where in the table each row of the pool stands; every row must be there exactly once."""
    position = pc.index_in(one_array(table["id"]), value_set=pool.ids).to_numpy()
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
    return np.argsort(position)


def _show(ids: pa.Array, mask: NDArray[np.bool_]) -> str:
    shown = [str(value) for value in ids.filter(pa.array(mask)).slice(0, SHOWN_IDS).to_pylist()]
    return ", ".join(shown) + (", ..." if mask.sum() > SHOWN_IDS else "")
