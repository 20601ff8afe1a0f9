"""The audit of a prepared folder: counts, repeated rows, texts on both sides of a split, and leakage."""

from typing import ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa

from data_prep.alike import alike
from data_prep.audit.leakage import Leakage, measure_leakage
from data_prep.frozen_record import FrozenRecord, GrowingRecord
from data_prep.normal_text import normal_text
from data_prep.prepared import Prepared
from data_prep.store.files import join, write_json
from data_prep.target_counts import TargetCounts, count_targets
from data_prep.task import Task

N_EXAMPLES = 5


class FoldCounts(FrozenRecord):
    """One fold, or the holdout (-1)."""

    fold: int
    rows: int
    groups: int
    score_mean: float | None
    """None where a row has more than a number."""
    score_counts: dict[str, int]
    """Rows with each legal score; empty if any score in a range is legal, or where a row has more than a number."""


class ColumnCounts(FrozenRecord):
    """One text column."""

    column: str
    train: int
    """Different texts in train."""
    test: int
    """Different texts in test."""
    in_both: int
    """Different texts in train and test."""
    in_several_folds: int
    """Different texts that are in more than one fold (or in a fold and the holdout)."""
    rows_in_several_folds: int
    """Train rows with such a text."""


class Repeats(FrozenRecord):
    """Sets of train rows with the same texts."""

    sets: int
    rows: int
    differing_scores: int
    """Sets whose rows do not all have one score."""
    across_folds: int
    """Sets whose rows are not all in one fold."""
    examples: tuple[tuple[str, ...], ...]


class AuditReport(GrowingRecord):
    """The report on a prepared folder."""

    later_fields: ClassVar[frozenset[str]] = frozenset({"targets"})

    data_hash: str
    split_hash: str
    rows: dict[str, int]
    group_names: int | None
    """Different values of the group column, if it is a text column."""
    linked_groups: int
    folds: tuple[FoldCounts, ...]
    targets: tuple[TargetCounts, ...] = ()
    """Several targets, or classes; none of one number."""
    columns: tuple[ColumnCounts, ...]
    repeated_rows: Repeats
    """Rows with the same texts in every column."""
    repeated_pairs: Repeats | None
    """Pairs of the first two texts that occur in several contexts; None for tasks with fewer than three texts."""
    near_duplicates: Repeats | None
    """Rows that differ only in case, spaces, hyphens, plural and word order of the second text (of the first, if there
    is one text); exact repeats do not count."""
    equal_names: Repeats | None
    """Rows whose group has names that differ only as `alike` overlooks; None if the group column is not a text."""
    leakage: Leakage


def audit(prepared: Prepared) -> AuditReport:
    """Audit a prepared folder; measuring leakage takes about half a minute for 36,000 rows."""
    manifest, task = prepared.manifest, prepared.task
    texts = list(task.text_columns)
    train = prepared.train.select([*texts, "group", "fold"]).to_pandas().assign(score=prepared.one_target)
    test = prepared.test.select(texts).to_pandas()
    group = task.group_column
    return AuditReport(
        data_hash=manifest.data_hash,
        split_hash=manifest.split_hash,
        rows=manifest.rows,
        group_names=train[group].nunique() if group in texts else None,
        linked_groups=train["group"].nunique(),
        folds=tuple(
            _count_fold(fold, train[prepared.in_fold(fold)], task) for fold in np.unique(prepared.folds).tolist()
        ),
        targets=count_targets(prepared),
        columns=tuple(_count_column(name, train, test) for name in texts),
        repeated_rows=_repeats(train, texts),
        repeated_pairs=_repeats(train.drop_duplicates(texts), texts[:2]) if len(texts) == 3 else None,
        near_duplicates=_near_duplicates(train, texts),
        equal_names=_equal_names(train, group) if group in texts else None,
        leakage=measure_leakage(prepared.train, task, n_folds=manifest.folds_per_repeat, seed=manifest.seed),
    )


def write_audit(prepared: Prepared) -> AuditReport:
    """Audit a prepared folder and write the report into it, as `audit.json`."""
    report = audit(prepared)
    write_json(report.model_dump(mode="json"), join(prepared.path, "audit.json"))
    return report


def _count_fold(fold: int, rows: pd.DataFrame, task: Task) -> FoldCounts:
    nearest = rows["score"].to_numpy()
    one_number = not task.target.names
    levels = (task.score_levels or ()) if one_number else ()
    return FoldCounts(
        fold=fold,
        rows=len(rows),
        groups=rows["group"].nunique(),
        score_mean=float(rows["score"].mean()) if one_number else None,
        score_counts={f"{level:g}": int((abs(nearest - level) < 1e-6).sum()) for level in levels},
    )


def _count_column(name: str, train: pd.DataFrame, test: pd.DataFrame) -> ColumnCounts:
    n_folds = train.groupby(name)["fold"].nunique()
    several = n_folds.index[n_folds > 1]
    return ColumnCounts(
        column=name,
        train=len(n_folds),
        test=test[name].nunique(),
        in_both=int(n_folds.index.isin(test[name]).sum()),
        in_several_folds=len(several),
        rows_in_several_folds=int(train[name].isin(several).sum()),
    )


def _repeats(rows: pd.DataFrame, keys: list[str]) -> Repeats:
    found = rows[rows.duplicated(keys, keep=False)]
    sets = found.groupby(keys, sort=True)
    return Repeats(
        sets=sets.ngroups,
        rows=len(found),
        differing_scores=int((sets["score"].nunique() > 1).sum()),
        across_folds=int((sets["fold"].nunique() > 1).sum()),
        examples=tuple(found[keys].drop_duplicates().head(N_EXAMPLES).itertuples(index=False, name=None)),
    )


def _equal_names(train: pd.DataFrame, group: str) -> Repeats:
    """Count sets of rows whose groups have the same name but for case, Unicode form and spaces at the ends."""
    names = pd.Series(train[group].unique())
    same = pd.Series(alike(pa.array(names, pa.string())).to_pylist())
    shared = names[same.duplicated(keep=False)]
    rows = train[train[group].isin(shared)]
    key = rows[group].map(dict(zip(shared, same[shared.index], strict=True)))
    return _repeats(rows.assign(**{group: key}), [group])


def _near_duplicates(train: pd.DataFrame, texts: list[str]) -> Repeats:
    """Count sets of rows that become equal when their second text is normalised."""
    scored = texts[:2][-1]
    distinct = train.drop_duplicates(texts)
    normal = distinct[scored].drop_duplicates().map(normal_text)
    by_text = dict(zip(distinct[scored].drop_duplicates(), normal, strict=True))
    return _repeats(distinct.assign(**{scored: distinct[scored].map(by_text)}), texts)
