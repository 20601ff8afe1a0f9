"""`fit_blend`: the tournament of makings over the predictions of all candidates, and the blend that it chooses."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from blend.fit.blend_settings import BlendSettings
from blend.fit.consensus import CONSENSUS, add_consensus
from blend.fit.elimination import eliminate
from blend.fit.makings import Formula, Making, SeenRows
from blend.fit.objective import MetricOnMoments, Readout
from blend.fit.shared_weights import SharedWeights
from blend.fit.stacking import add_stackings, stackings
from blend.fit.tournament import Tournament, all_rows, play, units_beside, units_of
from blend.members.member_predictions import MemberPredictions
from data_prep.scoring.combination import Combination, CombinationPart, Scaling
from data_prep.scoring.group_bootstrap import GroupBootstrap, PairedDifference
from data_prep.scoring.metrics import Metric

MOST_CELLS = 100_000_000
"""As many predictions of candidates compete, at most (800 MB); of more candidates, only the best take part."""
SIZES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 30)
"""Numbers of members that parsimony tries."""


@dataclass(frozen=True, eq=False)
class BlendFit:
    """A fitted blend, with everything that it was chosen from."""

    settings: BlendSettings
    metric: Metric
    predictions: MemberPredictions
    """Of all candidates, for the rows that are scored."""
    fitted_on: MemberPredictions
    """For the rows that makings are fitted on: the same, unless others were chosen."""
    pool: tuple[int, ...]
    """The candidates that competed, by their place in `predictions`, ascending."""
    rows: SeenRows
    """All rows that are scored, for the pool; `rows.fitted` are those of `fitted_on`."""
    tournament: Tournament
    bootstrap: GroupBootstrap
    """Draws groups; the metric is that of all rows together."""
    price: PairedDifference | None = None
    """What parsimony costs, nested; None: it was not asked for."""

    @property
    def making(self) -> Making:
        """The making that was chosen."""
        return self.tournament.makings[self.tournament.chosen]

    @property
    def alone(self) -> Making:
        """The making that was chosen, or if that is the consensus, the best one in it."""
        if self.making is not CONSENSUS:
            return self.making
        played = self.tournament
        return played.makings[int(np.argmax(played.utility[: played.makings.index(CONSENSUS)]))]

    @property
    def formula(self) -> Formula:
        """What it made of all rows."""
        return self.tournament.formulas[self.tournament.chosen]

    @property
    def members(self) -> tuple[int, ...]:
        """The candidates with weight, by their place in `predictions`."""
        return tuple(self.pool[place] for place in self.formula.members)

    @cached_property
    def combination(self) -> Combination:
        """The blend as arithmetic; parts in the order of `members`."""
        return self.combination_of(self.formula)

    def combination_of(self, formula: Formula) -> Combination:
        """Return a formula as arithmetic."""
        scalings = formula.scalings or (Scaling(),) * len(formula.members)
        names = [self.predictions.members[self.pool[place]].candidate for place in formula.members]
        weights = formula.search.weights.tolist()
        return Combination(
            parts=tuple(
                CombinationPart(candidate=name, weight=weight, scalings=(scaling,))
                for name, weight, scaling in zip(names, weights, scalings, strict=True)
            ),
            slope=formula.line.slope,
            intercept=formula.line.intercept,
            cuts=() if formula.cuts is None else tuple(formula.cuts.tolist()),
            levels=() if formula.cuts is None else formula.levels,
            stack=formula.stack,
        )


def baselines_of(metric: Metric) -> tuple[Making, Making]:
    """Return what every blend is compared with: the best candidate alone, and the plain mean, both as they are."""
    readout = Readout.LINE if metric.scale_free else Readout.RAW
    return Making("single", readout), Making("mean", readout)


def fit_blend(
    predictions: MemberPredictions,
    metric: Metric,
    settings: BlendSettings,
    fitted_on: MemberPredictions | None = None,
    shared: SharedWeights | None = None,
) -> BlendFit:
    """Fit a blend of given candidates, on other rows than those that are scored if given; InputError: no such method.

    `shared` competes as well, where all candidates do. Rows of a unit are scored by what was fitted without the unit,
    whichever rows those are.
    """
    makings = settings.makings(metric)
    pool = _choose_pool(fitted_on or predictions)
    if shared is not None and len(pool) == len(predictions.members):
        makings = [*makings, shared]
    families = [predictions.members[place].family for place in pool] if settings.one_per_family else ()
    unit = units_of(predictions.first_fold, predictions.group)
    others = None
    if fitted_on is not None:
        beside = units_beside(predictions, fitted_on)
        others = all_rows(
            fitted_on.oof(pool), fitted_on.target, beside, metric, families, numeric=fitted_on.numeric.oof
        )
    rows = all_rows(
        predictions.oof(pool),
        predictions.target,
        unit,
        metric,
        families,
        numeric=predictions.numeric.oof,
        others=others,
    )
    everywhere = np.zeros(len(unit), dtype=np.int8)
    bootstrap = GroupBootstrap(predictions.target, everywhere, predictions.group, metric, seed=settings.seed)
    tournament = _play(rows, makings, metric)
    price = None
    if settings.parsimony:
        whole, tournament = tournament, _play(rows, [_fewest(rows, tournament, bootstrap)], metric)
        price = bootstrap.compare(whole.nested[:, whole.chosen], tournament.nested[:, tournament.chosen])
    elif settings.method in (None, CONSENSUS.name):
        number = np.arange(len(unit)) if predictions.row is None else predictions.row
        row = (number // metric.n_classes).astype(np.int32)
        by_row = GroupBootstrap(predictions.target, everywhere, row, metric, seed=settings.seed)
        tournament = add_consensus(
            rows,
            tournament,
            by_row.draws(tournament.nested),
            bootstrap.draws(tournament.nested),
            forced=settings.method is not None,
        )
        if settings.method is None and rows.numeric and not families:
            tournament = add_stackings(rows, tournament, stackings(settings.most_members), bootstrap)
    fitted = fitted_on or predictions
    return BlendFit(settings, metric, predictions, fitted, tuple(pool), rows, tournament, bootstrap, price)


def _play(rows: SeenRows, makings: Sequence[Making], metric: Metric) -> Tournament:
    others = [baseline for baseline in baselines_of(metric) if baseline not in makings]
    return play(rows, [*makings, *others], contenders=len(makings))


def _fewest(rows: SeenRows, tournament: Tournament, bootstrap: GroupBootstrap) -> Making:
    """Return the chosen making with the fewest members that does, nested, within one standard error as well."""
    chosen = tournament.makings[tournament.chosen]
    smaller = [replace(chosen, most=size) for size in SIZES]
    nested = play(rows, smaller).nested
    draws = bootstrap.draws(np.column_stack([tournament.nested[:, tournament.chosen], nested]))
    behind = [draws.difference(0, place) for place in range(1, len(SIZES) + 1)]
    close = [making for making, gap in zip(smaller, behind, strict=True) if gap.value <= gap.standard_error]
    return (close or [chosen])[0]


def _choose_pool(predictions: MemberPredictions) -> list[int]:
    """Return the candidates that compete: all, or if that were too many predictions, those that serve best."""
    n_candidates, most = len(predictions.members), max(1, MOST_CELLS // len(predictions.target))
    if n_candidates <= most:
        return list(range(n_candidates))
    objective = MetricOnMoments(predictions.sums(), Readout.LINE)
    alone = np.argsort(-objective.steps(np.zeros(n_candidates), 0.0, 1.0), kind="stable").tolist()
    return sorted(list(dict.fromkeys([*eliminate(objective, most).tolist(), *alone]))[:most])
