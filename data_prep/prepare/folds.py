"""Which row is in which fold: groups, the holdout, and the split schemes."""

import warnings
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_prep.alike import alike
from data_prep.errors import InputError
from data_prep.store.tables import HOLDOUT_FOLD
from data_prep.task import Task

MOST_FOLDS = 100
"""Of all repeats together."""
MOST_REPEATS = 20
GREATEST_SEED = 2**32 - 1
"""The largest seed that scikit-learn's splitters accept."""
N_STRATA = 10
LEAST_ROWS = 3
"""Two rows have a correlation of 1 or -1, whatever is predicted."""

Integers = NDArray[np.int64]


def linked_groups(names: pa.ChunkedArray, links: pa.ChunkedArray | None = None) -> NDArray[np.int32]:
    """Return the group of each row [rows], from 0 by first appearance; a link that names a group joins the two.

    Names are compared as `alike` makes them.
    """
    known = pc.unique(alike(pc.unique(names)))
    codes = _places(names, known)
    parents = list(range(len(known)))
    if links is not None:
        linked = _places(links, known)
        rows = np.flatnonzero(linked >= 0)
        ends = linked[rows]
        for one, other in np.unique(np.column_stack([codes[rows], ends]), axis=0).tolist():
            parents[_root(parents, one)] = _root(parents, other)
    roots = np.array([_root(parents, code) for code in range(len(parents))], dtype=np.int64)
    return number_by_appearance(roots[codes])


def _places(texts: pa.ChunkedArray, known: pa.Array) -> NDArray[np.int32]:
    """Return the place in `known` of each text as `alike` makes it [rows]; -1 where it is not there."""
    found = [pc.index_in(alike(chunk), value_set=known).fill_null(-1).to_numpy() for chunk in texts.chunks]
    return np.concatenate([np.empty(0, np.int32), *found])


def _root(parents: list[int], node: int) -> int:
    """Return the representative of a node's set, halving the path to it."""
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node


