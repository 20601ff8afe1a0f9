"""What the blend is compared with: other methods and calibrations, baselines, and the blend that was fitted before."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from blend.blend_record import CalibrationRecord, ComparisonRecord, MethodRecord, MetricRecord
from blend.evidence.baselines import Predictor
from blend.fit.fit_blend import BlendFit
from blend.fit.nested_ranking import NestedRanking, rank_nested
from blend.fit.nested_score import measure_prediction
from blend.fit.objective import MOMENT_METRICS
from blend.fit.weight_methods import METHODS
from data_prep.scoring.combination import Floats
from data_prep.scoring.group_bootstrap import PairedDifference


@dataclass(frozen=True)
class PreviousBlend:
    """A blend that was fitted before."""

    name: str
    prediction: Floats
    """Its nested predictions, [rows], in the order of `MemberPredictions`."""


def comparison(against: str, difference: PairedDifference) -> ComparisonRecord:
    """Return a paired difference as it is kept in the record."""
    fields = asdict(difference)
    return ComparisonRecord(against=against, difference=fields.pop("value"), is_noise=difference.is_noise, **fields)


def metric_record(fit: BlendFit, prediction: Floats) -> MetricRecord:
    """Return the metric of `prediction` [rows] as it is kept in the record."""
    target, fold = fit.predictions.target, fit.predictions.fold
    return MetricRecord(**asdict(measure_prediction(prediction, target, fold, fit.metric)))


def compare_calibrations(fit: BlendFit) -> dict[str, CalibrationRecord]:
    """Return every calibration that was tried; none where it was given."""
    if fit.tried is None:
        return {}
    return {
        name: CalibrationRecord(nested=metric_record(fit, fit.tried.predictions[name]), behind=behind)
        for name, behind in _behind(fit.tried).items()
    }


def compare_methods(fit: BlendFit) -> dict[str, MethodRecord]:
    """Return every method beside the one that the blend uses, with the same members."""
    chosen = fit.settings.method
    names = [name for name, method in METHODS.items() if name == chosen or not method.free_sign]
    if fit.metric.name not in MOMENT_METRICS:
        names = [name for name in names if name == chosen or name not in ("nnls", "nelder-mead")]
    shared = fit.calibration if fit.calibration != "rank" else "z"
    calibrations = {name: METHODS[name].calibration or shared for name in names} | {chosen: fit.calibration}
    weights = {name: fit.fitter.fit(name, calibrations[name]) for name in names}
    ranking = rank_nested({name: entry.held_out.prediction for name, entry in weights.items()}, fit.bootstrap)
    return {
        name: MethodRecord(
            calibration=calibrations[name],
            in_sample=metric_record(fit, weights[name].prediction),
            nested=metric_record(fit, weights[name].held_out.prediction),
            behind=behind,
        )
        for name, behind in _behind(ranking).items()
    }


def _behind(ranking: NestedRanking) -> dict[str, ComparisonRecord]:
    return {name: comparison(ranking.best, difference) for name, difference in ranking.behind.items()}


def compare_with_baselines(fit: BlendFit, baselines: Mapping[str, Predictor]) -> tuple[ComparisonRecord, ...]:
    """Return by how much the nested blend is better than something simpler."""
    columns = {
        "best member": baselines["best_single"].prediction,
        "best member, picked without the scored fold": baselines["best_single"].held_out,
        "mean": baselines["mean"].held_out,
    }
    draws = fit.bootstrap.draws(np.column_stack([fit.weights.held_out.prediction, *columns.values()]))
    return tuple(comparison(against, draws.difference(0, place)) for place, against in enumerate(columns, start=1))


def compare_with_previous(fit: BlendFit, previous: PreviousBlend) -> ComparisonRecord:
    """Return by how much the nested blend is better than the one that was fitted before."""
    return comparison(previous.name, fit.bootstrap.compare(fit.weights.held_out.prediction, previous.prediction))
