"""The consensus: the mean of all makings that are within one standard error of the best, as one formula.

The makings near the top differ in what they get wrong, and which of them is best on the rows at hand is mostly chance;
so their mean does better on other rows than the one that happened to win (see `docs/results.md`, section Truth).
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from blend.fit.makings import Formula, Making, SeenRows, cut
from blend.fit.objective import Line, Readout
from blend.fit.tournament import Tournament, judge
from blend.fit.weight_methods import WeightFit
from data_prep.scoring.combination import Floats, Scaling
from data_prep.scoring.group_bootstrap import DrawnUtilities

CONSENSUS = Making("consensus", Readout.RAW)
"""The name under which it competes."""


def add_consensus(whole: SeenRows, played: Tournament, draws: DrawnUtilities, *, forced: bool) -> Tournament:
    """Let the consensus compete too; `draws` are of `played.nested`. With `forced`, it is what is chosen.

    Which makings take part is decided again without each unit.
    """
    column, without = np.empty(len(whole.target)), []
    for number, fitted in enumerate(played.without):
        near, rows = _near(played.apart[number], draws), whole.unit == number
        seen = whole.without(number)
        without.append((*fitted, mean_formula([fitted[place] for place in near], seen, played.makings[near[0]].readout)))
        column[rows] = played.values[rows][:, near].mean(axis=1)
    near = _near(played.utility, draws)
    formula = mean_formula([played.formulas[place] for place in near], whole, played.makings[near[0]].readout)
    return judge(
        whole,
        [*played.makings, CONSENSUS],
        [*played.formulas, formula],
        without,
        np.column_stack([played.values, column]),
        contenders=[len(played.makings)] if forced else None,
    )


def _near(utility: Floats, draws: DrawnUtilities) -> NDArray[np.intp]:
    """Return the makings within one standard error of the best, the best first."""
    best = int(np.argmax(utility))
    errors = np.array([draws.difference(best, place).standard_error for place in range(len(utility))])
    order = np.argsort(-utility, kind="stable")
    return order[utility[order] >= utility[best] - errors[order]]


def mean_formula(formulas: Sequence[Formula], seen: SeenRows, readout: Readout) -> Formula:
    """Return the formula whose weighted sum is the mean of those of `formulas`; `readout` tells how it decides.

    Where a candidate has curves, its weight says how far its part of the sum moves when its raw prediction does.
    """
    straight, curves = np.zeros(seen.columns.shape[1]), defaultdict(list)
    for formula in formulas:
        shares = formula.search.weights * (formula.line.slope / len(formulas))
        if not formula.scalings:
            straight[formula.members] += shares
            continue
        for place, share, curve in zip(formula.members.tolist(), shares.tolist(), formula.scalings, strict=True):
            curves[place].append((share, curve))
    members = np.array(sorted({*np.flatnonzero(straight).tolist(), *curves}), dtype=np.intp)
    weights, scalings = straight[members], [Scaling()] * len(members)
    for number, place in enumerate(members.tolist()):
        if place in curves:
            weights[number], scalings[number] = _bend(seen.columns[:, place], straight[place], curves[place])
    size = float(np.abs(weights).sum())
    search = WeightFit(
        weights / size,
        converged=all(formula.search.converged for formula in formulas),
        evaluations=sum(formula.search.evaluations for formula in formulas),
        restarts=sum(formula.search.restarts for formula in formulas),
    )
    line = Line(size, float(np.mean([formula.line.intercept for formula in formulas])))
    found = Formula(members, search, tuple(scalings) if curves else (), line, None, seen.metric.levels)
    return replace(found, cuts=cut(found.weigh(seen.columns), seen, readout))


def _bend(column: Floats, straight: float, curves: Sequence[tuple[float, Scaling]]) -> tuple[float, Scaling]:
    """Return a weight and the curve that it multiplies, for `straight` times a column plus shares of curves of it."""
    x = np.unique(np.concatenate([curve.x for _, curve in curves]))
    y = np.sum([share * curve(x) for share, curve in curves], axis=0)
    moved = straight * column + np.interp(column, x, y)
    spread = float(column.std())
    weight = float(moved.std()) / spread if spread > 0.0 else 0.0
    if weight == 0.0:
        weight = 1.0
    return weight, Scaling(x=tuple(x.tolist()), y=tuple((y / weight).tolist()), slope=straight / weight)
