"""`SharedWeights`: a making whose weights are fitted to all targets of a task at once.

Where targets are alike and rows few, one set of weights follows less noise than one for each target. Every target
counts the same, whatever its scale, and has a line and cut points of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from blend.fit.makings import Formula, Making, SeenRows, cut, last_readout
from blend.fit.objective import fit_line
from blend.fit.tournament import FEW_GROUPS, units_of
from blend.fit.weight_methods import WeightFit
from blend.members.member_predictions import MemberPredictions
from blend.members.moment_sums import MomentSums, measure, total
from data_prep.scoring.metrics import Metric
from data_prep.scoring.moments import Moments, best_nonnegative_weights

Sums = Mapping[int, MomentSums]
"""Of the rows of each unit, by its number, over the candidates that compete for the target."""


@dataclass(frozen=True)
class SharedWeights(Making):
    """The non-negative weights with the greatest sum of correlations' squares, over this target and others."""

    others: Sequence[Sums] = field(default=(), compare=False)
    """One for each other target."""

    def of(self, places: NDArray[np.intp]) -> "SharedWeights":
        """Return the same making for some of the candidates."""
        return replace(
            self, others=[{unit: part.of(places.tolist()) for unit, part in sums.items()} for sums in self.others]
        )

    def fit(self, seen: SeenRows) -> Formula:
        """Choose everything from the rows seen, and from the other targets of their units."""
        units = np.unique(seen.unit).tolist()
        elsewhere = [[sums[unit] for unit in units if unit in sums] for sums in self.others]
        tables = [_standard(total(parts).centred) for parts in (seen.parts, *filter(None, elsewhere))]
        weights = best_nonnegative_weights(reduce(Moments.__add__, tables))
        if not weights.any():
            weights = np.full(len(weights), 1.0 / len(weights))
        used = np.flatnonzero(weights)
        values = seen.columns[:, used] @ weights[used]
        line = fit_line(values, seen.target, self.readout, seen.metric)
        cuts = cut(line(values), seen, self.readout)
        return Formula(used, WeightFit(weights[used]), (), line, cuts, seen.metric.levels)


def _standard(table: Moments) -> Moments:
    """Return moments in units of the target's sum of squares."""
    size = table.square or 1.0
    return Moments(table.gram / size, table.cross / size, table.square / size)


def shared_weights(targets: Sequence[MemberPredictions], place: int, metric: Metric) -> SharedWeights | None:
    """Return the making for one of several targets; None: no other has all of its candidates, in the same units."""
    own, others = targets[place], [target for number, target in enumerate(targets) if number != place]
    names = [member.candidate for member in own.members]
    found = [sums for other in others if (sums := _sums(own, other, names)) is not None]
    return SharedWeights("shared", last_readout(metric), others=found) if found else None


def _sums(own: MemberPredictions, other: MemberPredictions, names: Sequence[str]) -> Sums | None:
    known = {member.candidate: number for number, member in enumerate(other.members)}
    if not set(names) <= known.keys():
        return None
    here, there = (_unit_names(target) for target in (own, other))
    if here.keys() != there.keys():
        return None
    unit, columns = units_of(other.first_fold, other.group), other.oof([known[name] for name in names])
    rows = {name: unit == number for name, number in there.items()}
    return {here[name]: measure(columns[mine], other.target[mine]) for name, mine in rows.items()}


def _unit_names(rows: MemberPredictions) -> dict[tuple[bool, int], int]:
    """Return the number of each unit, by whether it is a group and which group or fold it is."""
    by_group = 1 < len(np.unique(rows.group)) <= FEW_GROUPS
    names = np.unique(rows.group if by_group else rows.first_fold).tolist()
    return {(by_group, name): number for number, name in enumerate(names)}
