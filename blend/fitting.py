"""From aligned predictions to a written blend: weights, evidence, submission."""

import hashlib
import importlib.metadata
import json
from dataclasses import asdict, dataclass

import numpy as np

from blend.calibration import Combination, calibrate, fit_weights, measure_scaling, unit_weights
from blend.objective import MOMENT_METRICS, Floats, PearsonOnMoments
from blend.predictions import Predictions
from blend.record import (
    Blend,
    CertificateRecord,
    ComparisonRecord,
    EvidenceRecord,
    MemberRecord,
    ScoreRecord,
    SearchRecord,
    SubmissionRecord,
)
from blend.validation import (
    Choose,
    Nested,
    Score,
    by_best_single,
    by_method,
    compare,
    nested,
    score_members,
    score_prediction,
)
from blend.weights import check_method, exact_pearson
from data_prep.combination import Combination as Arithmetic
from data_prep.combination import Part, Scaling
from data_prep.errors import InputError
from data_prep.moments import moments
from data_prep.prepared import Prepared
from data_prep.submission import render_submission
from data_prep.tables import exists, join, read_bytes, write_bytes, write_json

SUBMISSION_FILE = "submission.csv"
RECORD_FILE = "blend.json"


@dataclass(frozen=True)
class FittedBlend:
    """A blend with the file that belongs to it, not yet written."""

    record: Blend
    submission: bytes


def fit_blend(predictions: Predictions, data: Prepared, *, method: str, name: str, seed: int = 0) -> FittedBlend:
    """Fit weights with a method of `blend.weights.METHODS`, gather the evidence and pass the submission gate.

    Raises:
        InputError: the method cannot serve the task's metric, or the gate refuses the submission.
    """
    metric = data.task.measure
    check_method(method, metric)
    columns, score, fold = predictions.oof, predictions.score, predictions.fold
    fit = fit_weights(columns, score, method=method, metric=metric)
    combination = calibrate(fit.weights, columns, score)
    singles = score_members(columns, score, fold, metric)
    n_members = columns.shape[1]
    best = unit_weights(int(np.nanargmax([metric.utility(single.fold_mean) for single in singles])), n_members)

    nested_blend = _nested(predictions, by_method(method, metric))
    nested_single = _nested(predictions, by_best_single(metric))
    nested_mean = _nested(predictions, by_method("mean", metric))
    best_combination = calibrate(best, columns, score)
    mean_combination = calibrate(np.full(n_members, 1.0 / n_members), columns, score)
    rivals = {
        "best member": best_combination.predict(columns),
        "best member, picked without the scored fold": nested_single.prediction,
        "mean": nested_mean.prediction,
    }
    clipped, n_clipped = _clip(combination.predict(predictions.test), data)
    ids = data.test["id"].to_pylist()
    submission = render_submission(ids, clipped, expected=ids, task=data.task)
    record = Blend(
        name=name,
        method=method,
        metric=metric.name,
        data=data.path,
        data_hash=data.manifest.data_hash,
        split_hash=data.manifest.split_hash,
        mixed_splits=any(member.split_hash != data.manifest.split_hash for member in predictions.members),
        version=importlib.metadata.version("blendfold"),
        seed=seed,
        members=_members(predictions, combination, nested_blend, singles),
        combination=_arithmetic(combination, predictions),
        clip=True,
        search=SearchRecord(converged=fit.converged, evaluations=fit.evaluations, restarts=fit.restarts),
        certificate=_certify(fit.weights, predictions) if metric.name in MOMENT_METRICS else None,
        scores={
            "blend": _evidence(combination, nested_blend, predictions, data),
            "best_single": _evidence(best_combination, nested_single, predictions, data),
            "mean": _evidence(mean_combination, nested_mean, predictions, data),
        },
        comparisons=tuple(
            _compare(nested_blend.prediction, rival, against=against, predictions=predictions, data=data, seed=seed)
            for against, rival in rivals.items()
        ),
        left_out=predictions.left_out,
        submission=SubmissionRecord(
            file=SUBMISSION_FILE, sha256=hashlib.sha256(submission).hexdigest(), rows=len(ids), clipped=n_clipped
        ),
    )
    return FittedBlend(record, submission)


