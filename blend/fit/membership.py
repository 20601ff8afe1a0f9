"""`Membership`: which candidates are members of a blend, over all folds and without each fold."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from blend.fit.blend_settings import BlendSettings
from blend.fit.member_selection import (
    EliminationStep,
    MemberSelection,
    MergedDuplicate,
    merge_duplicates,
    select_members,
)
from blend.members.member_predictions import MemberPredictions
from blend.members.moment_sums import MomentSums, total
from data_prep.scoring.combination import Floats
from data_prep.scoring.metrics import Metric

LEAST_SHARE = 0.02
"""The least weight of a family, where every family takes part."""


@dataclass(frozen=True)
class Membership:
    """Which candidates are members, by their place in `MemberPredictions`, ascending."""

    members: tuple[int, ...]
    by_fold: tuple[tuple[int, ...], ...]
    """Members chosen without fold 0, 1, ..., for nested predictions."""
    path: tuple[EliminationStep, ...] = ()
    """The sizes that were tried; empty where members were given."""
    merged: tuple[MergedDuplicate, ...] = ()
    """Near-duplicates of others, left out."""
    families: tuple[str, ...] = ()
    """Family of each of `used`, where every family takes part; empty where families do not matter."""

    @property
    def used(self) -> tuple[int, ...]:
        """Every candidate that is a member anywhere, ascending."""
        return tuple(sorted(set(self.members).union(*self.by_fold)))


def everyone_is_member(predictions: MemberPredictions) -> Membership:
    """Return the membership in which every candidate is a member, as when members are given by name."""
    everyone = tuple(range(len(predictions.members)))
    return Membership(everyone, (everyone,) * len(predictions.folds))


def choose_membership(
    predictions: MemberPredictions, sums: Sequence[MomentSums], utility: Floats, metric: Metric, settings: BlendSettings
) -> Membership:
    """Choose members on all folds, and again without each one, for nested values that know nothing of their fold.

    `sums` holds those of each fold, `utility` is [candidates, folds].
    """
    folds = list(range(len(sums)))
    choose = partial(_choose, predictions, sums, utility, metric=metric, settings=settings)
    found, merged = choose(folds=folds)
    without = (
        [choose(folds=[other for other in folds if other != fold])[0] for fold in folds] if len(sums) > 1 else [found]
    )
    membership = Membership(
        members=found.members,
        by_fold=tuple(selection.members for selection in without),
        path=found.path,
        merged=tuple(merged),
    )
    if not settings.one_per_family or len(sums) == 1:
        return membership
    return replace(membership, families=tuple(predictions.members[member].family for member in membership.used))


def _choose(
    predictions: MemberPredictions,
    sums: Sequence[MomentSums],
    utility: Floats,
    *,
    metric: Metric,
    settings: BlendSettings,
    folds: Sequence[int],
) -> tuple[MemberSelection, list[MergedDuplicate]]:
    """Return the members that some folds choose, and the near-duplicates that these folds merge."""
    known = [sums[fold] for fold in folds]
    alone = utility[:, folds].mean(axis=1)
    merged = merge_duplicates(total(known), alone)
    gone = {entry.candidate for entry in merged}
    rows = np.isin(predictions.fold, np.unique(predictions.fold)[folds])
    found = select_members(
        known,
        lambda members, number: predictions.oof_in(folds[number], members),
        predictions.target[rows],
        predictions.fold[rows],
        group=predictions.group[rows],
        metric=metric,
        candidates=[candidate for candidate in range(len(alone)) if candidate not in gone],
        most=settings.most_members,
        seed=settings.seed,
    )
    if settings.one_per_family:
        found = replace(found, members=_completed(found.members, predictions, alone))
    return found, merged


def _completed(members: Sequence[int], predictions: MemberPredictions, utility: Floats) -> tuple[int, ...]:
    """Add the best candidate of every family that has no member."""
    families = [member.family for member in predictions.members]
    missing = set(families) - {families[member] for member in members}
    best = [
        max((c for c, name in enumerate(families) if name == family), key=lambda c: utility[c]) for family in missing
    ]
    return tuple(sorted({*members, *best}))


def raise_families(weights: Floats, families: Sequence[str], alone: Floats) -> Floats:
    """Give every family at least `LEAST_SHARE` of `weights` [members], at the others' cost in proportion.

    In a family with too little, the member with the best utility `alone` [members] gets all of it.
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
