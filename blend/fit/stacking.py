"""Stacking: makings that add numeric columns of the rows, and trees, to a weighted sum of predictions.

They can follow what no weighted sum can, such as a model that is wrong about long texts, and they can follow noise just
as well. So they take part only where there are numeric columns, or on request, and one of them is chosen only where it
is better, nested, than every other making by more than chance allows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from blend.fit.makings import Formula, Making, SeenRows, cut
from blend.fit.objective import FittedLine, MetricOnMoments, Readout, fit_line
from blend.fit.tournament import Tournament, judge, play
from blend.fit.weight_methods import MOST_SEARCHED, WeightFit, free_ridge
from blend.members.moment_sums import measure
from data_prep.scoring.combination import Floats
from data_prep.scoring.group_bootstrap import GroupBootstrap, reach_95
from data_prep.scoring.stack import Stack, Tree

LEAST_ERRORS = 2.0
"""A stacked making is chosen only if it is better by more than so many standard errors, more where groups are few."""
TREES, LEAVES, RATE, PENALTY = 60, 8, 0.05, 10.0
LEAST_ROWS, LEAST_SHARE = 20, 0.02
"""A leaf holds at least so many rows, and so large a share of them."""
PARTS = 5
"""Cut points are fitted to predictions that were made without each of so many parts of the rows."""


@dataclass(frozen=True)
class Stacking(Making):
    """Ridge on the strongest candidates and the numeric columns; `stacked-trees` boosts trees on what that leaves."""

    @property
    def name(self) -> str:
        """Return how the command line and the record call it."""
        return self.method

    def fit(self, seen: SeenRows) -> Formula:
        """Choose everything from the rows seen."""
        places, most = np.arange(seen.columns.shape[1]), min(self.most or MOST_SEARCHED, MOST_SEARCHED)
        if len(places) > most:
            chosen = seen.fewer(most)
            places, seen = chosen.places, chosen.seen
        formula = self._stack(seen, seen.features, seen.target, seen.unit)
        if seen.metric.decides:
            formula = replace(formula, cuts=cut(self._values_apart(seen), seen, Readout.CUTS))
        return replace(formula, members=places)

    def _stack(self, seen: SeenRows, features: Floats, target: Floats, unit: NDArray[np.intp]) -> Formula:
        """Return the formula for `features` [rows, all candidates of `seen` + numeric columns], without cuts."""
        parts = [measure(features[unit == number], target[unit == number]) for number in np.unique(unit)]
        search = free_ridge(MetricOnMoments(parts, Readout.LINE))
        line, n_members = fit_line(features @ search.weights, target, Readout.LINE, seen.metric), seen.columns.shape[1]
        weights = search.weights[:n_members]
        size = float(np.abs(weights).sum()) or 1.0
        numeric = line.slope * search.weights[n_members:]
        stack = Stack(columns=tuple(seen.numeric), weights=tuple(numeric.tolist()))
        formula = Formula(
            members=np.arange(n_members),
            search=WeightFit(weights / size, search.converged, search.evaluations, search.restarts),
            scalings=(),
            line=FittedLine(line.slope * size, line.intercept),
            cuts=None,
            levels=seen.metric.levels,
            stack=stack,
        )
        if self.method != "stacked-trees":
            return formula
        linear, members, columns = formula.weigh(features), *np.split(features, [n_members], axis=1)
        trees = boost(np.column_stack([members - linear[:, None], linear, columns]), target - linear)
        return replace(formula, stack=stack.model_copy(update={"trees": trees}))

    def _values_apart(self, seen: SeenRows) -> Floats:
        """Return what is predicted [rows] without each row's part: on their own rows trees are too good."""
        part, values = np.unique(seen.unit, return_inverse=True)[1] % PARTS, np.empty(len(seen.target))
        if not part.any():
            part = np.arange(len(part)) % PARTS  # a single unit
        for number in np.unique(part):
            rows = part == number
            apart = self._stack(seen, seen.features[~rows], seen.target[~rows], seen.unit[~rows])
            values[rows] = apart.weigh(seen.features[rows])
        return values


def boost(features: Floats, target: Floats) -> tuple[Tree, ...]:
    """Return few, shallow trees that add up to `target` [rows], of mean 0, from `features` [rows, features]."""
    from sklearn.ensemble import HistGradientBoostingRegressor  # noqa: PLC0415 - slow to import
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    model = HistGradientBoostingRegressor(
        learning_rate=RATE,
        max_iter=TREES,
        max_leaf_nodes=LEAVES,
        min_samples_leaf=max(LEAST_ROWS, int(LEAST_SHARE * len(target))),
        l2_regularization=PENALTY,
        early_stopping=False,
        random_state=0,
    )
    with threadpool_limits(1):  # threads that wait for each other on a busy machine take a hundred times as long
        model.fit(features, target)
    return tuple(_tree(predictor.nodes) for (predictor,) in model._predictors)


def _tree(nodes: NDArray[np.void]) -> Tree:
    leaf = nodes["is_leaf"].astype(bool)
    return Tree(
        feature=tuple(np.where(leaf, -1, nodes["feature_idx"]).tolist()),
        threshold=tuple(np.where(leaf, 0.0, nodes["num_threshold"]).tolist()),
        left=tuple(nodes["left"].tolist()),
        right=tuple(nodes["right"].tolist()),
        value=tuple(np.where(leaf, nodes["value"], 0.0).tolist()),
    )


def stackings(most: int | None = None) -> list[Making]:
    """Return every making that stacks, with at most so many candidates."""
    return [Stacking(name, Readout.RAW, most=most) for name in ("stacked-ridge", "stacked-trees")]


def add_stackings(
    whole: SeenRows, played: Tournament, makings: Sequence[Making], bootstrap: GroupBootstrap
) -> Tournament:
    """Let `makings` that stack compete too; one is chosen only if it beats all others by more than chance allows."""
    stacked, n_played = play(whole, makings), len(played.makings)
    draws = bootstrap.draws(np.column_stack([stacked.nested, played.nested[:, int(np.argmax(played.utility))]]))
    errors = np.array([draws.difference(place, len(makings)).standard_error for place in range(len(makings))])
    margin = max(LEAST_ERRORS, reach_95(draws.n_groups)) * np.maximum(errors, np.finfo(np.float64).tiny)

    def choose(utility: Floats) -> int:
        others, lead = utility[:n_played], utility[n_played:] - margin
        return n_played + int(np.argmax(lead)) if lead.max() > others.max() else played.choose(others)

    found = judge(
        whole,
        [*played.makings, *makings],
        [*played.formulas, *stacked.formulas],
        [(*one, *other) for one, other in zip(played.without, stacked.without, strict=True)],
        np.column_stack([played.values, stacked.values]),
        choose=choose,
    )
    return replace(found, shares=None if played.shares is None else np.append(played.shares, np.zeros(len(makings))))
