"""What a method makes of a plan: its weights for a calibration, with and without each fold."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from blend.fit.calibration import CALIBRATIONS, ScaledColumns
from blend.fit.membership import Membership, raise_families
from blend.fit.nested_score import NestedPrediction, fit_line, nested
from blend.fit.objective import Objective, objective_of
from blend.fit.weight_methods import METHODS, WeightFit
from blend.members.member_predictions import MemberPredictions
from data_prep.scoring.combination import Combination, CombinationPart, Floats
from data_prep.scoring.metrics import Metric


@dataclass(frozen=True)
class NestedWeights:
    """A method's weights for a calibration, with and without each fold."""

    fit: WeightFit
    """Weights of the plan's members."""
    prediction: Floats
    """`intercept` + `slope` * the weighted sum of the scaled columns, [rows]."""
    slope: float
    intercept: float
    held: NestedPrediction
    """Weights of the plan's `used`."""


class WeightFitter:
    """The columns of a plan's candidates, and what each method makes of them; remembered."""

    def __init__(self, predictions: MemberPredictions, plan: Membership, metric: Metric, alone: Floats) -> None:
        """Take the predictions of all candidates, the plan, the task's metric and each candidate's utility alone."""
        self.predictions, self.plan, self.metric, self.alone = predictions, plan, metric, alone
        self.target, self.fold = predictions.target, predictions.fold
        self.raw = predictions.oof(plan.used)
        self.places = [plan.used.index(member) for member in plan.members]
        self.scaled = lru_cache(maxsize=1)(self._scaled)  # of matrices with all rows one at a time
        self.weigh = cache(self._weigh)

    def _scaled(self, calibration: str) -> ScaledColumns:
        """Return the columns of the plan's `used` under a calibration."""
        return ScaledColumns(
            self.raw,
            self.target,
            self.fold,
            group=self.predictions.group,
            own_folds=[self.predictions.own_folds(member) for member in self.plan.used],
            calibration=CALIBRATIONS[calibration],
        )

    def _weigh(self, method: str, calibration: str) -> NestedWeights:
        """Return a method's weights for a calibration."""
        scaled, used = self.scaled(calibration), self.plan.used

        def without(number: int, objective: Objective) -> Floats:
            places = [used.index(member) for member in self.plan.by_fold[number]]
            return self._spread(places, self._fit(method, objective, places).weights)

        held = nested(scaled, self.target, self.fold, self.metric, without)
        whole = objective_of(self.metric, scaled.sums(), lambda: (scaled.columns, self.target))
        fit = self._fit(method, whole, self.places)
        blended = scaled.columns @ self._spread(self.places, fit.weights)
        slope, intercept = fit_line(blended, self.target)
        return NestedWeights(fit, intercept + slope * blended, slope, intercept, held)

    def _spread(self, places: Sequence[int], weights: Floats) -> Floats:
        """Return weights of the plan's `used`, 0 for all but those at `places`."""
        spread = np.zeros(len(self.plan.used))
        spread[places] = weights
        return spread

    def _fit(self, method: str, whole: Objective, places: Sequence[int]) -> WeightFit:
        objective = whole.of(places)
        fit = METHODS[method].fit(objective)
        if not self.plan.families:
            return fit
        families = [self.plan.families[place] for place in places]
        weights = raise_families(fit.weights, families, self.alone[[self.plan.used[place] for place in places]])
        return WeightFit(weights, objective(weights), fit.converged, fit.evaluations, fit.restarts)

    def combination(self, weighed: NestedWeights, calibration: str) -> Combination:
        """Return the arithmetic of a fitted blend of the plan's members."""
        parts = []
        for member, place, weight in zip(self.plan.members, self.places, weighed.fit.weights.tolist(), strict=True):
            scalings = CALIBRATIONS[calibration].scalings(
                self.raw[:, place], self.target, self.predictions.own_folds(member)
            )
            parts.append(
                CombinationPart(candidate=self.predictions.members[member].candidate, weight=weight, scalings=scalings)
            )
        return Combination(parts=tuple(parts), slope=weighed.slope, intercept=weighed.intercept)
