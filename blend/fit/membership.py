"""`Membership`: who is weighed, with all rows in sight and while each fold is held out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blend.fit.member_selection import EliminationStep, MergedDuplicate, merge_duplicates, select
from blend.members.member_predictions import MemberPredictions
from blend.members.moment_sums import MomentSums, total
from data_prep.scoring.combination import Floats
from data_prep.scoring.metrics import Metric

LEAST_SHARE = 0.02
"""Weight that a family has at least, where every family is to take part."""


@dataclass(frozen=True)
class Membership:
    """Members by their place in `MemberPredictions`, ascending."""

    members: tuple[int, ...]
    by_fold: tuple[tuple[int, ...], ...]
    """Members chosen without fold 0, 1, ...: what nested scores are made with."""
    path: tuple[EliminationStep, ...] = ()
    """The sizes that `members` were chosen from; empty where they were given."""
    merged: tuple[MergedDuplicate, ...] = ()
    """Near-duplicates of others, left out."""
    families: tuple[str, ...] = ()
    """Family of each of `used`, where every family is to take part; empty: no matter."""

    @property
    def used(self) -> tuple[int, ...]:
        """Everyone who is weighed anywhere, ascending."""
        return tuple(sorted(set(self.members).union(*self.by_fold)))


def plan_all(predictions: MemberPredictions) -> Membership:
    """Return the plan in which everyone is a member, as where members were asked for by name."""
    everyone = tuple(range(len(predictions.members)))
    return Membership(everyone, (everyone,) * len(predictions.folds))


def plan_members(
    predictions: MemberPredictions,
    parts: Sequence[MomentSums],
    scores: Floats,
    *,
    metric: Metric,
    most: int,
    one_per_family: bool = False,
    seed: int = 0,
) -> Membership:
    """Choose members: near-duplicates merged, then the smallest set that is as good as the best within noise.

    Args:
        predictions: of all candidates.
        parts: sums of each fold.
        scores: metric of each candidate on each fold, [candidates, folds].
        metric: of the task.
        most: members at most.
        one_per_family: add the best candidate of every family that would have none; it counts beside `most`.
        seed: of the bootstrap.
    """
    utility = scores if metric.greater_is_better else -scores

    def choose(folds: list[int]) -> tuple[tuple[int, ...], tuple[EliminationStep, ...], list[MergedDuplicate]]:
        known = [parts[fold] for fold in folds]
        alone = utility[:, folds].mean(axis=1)
        merged = merge_duplicates(total(known), alone)
        gone = {entry.candidate for entry in merged}
        rows = np.isin(predictions.fold, np.unique(predictions.fold)[folds])
        found = select(
            known,
            lambda members, number: predictions.oof_in(folds[number], members),
            predictions.target[rows],
            predictions.fold[rows],
            group=predictions.group[rows],
            metric=metric,
            candidates=[candidate for candidate in range(len(alone)) if candidate not in gone],
            most=most,
            seed=seed,
        )
        members = _completed(found.members, predictions, alone) if one_per_family else found.members
        return members, found.path, merged

    folds = list(range(len(parts)))
    members, path, merged = choose(folds)
    if len(folds) == 1:
        return Membership(members, (members,), path, tuple(merged))
    by_fold = tuple(choose([other for other in folds if other != fold])[0] for fold in folds)
    plan = Membership(members, by_fold, path, tuple(merged))
    if not one_per_family:
        return plan
    families = tuple(predictions.members[member].family for member in plan.used)
    return Membership(members, by_fold, path, tuple(merged), families)


def _completed(members: Sequence[int], predictions: MemberPredictions, utility: Floats) -> tuple[int, ...]:
    """Return the members with the best candidate of every family that has none among them."""
    families = [member.family for member in predictions.members]
    missing = set(families) - {families[member] for member in members}
    best = [
        max((c for c, name in enumerate(families) if name == family), key=lambda c: utility[c]) for family in missing
    ]
    return tuple(sorted({*members, *best}))


def raise_families(weights: Floats, families: Sequence[str], alone: Floats) -> Floats:
    """Give every family `LEAST_SHARE` at least, at the cost of all others alike.

    Args:
        weights: [members], sum 1.
        families: of each member.
        alone: utility of each member, [members]: the best of a family that has too little gets what it lacks.
    """
    names = sorted(set(families))
    share = {name: sum(w for w, family in zip(weights, families, strict=True) if family == name) for name in names}
    short = [name for name in names if share[name] < LEAST_SHARE]
    if not short or len(names) * LEAST_SHARE >= 1.0:
        return weights
    raised = weights.copy()
    for name in short:
        places = [place for place, family in enumerate(families) if family == name]
        raised[places] = 0.0
        raised[max(places, key=lambda place: alone[place])] = LEAST_SHARE
    rich = np.array([family not in short for family in families])
    raised[rich] *= (1.0 - LEAST_SHARE * len(short)) / raised[rich].sum()
    return raised
