"""Baselines, which a blend has to beat: the best candidate alone, and the plain mean of all."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blend.fit.nested_score import fit_line
from blend.members.member_predictions import MemberPredictions
from blend.members.moment_sums import MomentSums, total
from data_prep.scoring.combination import Combination, CombinationPart, Floats, Scaling


@dataclass(frozen=True, eq=False)
class Predictor:
    """A combination of candidates, with what it predicts for the train rows."""

    combination: Combination
    members: Sequence[int]
    prediction: Floats
    """[rows], in-sample."""
    held_out: Floats
    """[rows]; everything that was chosen was chosen without the scored fold."""


def best_single(predictions: MemberPredictions, utility: Floats) -> Predictor:
    """Return the candidate with the best mean over folds; `utility` is [candidates, folds]."""
    best = int(np.nanargmax(utility.mean(axis=1)))
    combination, prediction = _combine(predictions, [best], np.ones(1), [Scaling()])
    held_out = np.empty_like(predictions.target)
    for number, rows in enumerate(predictions.folds):
        others = np.delete(utility, number, axis=1) if utility.shape[1] > 1 else utility
        choice = int(np.nanargmax(others.mean(axis=1)))
        column = predictions.oof([choice])[:, 0]
        slope, intercept = fit_line(column, predictions.target)
        held_out[rows] = intercept + slope * column[rows]
    return Predictor(combination, [best], prediction, held_out)


def plain_mean(predictions: MemberPredictions, parts: Sequence[MomentSums]) -> Predictor:
    """Return the mean of all candidates, standardized; `parts` are the sums of each fold."""
    everyone = range(len(predictions.members))
    pooled = total(parts)
    spread = np.sqrt(np.diag(pooled.centred.gram) / pooled.count)
    scalings = [Scaling(center=c, scale=s) for c, s in zip(pooled.mean.tolist(), spread.tolist(), strict=True)]
    weights = np.full(len(everyone), 1.0 / len(everyone))
    combination, prediction = _combine(predictions, everyone, weights, scalings)
    return Predictor(combination, everyone, prediction, prediction)


def _combine(
    predictions: MemberPredictions, members: Sequence[int], weights: Floats, scalings: Sequence[Scaling]
) -> tuple[Combination, Floats]:
    """Return given weights as a combination, and its in-sample predictions [rows]."""
    blended = np.zeros_like(predictions.target)
    for member, weight, scaling in zip(members, weights, scalings, strict=True):
        blended += weight * scaling(predictions.oof([member])[:, 0])
    slope, intercept = fit_line(blended, predictions.target)
    parts = [
        CombinationPart(candidate=predictions.members[member].candidate, weight=float(weight), scalings=(scaling,))
        for member, weight, scaling in zip(members, weights, scalings, strict=True)
    ]
    return Combination(parts=tuple(parts), slope=slope, intercept=intercept), intercept + slope * blended
