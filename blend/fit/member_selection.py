"""Which candidates become members: near-duplicates merged, then the smallest set within one standard error of the best.

This is fast enough to be repeated without each fold, so a nested value covers the choice of members too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blend.fit.objective import MOMENT_METRICS
from blend.members.moment_sums import MomentSums, total
from data_prep.scoring.combination import Floats
from data_prep.scoring.group_bootstrap import GroupBootstrap
from data_prep.scoring.metrics import METRICS, Metric
from data_prep.scoring.moments import Moments, best_nonnegative_weights

ColumnReader = Callable[[Sequence[int], int], Floats]
"""Returns out-of-fold predictions [rows of the part, chosen] of some candidates for the part with a number."""

DUPLICATES_ABOVE = 0.995
"""Candidates whose predictions correlate more than this count as one."""
MOST_MEMBERS = 40
"""Larger sets are not tried: in the logs that this project began with, 8 of 31 members did as well as all."""
SELECTION_RESAMPLES = 300


@dataclass(frozen=True)
class MergedDuplicate:
    """A candidate that is left out because another one predicts nearly the same."""

    candidate: int
    kept: int
    correlation: float


@dataclass(frozen=True)
class EliminationStep:
    """One step on the path from the largest set to the best single candidate."""

    n_members: int
    value: float
    """Mean over folds of the metric (Pearson, where it settles the metric), weights fitted without the scored fold."""
    behind: float
    """How much less than the best size's, in utility."""
    standard_error: float
    """Of `behind`, from a bootstrap over groups."""


@dataclass(frozen=True)
class MemberSelection:
    """The chosen members, and the path that they were chosen from."""

    members: tuple[int, ...]
    """Ascending."""
    path: tuple[EliminationStep, ...]
    """By size, ascending."""


def merge_duplicates(sums: MomentSums, utility: Floats) -> list[MergedDuplicate]:
    """Merge candidates that correlate above `DUPLICATES_ABOVE` into the best of them, by `utility` [candidates]."""
    spread = np.sqrt(np.maximum(np.diag(sums.centred.gram), np.finfo(np.float64).tiny))
    correlation = sums.centred.gram / np.outer(spread, spread)
    merged: list[MergedDuplicate] = []
    kept: list[int] = []
    for candidate in np.argsort(-utility, kind="stable").tolist():
        close = [better for better in kept if correlation[candidate, better] > DUPLICATES_ABOVE]
        if close:
            nearest = max(close, key=lambda better: correlation[candidate, better])
            merged.append(MergedDuplicate(candidate, nearest, float(correlation[candidate, nearest])))
        else:
            kept.append(candidate)
    return merged


def elimination_path(table: Moments, candidates: Sequence[int], *, most: int = MOST_MEMBERS) -> list[list[int]]:
    """Return nested sets of candidates, from the largest useful one (of at most `most`) down to a single one.

    The largest is the support of the exact non-negative optimum. The member dropped next costs the least: dropping
    column j adds w_j^2 / (G^-1)_jj to the squared error (Hassibi and Stork 1993, Optimal brain surgeon). The rest are
    fitted again, and members without weight are dropped too.
    """
    left = list(candidates)
    path: list[list[int]] = []
    while left:
        weights = best_nonnegative_weights(table.of(left))
        if not weights.any():
            weights = np.eye(len(left))[int(np.argmax(table.cross[left] / np.sqrt(np.diag(table.gram)[left])))]
        left = [candidate for candidate, weight in zip(left, weights, strict=True) if weight > 0.0]
        if len(left) <= most:
            path.append(sorted(left))
        left = _without_least(table, left)
    return path


def _without_least(table: Moments, members: list[int]) -> list[int]:
    """Return the members without the one that costs the least to drop."""
    if len(members) == 1:
        return []
    part = table.of(members)
    spread = np.sqrt(np.diag(part.gram))
    inverse = np.linalg.pinv(part.gram / np.outer(spread, spread), rcond=1e-12, hermitian=True)
    weights = inverse @ (part.cross / spread)
    cost = weights**2 / np.maximum(np.diag(inverse), np.finfo(np.float64).tiny)
    least = int(np.argmin(cost))
    return [member for place, member in enumerate(members) if place != least]


def select_members(
    parts: Sequence[MomentSums],
    columns: ColumnReader,
    target: Floats,
    fold: NDArray[np.int8],
    *,
    group: NDArray[np.int32],
    metric: Metric,
    candidates: Sequence[int],
    most: int = MOST_MEMBERS,
    seed: int = 0,
) -> MemberSelection:
    """Return the smallest set on the elimination path that is, nested, within one standard error of the best.

    `parts` holds the sums of each fold in `fold` [rows], which ascends.
    """
    path = elimination_path(total(parts).centred, candidates, most=most)
    if len(path) == 1 or len(parts) == 1:
        return MemberSelection(tuple(path[0]), ())
    used = path[0]
    place = {candidate: number for number, candidate in enumerate(used)}
    tables = [part.of(used) for part in parts]
    nested = np.empty((len(target), len(path)))
    for number, k in enumerate(np.unique(fold)):
        others = total([*tables[:number], *tables[number + 1 :]]).centred
        weights = np.zeros((len(used), len(path)))
        for size, members in enumerate(path):
            chosen = [place[member] for member in members]
            weights[chosen, size] = best_nonnegative_weights(others.of(chosen))
        nested[fold == k] = columns(used, number) @ weights
    measure = metric if metric.name not in MOMENT_METRICS else METRICS["pearson"]
    draws = GroupBootstrap(target, fold, group, measure, seed=seed, resamples=SELECTION_RESAMPLES).draws(nested)
    best = int(np.argmax(draws.value))
    behind = [draws.difference(best, size) for size in range(len(path))]
    steps = [
        EliminationStep(len(members), float(measure.utility(value)), gap.value, gap.standard_error)
        for members, value, gap in zip(path, draws.value.tolist(), behind, strict=True)
    ]
    chosen_size = max(size for size, step in enumerate(steps) if size >= best and step.behind <= step.standard_error)
    return MemberSelection(tuple(path[chosen_size]), tuple(reversed(steps)))
