"""The tournament: every making predicts rows that it has not seen, and the best of them makes the blend.

Rows are left out in units: the folds, or, where there are few groups, the groups. Everything that a making chooses it
chooses again without each unit, so that its nested score is its own. To choose the best of many makings flatters it,
too: so the choice itself is made again without each unit, and the blend's nested score is that of the makings chosen
then.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blend.fit.makings import CurvedColumns, Formula, Making, SeenRows
from blend.members.member_predictions import MemberPredictions
from blend.members.moment_sums import measure
from data_prep.scoring.combination import NO_COLUMNS, Floats
from data_prep.scoring.metrics import Metric

FEW_GROUPS = 20
"""So many groups or fewer are left out one by one, in place of folds."""
TIE = 1e-5
"""Utilities that differ by less are equal; the first making is taken."""


Choose = Callable[[Floats], int]
"""Returns the place of the making to take, given the utility [makings] of each."""


@dataclass(frozen=True, eq=False)
class Tournament:
    """Makings, what they predict for rows that they have not seen, and which one is chosen."""

    makings: tuple[Making, ...]
    formulas: tuple[Formula, ...]
    """Fitted on all rows."""
    without: tuple[tuple[Formula, ...], ...]
    """[units][makings], fitted without each unit."""
    values: Floats
    """[rows, makings]; each unit's rows by formulas fitted without the unit, before cut points."""
    nested: Floats
    """[rows, makings], after them."""
    utility: Floats
    """[makings], of `nested`."""
    apart: Floats
    """[units, makings]: the utility without each unit."""
    choose: Choose
    chosen: int
    prediction: Floats
    """[rows], of the makings chosen without each row's unit."""
    shares: Floats | None = None
    """[makings], what part each has in the consensus; None: there is none."""

    @property
    def names(self) -> list[str]:
        """The makings' names."""
        return [making.name for making in self.makings]


def units_of(fold: NDArray[np.int8], group: NDArray[np.int32]) -> NDArray[np.intp]:
    """Return the number of each row's unit, from 0: its group's if there are few, else its fold's.

    With repeats, `fold` is that of the first: a row must not be scored by what was fitted on it in another.
    """
    groups, number = np.unique(group, return_inverse=True)
    return number if 1 < len(groups) <= FEW_GROUPS else np.unique(fold, return_inverse=True)[1]


def units_beside(scored: MemberPredictions, fitted: MemberPredictions) -> NDArray[np.intp]:
    """Return the unit of each row that is fitted on, as `units_of` numbers those that are scored; the rest by fold."""
    by_group = 1 < len(np.unique(scored.group)) <= FEW_GROUPS
    fold = fitted.first_fold
    names, own = np.unique(scored.group if by_group else scored.first_fold), fitted.group if by_group else fold
    place = np.minimum(np.searchsorted(names, own), len(names) - 1)
    return np.where(names[place] == own, place, len(names) + fold.astype(np.intp))


def play(whole: SeenRows, makings: Sequence[Making], *, contenders: int | None = None) -> Tournament:
    """Let `makings` compete on all rows; the best of the first `contenders` is chosen (None: of all)."""
    formulas = tuple(making.fit(whole.fitted) for making in makings)
    values, without, scales = np.empty((len(whole.target), len(makings))), [], []
    if whole.metric.scale_free:
        curved = CurvedColumns(whole.features)
        all_values = (formula.weigh(whole.features, curved) for formula in formulas)
        scales = [(float(value.mean()), float(value.std())) for value in all_values]
    for number in range(len(whole.parts)):
        rows, seen = whole.unit == number, whole.fitted.without(number)
        without.append(tuple(making.fit(seen) for making in makings))
        columns = whole.features if scales else whole.features[rows]
        curved = CurvedColumns(columns)
        for place, formula in enumerate(without[-1]):
            own = formula.weigh(columns, curved)
            values[rows, place] = _scaled(own, rows, *scales[place]) if scales else own
    return judge(whole, makings, formulas, without, values, choose=lambda utility: _best(utility[:contenders]))


def judge(
    whole: SeenRows,
    makings: Sequence[Making],
    formulas: Sequence[Formula],
    without: Sequence[Sequence[Formula]],
    values: Floats,
    *,
    choose: Choose,
) -> Tournament:
    """Choose a making by what each predicted, and choose again without each unit."""
    target, unit, metric = whole.target, whole.unit, whole.metric
    nested = np.empty_like(values)
    for number, fitted in enumerate(without):
        rows = unit == number
        for place, formula in enumerate(fitted):
            nested[rows, place] = formula.decide(values[rows, place])
    utility = _utilities(nested, target, metric)
    apart = np.array(
        [_utilities(nested[unit != number], target[unit != number], metric) for number in range(len(whole.parts))]
    )
    choices = np.array([choose(worth) for worth in apart])
    return Tournament(
        makings=tuple(makings),
        formulas=tuple(formulas),
        without=tuple(tuple(fitted) for fitted in without),
        values=values,
        nested=nested,
        utility=utility,
        apart=apart,
        choose=choose,
        chosen=choose(utility),
        prediction=nested[np.arange(len(target)), choices[unit]],
    )


def all_rows(
    columns: Floats,
    target: Floats,
    unit: NDArray[np.intp],
    metric: Metric,
    families: Sequence[str] = (),
    *,
    numeric: Mapping[str, Floats] = NO_COLUMNS,
    others: SeenRows | None = None,
) -> SeenRows:
    """Return all rows as a making may see them in the end; `unit` [rows] counts from 0."""
    parts = [measure(columns[unit == number], target[unit == number]) for number in np.unique(unit)]
    return SeenRows(columns, target, unit, parts, metric, families, numeric, others)


def _scaled(values: Floats, rows: NDArray[np.bool_], mean: float, spread: float) -> Floats:
    """Return predictions for `rows` of a formula fitted without them, on the scale of the one fitted on all rows.

    `values` [all rows] are its predictions, `mean` and `spread` those of the other. A metric without scale measures
    formulas of different units together, so their lines must not differ: one that was fitted without the rows leans
    against their mean. Where all units choose the same weights, these are the predictions of the other.
    """
    own = float(values.std())
    return np.asarray(mean + (values[rows] - values.mean()) * (spread / own if own > 0.0 else 0.0))


def _utilities(predictions: Floats, target: Floats, metric: Metric) -> Floats:
    values = np.array([metric.utility(metric(target, column)) for column in predictions.T])
    return np.where(np.isfinite(values), values, -np.inf)


def _best(utility: Floats) -> int:
    """Return the first making that no other beats by more than a tie."""
    return int(np.flatnonzero(utility >= utility.max() - TIE)[0])