def write_blend(fitted: FittedBlend, folder: str, *, force: bool = False) -> None:
    """Write `submission.csv`, then `blend.json`; writing the same blend again changes nothing.

    Raises:
        InputError: the folder holds another blend and `force` is not given.
    """
    content = fitted.record.model_dump(mode="json")
    path = join(folder, RECORD_FILE)
    if exists(path) and not force and _read_json(path) != content:
        raise InputError(f"{path}: holds another blend; choose another --name, or replace it with --force")
    write_bytes(fitted.submission, join(folder, SUBMISSION_FILE))
    write_json(content, path)


def _read_json(path: str) -> object:
    try:
        return json.loads(read_bytes(path))
    except ValueError:
        return None


def _members(
    predictions: Predictions, combination: Combination, held: Nested, singles: list[Score]
) -> tuple[MemberRecord, ...]:
    return tuple(
        MemberRecord(
            candidate=member.candidate,
            label=member.label,
            family=member.family,
            run=member.run,
            weight=float(combination.weights[column]),
            fold_mean=singles[column].fold_mean,
            pooled=singles[column].pooled,
            nested_weights=tuple(held.weights[:, column].tolist()),
            retried=member.retried,
        )
        for column, member in enumerate(predictions.members)
    )


def _arithmetic(combination: Combination, predictions: Predictions) -> Arithmetic:
    parts = [
        Part(candidate=member.candidate, weight=weight, scalings=(Scaling(center=center, scale=scale),))
        for member, weight, center, scale in zip(
            predictions.members,
            combination.weights.tolist(),
            combination.center.tolist(),
            combination.scale.tolist(),
            strict=True,
        )
    ]
    return Arithmetic(parts=tuple(parts), slope=combination.slope, intercept=combination.intercept)


def _nested(predictions: Predictions, choose: Choose) -> Nested:
    return nested(predictions.oof, predictions.score, predictions.fold, choose)


def _evidence(combination: Combination, held: Nested, predictions: Predictions, data: Prepared) -> EvidenceRecord:
    metric = data.task.measure
    in_sample = combination.predict(predictions.oof)
    holdout = None
    if predictions.holdout is not None and predictions.holdout_score is not None:
        holdout = metric(predictions.holdout_score, combination.predict(predictions.holdout))
    return EvidenceRecord(
        in_sample=_score(in_sample, predictions, data),
        nested=_score(held.prediction, predictions, data),
        holdout=holdout,
    )


def _score(prediction: Floats, predictions: Predictions, data: Prepared) -> ScoreRecord:
    return ScoreRecord(**asdict(score_prediction(prediction, predictions.score, predictions.fold, data.task.measure)))


def _compare(
    blended: Floats, rival: Floats, *, against: str, predictions: Predictions, data: Prepared, seed: int
) -> ComparisonRecord:
    found = compare(
        blended,
        rival,
        score=predictions.score,
        fold=predictions.fold,
        group=predictions.group,
        metric=data.task.measure,
        seed=seed,
    )
    return ComparisonRecord(
        against=against, difference=found.value, standard_error=found.standard_error, is_noise=found.is_noise
    )


def _certify(weights: Floats, predictions: Predictions) -> CertificateRecord:
    center, scale = measure_scaling(predictions.oof)
    objective = PearsonOnMoments(moments((predictions.oof - center) / scale, predictions.score))
    value, exact = objective(weights), exact_pearson(objective).utility
    return CertificateRecord(pearson=value, exact=exact, gap=exact - value)


def _clip(prediction: Floats, data: Prepared) -> tuple[Floats, int]:
    clipped = np.clip(prediction, data.task.least, data.task.greatest)
    return clipped, int((clipped != prediction).sum())