def number_by_appearance(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """Renumber labels 0, 1, 2, ... in order of first appearance."""
    _, first, codes = np.unique(labels, return_index=True, return_inverse=True)
    numbers = np.empty(len(first), dtype=np.int32)
    numbers[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return numbers[codes]


def task_groups(table: pa.Table, task: Task) -> NDArray[np.int32]:
    """Return the group of each row of a table that has the task's group and link columns."""
    if task.group_column is None:
        return np.arange(table.num_rows, dtype=np.int32)
    links = table[task.link_column] if task.link_column else None
    return linked_groups(table[task.group_column], links)


def strata(targets: NDArray[np.floating], task: Task) -> Integers:
    """Return the stratum of each row: its level or class, or else the tenth of its score.

    `targets` [rows] are one number of each row, as the kind of target makes it.
    """
    if task.classes is not None or (task.score_levels is not None and task.score_columns is None):
        return np.asarray(np.unique(targets, return_inverse=True)[1], np.int64)
    edges = np.unique(np.quantile(targets, np.linspace(0, 1, N_STRATA + 1)[1:-1]))
    return np.searchsorted(edges, targets, side="right").astype(np.int64)


def choose_holdout(groups: NDArray[np.int32], share: float, seed: int) -> NDArray[np.bool_]:
    """Choose whole groups at random until they hold `share` of the rows, or slightly less.

    Raises:
        InputError: no group is small enough for the share.
    """
    sizes = np.bincount(groups)
    wanted = share * len(groups)
    chosen = np.zeros(len(sizes), dtype=bool)
    taken = 0
    for group in np.random.default_rng(seed).permutation(len(sizes)):
        if taken + sizes[group] <= wanted:
            chosen[group] = True
            taken += int(sizes[group])
    if share > 0 and not taken:
        raise InputError(
            f"--holdout {share:g} is {wanted:.1f} of {len(groups):,} rows, but the smallest group has {sizes.min():,}; "
            "a holdout consists of whole groups: choose a larger share, or none"
        )
    return chosen[groups]


def split_rows(
    scheme: str, *, targets: NDArray[np.floating], groups: NDArray[np.int32], task: Task, n_folds: int, seed: int
) -> NDArray[np.int8]:
    """Return the fold of each row [rows] under a scheme of `SCHEMES`.

    Raises:
        InputError: there are too few rows or groups, so that a fold would be empty, or of every score.
    """
    from sklearn import model_selection  # noqa: PLC0415 - slow to import

    n_units = len(np.unique(groups)) if scheme in GROUPED_SCHEMES else len(targets)
    if n_units < n_folds:
        raise InputError(too_few(n_units, n_folds, scheme))
    splitter = getattr(model_selection, SCHEMES[scheme])(n_folds, shuffle=True, random_state=seed)
    folds = np.full(len(targets), HOLDOUT_FOLD, dtype=np.int8)
    labels, kept_together = strata(targets, task), groups if scheme in GROUPED_SCHEMES else None
    if scheme.startswith("stratified") and np.bincount(labels).max() < n_folds:
        raise InputError(
            f"scheme {scheme} spreads rows of about the same score over {n_folds} folds, but never finds {n_folds} of "
            f"them: use --scheme {scheme.removeprefix('stratified_') if kept_together is not None else 'kfold'}, or "
            "fewer folds (--folds)"
        )
    with warnings.catch_warnings():
        # a score level with fewer rows than folds cannot be in all of them; the printed shares show it
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        for fold, (_, rows) in enumerate(splitter.split(np.zeros(len(labels)), labels, kept_together)):
            folds[rows] = fold
    if len(np.unique(folds)) < n_folds:
        raise InputError(
            f"scheme {scheme} leaves a fold without rows: {n_units:,} groups are too unequal for {n_folds} folds; "
            "use fewer folds (--folds)"
        )
    return folds


def check_measurable(folds: NDArray[np.int8], targets: NDArray[np.floating], task: Task) -> None:
    """Check that the metric says something of `targets`, [rows] or [rows, numbers], on every fold and the holdout.

    Raises:
        InputError: some hold too few rows, or rows of one score; names all of them.
    """
    names = task.target.names
    columns = {"": targets} if not names else {f" of {name}": targets[:, i] for i, name in enumerate(names)}
    if task.classes is not None:  # a fold may lack a class, though not all but one
        columns = {"": task.target.one_number(np.asarray(targets, np.float32))}
    faults = [f"{fault}{of}" for of, column in columns.items() for fault in unmeasurable(folds, column)]
    if faults:
        raise InputError(
            f"{task.metric} says nothing there: {'; '.join(faults)}. Every part needs {LEAST_ROWS} rows and two "
            "different scores: use fewer folds (--folds), another --seed or --scheme, or a larger --holdout"
        )


def unmeasurable(folds: NDArray[np.int8], targets: NDArray[np.floating]) -> list[str]:
    """Return the folds, and the holdout, that hold too few rows with a target, or rows of one score."""
    faults = []
    for fold in np.unique(folds).tolist():
        mine = targets[(folds == fold) & ~np.isnan(targets)]
        name = "the holdout" if fold == HOLDOUT_FOLD else f"fold {fold}"
        if len(mine) < LEAST_ROWS:
            faults.append(f"{name} holds {len(mine)} row{'' if len(mine) == 1 else 's'}")
        elif mine.min() == mine.max():
            faults.append(f"all {len(mine):,} rows of {name} have the score {mine[0]:g}")
    return faults


def too_few(n_units: int, n_folds: int, scheme: str) -> str:
    """Return the message that there are fewer groups (or rows) than folds."""
    unit = "linked groups" if scheme in GROUPED_SCHEMES else "rows"
    return f"{n_folds} folds under scheme {scheme} need at least {n_folds} {unit}, found {n_units}; use fewer (--folds)"


def too_few_groups(groups: NDArray[np.int32], n_folds: int, scheme: str) -> str | None:
    """Return the fault that there are fewer groups (or rows) than folds, or under `leave_group_out` too many groups."""
    n_groups = int(groups.max()) + 1
    if scheme == LEAVE_GROUP_OUT:
        return (
            None
            if 2 <= n_groups <= MOST_FOLDS
            else (
                f"scheme {scheme} makes a fold of every linked group, at most {MOST_FOLDS}, found {n_groups:,}; use "
                "scheme group, which puts several groups into a fold"
            )
        )
    n_units = n_groups if scheme in GROUPED_SCHEMES else len(groups)
    return too_few(n_units, n_folds, scheme) if scheme in SCHEMES and n_units < n_folds else None


def settle_scheme(scheme: str | None, task: Task, *, fold_column: str | None, time_column: str | None) -> str:
    """Return the scheme that was asked for, or the one that fits the task and the columns."""
    if fold_column is not None and scheme is None:
        return GIVEN
    if time_column is not None and scheme is None:
        return TIME
    return scheme or ("stratified_group" if task.group_column else "stratified")


def check_split_settings(
    scheme: str,
    n_folds: int,
    holdout: float,
    seed: int,
    task: Task,
    *,
    fold_column: str | None = None,
    time_column: str | None = None,
    repeats: int = 1,
) -> Sequence[str]:
    """Return the faults of a split's settings; no data is needed."""
    faults = []
    if scheme not in (*SCHEMES, LEAVE_GROUP_OUT, GIVEN, TIME):
        faults.append(f"unknown --scheme {scheme!r}; known: {', '.join([*SCHEMES, LEAVE_GROUP_OUT, TIME])}")
    if scheme in (*GROUPED_SCHEMES, LEAVE_GROUP_OUT) and task.group_column is None:
        faults.append(
            f"--scheme {scheme} needs groups, but task {task.name!r} has no group_column; "
            "name one in the task file or use kfold or stratified"
        )
    if (scheme == GIVEN) != (fold_column is not None) or (scheme == TIME) != (time_column is not None):
        faults.append(
            f"--scheme {TIME} goes with --time-column, --fold-column with no --scheme at all; got --scheme {scheme}, "
            f"--fold-column {fold_column}, --time-column {time_column}"
        )
    if scheme == GIVEN and holdout:
        faults.append("--holdout does not go with --fold-column: mark the rows of the holdout with the fold -1 there")
    if not 2 <= n_folds <= MOST_FOLDS:
        faults.append(f"--folds must be from 2 to {MOST_FOLDS}, got {n_folds}")
    if not 1 <= repeats <= MOST_REPEATS or (repeats > 1 and repeats * n_folds > MOST_FOLDS):
        faults.append(
            f"--repeats must be from 1 to {MOST_REPEATS}, with at most {MOST_FOLDS} folds in all repeats together, got "
            f"--repeats {repeats} of --folds {n_folds}"
        )
    if repeats != 1 and scheme not in SCHEMES:
        faults.append(
            f"--repeats splits at random again, which goes with --scheme {', '.join(SCHEMES)}; scheme {scheme} has "
            "only one split"
        )
    if not 0 <= holdout < 1:
        faults.append(f"--holdout is a share of the rows, at least 0 and under 1, got {holdout:g}")
    greatest = GREATEST_SEED + 1 - max(repeats, 1)
    if not 0 <= seed <= greatest:
        faults.append(f"--seed must be from 0 to {greatest}, got {seed}")
    return faults


GROUPED_SCHEMES = ("group", "stratified_group")
SCHEMES = {
    "kfold": "KFold",
    "stratified": "StratifiedKFold",
    "group": "GroupKFold",
    "stratified_group": "StratifiedGroupKFold",
}
"""Split schemes and their classes in `sklearn.model_selection`, from the leakiest to the safest."""
LEAVE_GROUP_OUT = "leave_group_out"
"""Every linked group is a fold."""
TIME = "time"
"""Folds are stretches of time, one after the other."""
GIVEN = "given"
"""Folds are those of a column."""
