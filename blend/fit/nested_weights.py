"""`WeightFitter`: weights of the members by any method and calibration, fitted on all folds and without each fold."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from blend.fit.calibration import CALIBRATIONS, ScaledColumns
from blend.fit.membership import Membership, raise_families
from blend.fit.nested_score import NestedPrediction, fit_line, predict_nested
from blend.fit.objective import Objective, objective_of
from blend.fit.weight_methods import METHODS, WeightFit
from blend.members.member_predictions import MemberPredictions
from data_prep.scoring.combination import Combination, CombinationPart, Floats
from data_prep.scoring.metrics import Metric


@dataclass(frozen=True)
class NestedWeights:
    """Weights by one method and calibration, fitted on all folds and without each fold."""

    fit: WeightFit
    """Weights of the members."""
    prediction: Floats
    """`intercept` + `slope` * the weighted sum of the scaled columns, [rows]: in-sample."""
    slope: float
    intercept: float
    held_out: NestedPrediction
    """Weights of the membership's `used`, fitted without the fold that they predict."""


class WeightFitter:
    """Fits weights to the members of a blend, and remembers them; `alone` is each candidate's utility, [candidates]."""

    def __init__(self, predictions: MemberPredictions, membership: Membership, metric: Metric, alone: Floats) -> None:
        self.predictions, self.membership, self.metric, self.alone = predictions, membership, metric, alone
        self.target, self.fold = predictions.target, predictions.fold
        self.raw = predictions.oof(membership.used)
        self.places = [membership.used.index(member) for member in membership.members]
        self.scaled = lru_cache(maxsize=1)(self._scaled)  # keeps one matrix of all rows at a time
        self.fit = cache(self._fit)

    def _scaled(self, calibration: str) -> ScaledColumns:
        """Return the columns of the membership's `used` under a calibration."""
        return ScaledColumns(
            self.raw,
            self.target,
            self.fold,
            group=self.predictions.group,
            own_folds=[self.predictions.own_folds(member) for member in self.membership.used],
            calibration=CALIBRATIONS[calibration],
        )

    def _fit(self, method: str, calibration: str) -> NestedWeights:
        """Return a method's weights under a calibration."""
        scaled, used = self.scaled(calibration), self.membership.used

        def without(number: int, objective: Objective) -> Floats:
            places = [used.index(member) for member in self.membership.by_fold[number]]
            return self._spread(places, self._fit_weights(method, objective, places).weights)

        held_out = predict_nested(scaled, self.target, self.fold, self.metric, without)
        whole = objective_of(self.metric, scaled.sums(), lambda: (scaled.columns, self.target))
        fit = self._fit_weights(method, whole, self.places)
        blended = scaled.columns @ self._spread(self.places, fit.weights)
        slope, intercept = fit_line(blended, self.target)
        return NestedWeights(fit, intercept + slope * blended, slope, intercept, held_out)

    def _spread(self, places: Sequence[int], weights: Floats) -> Floats:
        """Return weights of the membership's `used`, 0 for all but those at `places`."""
        spread = np.zeros(len(self.membership.used))
        spread[places] = weights
        return spread

    def _fit_weights(self, method: str, whole: Objective, places: Sequence[int]) -> WeightFit:
        objective = whole.of(places)
        fit = METHODS[method].fit(objective)
        if not self.membership.families:
            return fit
        families = [self.membership.families[place] for place in places]
        weights = raise_families(fit.weights, families, self.alone[[self.membership.used[place] for place in places]])
        return WeightFit(weights, objective(weights), fit.converged, fit.evaluations, fit.restarts)

    def combination(self, weights: NestedWeights, calibration: str) -> Combination:
        """Return the fitted blend of the members as arithmetic."""
        parts = []
        for member, place, weight in zip(
            self.membership.members, self.places, weights.fit.weights.tolist(), strict=True
        ):
            scalings = CALIBRATIONS[calibration].scalings(
                self.raw[:, place], self.target, self.predictions.own_folds(member)
            )
            parts.append(
                CombinationPart(candidate=self.predictions.members[member].candidate, weight=weight, scalings=scalings)
            )
        return Combination(parts=tuple(parts), slope=weights.slope, intercept=weights.intercept)
