"""The consensus: the mean of all makings, each weighed by how likely it is that the best is no better, as one formula.

Which making is best on the rows at hand is mostly chance, and those near the top differ in what they get wrong; so
their mean does better on other rows than the one that happened to win (`docs/results.md`, section Truth). A making that
lies z standard errors behind the best weighs exp(-z^2 / 2), the likelihood of such a gap between equals. Nelder-Mead
weighs twice as much as all others together, and less only where z is over 2: by so much the best of many leads by luck.
It weighs raw columns, or isotonic curves of them where that is better by over a standard error.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from blend.fit.makings import Formula, Making, SeenRows, cut, last_readout
from blend.fit.objective import FittedLine, Readout
from blend.fit.tournament import Tournament, judge
from blend.fit.weight_methods import WeightFit
from data_prep.scoring.combination import Floats, Scaling
from data_prep.scoring.group_bootstrap import DrawnUtilities

CONSENSUS = Making("consensus", Readout.RAW)
"""The name under which it competes."""
LEAST_LIKELY = 0.01
"""A making of which less is likely does not take part."""
HONOR = 2.0
"""What Nelder-Mead weighs, where all others together weigh 1."""
PLAIN = ("single", "mean")
LUCK = 2.0
"""So many standard errors the best of many makings leads by luck."""


def add_consensus(
    whole: SeenRows, played: Tournament, by_row: DrawnUtilities, by_group: DrawnUtilities, *, forced: bool
) -> Tournament:
    """Let the consensus compete too, and choose it; draws are of `played.nested`, by rows alone and by groups.

    Ways are weighed by draws of rows: of a handful of groups no standard error is known well enough to weigh by.

    Unless it is `forced`, Nelder-Mead is chosen for Pearson where it ties with the best; and the best itself, where a
    single candidate or a plain mean is better than that beyond noise. Who takes part is decided again
    without each unit.
    """
    last = last_readout(whole.metric)
    raw, curved = (played.names.index(Making("nelder-mead", last, curve).name) for curve in (None, "isotonic"))

    def favorite(utility: Floats) -> int:
        ahead = utility[curved] - utility[raw] > by_row.difference(curved, raw).standard_error
        return curved if ahead else raw

    column, without = np.empty(len(whole.target)), []
    for number, fitted in enumerate(played.without):
        shares, rows = shares_of(played.apart[number], by_row, favorite(played.apart[number])), whole.unit == number
        without.append((*fitted, mean_formula(fitted, shares, whole.fitted.without(number), _readout(played, shares))))
        column[rows] = played.values[rows] @ shares
    shares = shares_of(played.utility, by_row, favorite(played.utility))
    formula = mean_formula(played.formulas, shares, whole.fitted, _readout(played, shares))

    makings = [*played.makings, CONSENSUS]
    plain = [place for place, making in enumerate(makings) if making.method in PLAIN and not making.calibration]

    def choose(utility: Floats) -> int:
        best, mead, chosen = int(np.argmax(utility[:-1])), favorite(utility), len(played.makings)
        if forced:
            return chosen
        if whole.metric.name == "pearson" and utility[best] - utility[mead] <= by_group.difference(best, mead).reach:
            chosen = mead
        first = max(plain, key=utility.item)
        ahead = utility[first] - utility[chosen] > by_group.difference(first, mead).reach
        return best if ahead else chosen

    found = judge(
        whole, makings, [*played.formulas, formula], without, np.column_stack([played.values, column]), choose=choose
    )
    return replace(found, shares=np.append(shares, 0.0))


def _readout(played: Tournament, shares: Floats) -> Readout:
    """Return the readout of the making that is best."""
    return played.makings[int(np.argmax(shares))].readout


def shares_of(utility: Floats, draws: DrawnUtilities, favorite: int) -> Floats:
    """Return the share [makings] of each making in the consensus; `favorite` is the place of Nelder-Mead."""
    best = int(np.argmax(utility))
    errors = np.array([draws.difference(best, place).standard_error for place in range(len(utility))])
    behind = (utility[best] - utility) / np.maximum(errors, np.finfo(np.float64).tiny)
    likely = np.exp(-0.5 * np.minimum(behind, 10.0) ** 2)
    likely[favorite] = 0.0
    likely[likely < LEAST_LIKELY] = 0.0
    others = float(likely.sum()) or 1.0
    likely[favorite] = HONOR * others * np.exp(-0.5 * np.clip(behind[favorite] - LUCK, 0.0, 10.0) ** 2)
    return np.asarray(likely / likely.sum())


def mean_formula(formulas: Sequence[Formula], parts: Floats, seen: SeenRows, readout: Readout) -> Formula:
    """Return the formula whose sum is the mean of those of `formulas`, weighed by `parts` [formulas], which sum to 1.

    `readout` tells how it decides. Where a candidate has curves, its weight says how far its part of the sum moves when
    its raw prediction does.
    """
    straight, curves = np.zeros(seen.columns.shape[1]), defaultdict(list)
    used = [(formula, part) for formula, part in zip(formulas, parts.tolist(), strict=True) if part]
    for formula, part in used:
        shares = formula.search.weights * (part * formula.line.slope)
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
        converged=all(formula.search.converged for formula, _ in used),
        evaluations=sum(formula.search.evaluations for formula, _ in used),
        restarts=sum(formula.search.restarts for formula, _ in used),
    )
    line = FittedLine(size, sum(part * formula.line.intercept for formula, part in used))
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
