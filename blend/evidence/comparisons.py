"""What the blend is compared with: other makings, the best candidate, the plain mean, and the blend fitted before."""

from dataclasses import asdict, dataclass

import numpy as np

from blend.blend_record import ComparisonRecord, MakingRecord, MetricRecord
from blend.fit.fit_blend import BlendFit, baselines_of
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
    target, metric = fit.predictions.target, fit.metric
    folds = tuple(metric(target[rows], prediction[rows]) for rows in fit.predictions.folds)
    return MetricRecord(fold_mean=float(np.nanmean(folds)), pooled=metric(target, prediction), folds=folds)


def compare_makings(fit: BlendFit) -> dict[str, MakingRecord]:
    """Return every making that competed, the best first."""
    played, metric, target = fit.tournament, fit.metric, fit.predictions.target
    draws = fit.bootstrap.draws(played.nested)
    best = int(np.argmax(played.utility))
    found = {}
    for place in np.argsort(-played.utility, kind="stable").tolist():
        making, formula = played.makings[place], played.formulas[place]
        found[making.name] = MakingRecord(
            members=len(formula.members),
            in_sample=metric(target, formula.predict(fit.rows.features)),
            nested=metric.utility(float(played.utility[place])),
            behind=comparison(played.makings[best].name, draws.difference(place, best)),
            share=0.0 if played.shares is None else float(played.shares[place]),
        )
    return found


def compare_with_baselines(fit: BlendFit) -> tuple[ComparisonRecord, ...]:
    """Return by how much the nested blend is better than the best candidate alone and than the plain mean."""
    places = [fit.tournament.names.index(baseline.name) for baseline in baselines_of(fit.metric)]
    draws = fit.bootstrap.draws(np.column_stack([fit.tournament.prediction, fit.tournament.nested[:, places]]))
    return tuple(comparison(name, draws.difference(0, 1 + k)) for k, name in enumerate(("best single model", "mean")))


def compare_with_previous(fit: BlendFit, previous: PreviousBlend) -> ComparisonRecord:
    """Return by how much the nested blend is better than the one that was fitted before."""
    return comparison(previous.name, fit.bootstrap.compare(fit.tournament.prediction, previous.prediction))
