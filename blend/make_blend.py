"""`make_blend`: fit a blend, predict the test rows, gather the evidence, and put all of it on record."""

import importlib.metadata
from dataclasses import dataclass

from blend.blend_record import BlendRecord, DriftRecord, RowsRecord, SearchRecord, SubmissionRecord
from blend.evidence.comparisons import (
    PreviousBlend,
    compare_makings,
    compare_with_baselines,
    compare_with_previous,
    comparison,
)
from blend.evidence.member_drift import find_drift, leave_drifting_out
from blend.evidence.member_influence import error_correlations
from blend.evidence.member_records import certify, member_records, notes_about
from blend.evidence.metric_evidence import measure_blend_and_baselines
from blend.fit.blend_settings import BlendSettings
from blend.fit.fit_blend import BlendFit, fit_blend
from blend.members.member_predictions import MemberPredictions
from data_prep.errors import InputError
from data_prep.prepared import Prepared
from data_prep.scoring.combination import Floats
from data_prep.scoring.moments import moments
from data_prep.store.files import base_name
from data_prep.submission.submission_gate import SubmissionFormat, clip, render_submission
from data_prep.submission.submission_manifest import SUBMISSION_FILE, SubmissionManifest, hash_submission


@dataclass(frozen=True, eq=False)
class FinishedBlend:
    """A blend with everything that belongs to it, not yet written."""

    record: BlendRecord
    nested: Floats
    """Nested predictions, [rows]."""
    prediction: Floats | None
    """[test rows], as in the submission; None where a member has no test predictions, so that there is none."""
    submission: bytes | None
    manifest: SubmissionManifest | None


def make_blend(
    predictions: MemberPredictions,
    data: Prepared,
    settings: BlendSettings,
    *,
    name: str,
    form: SubmissionFormat | None = None,
    previous: PreviousBlend | None = None,
    fitted_on: MemberPredictions | None = None,
) -> FinishedBlend:
    """Fit a blend and pass its submission through the gate; without `form`, it has the task's names and test order.

    `predictions` are for the rows that are scored, `fitted_on` for those that are fitted on (None: the same).
    Without test predictions there is no submission.

    Raises:
        InputError: as `fit_blend`, or the gate refuses the submission.
    """
    if not predictions.has_test and (form is not None or settings.drop_drifting):
        raise InputError(
            "--sample-submission and --drop-drifting need test predictions, and there are none; leave them out"
        )
    drift = find_drift(fitted_on or predictions, data, seed=settings.seed) if predictions.has_test else ()
    if settings.drop_drifting:
        predictions = leave_drifting_out(predictions, drift)
        fitted_on = leave_drifting_out(fitted_on, drift) if fitted_on else None
    fit = fit_blend(predictions, data.task.measure, settings, fitted_on)
    if not predictions.has_test:
        record = _record(fit, data, name=name, submission=None, previous=previous, drift=drift)
        return FinishedBlend(record, fit.tournament.prediction, None, None, None)
    prediction, n_clipped = _predict_test(fit, data)
    ids = data.test["id"].to_pylist()
    submission = render_submission(ids, prediction, expected=ids, task=data.task, form=form)
    written = SubmissionRecord(
        file=SUBMISSION_FILE, sha256=hash_submission(submission), rows=len(ids), clipped=n_clipped
    )
    record = _record(fit, data, name=name, submission=written, previous=previous, drift=drift)
    manifest = _manifest(record, written, data)
    return FinishedBlend(record, fit.tournament.prediction, prediction, submission, manifest)


def _predict_test(fit: BlendFit, data: Prepared) -> tuple[Floats, int]:
    """Return the predictions for the test rows, and how many of them were clipped."""
    columns = [fit.predictions.columns[member].test for member in fit.members]
    prediction = fit.combination.predict(columns, fit.predictions.numeric.test)
    return clip(prediction, data.task) if fit.settings.clip else (prediction, 0)


def _record(
    fit: BlendFit,
    data: Prepared,
    *,
    name: str,
    submission: SubmissionRecord | None,
    previous: PreviousBlend | None,
    drift: tuple[DriftRecord, ...],
) -> BlendRecord:
    manifest, search, played = data.manifest, fit.formula.search, fit.tournament
    settings, chosen = fit.settings, bool(fit.settings.score_on or fit.settings.fit_on)
    columns = fit.rows.columns[:, fit.formula.members]
    errors = error_correlations(moments(columns, fit.predictions.target))
    scores = measure_blend_and_baselines(fit, data)
    own = fit.metric.utility(float(played.utility[played.chosen]))
    return BlendRecord(
        name=name,
        method=fit.making.name,
        metric=fit.metric.name,
        data=data.path,
        data_hash=manifest.data_hash,
        split_hash=manifest.split_hash,
        mixed_splits=any(member.split_hash != manifest.split_hash for member in fit.predictions.members),
        version=importlib.metadata.version("blendfold"),
        seed=fit.settings.seed,
        members=member_records(fit),
        combination=fit.combination,
        clip=fit.settings.clip,
        search=SearchRecord(converged=search.converged, evaluations=search.evaluations, restarts=search.restarts),
        certificate=certify(fit),
        scores=scores,
        makings=compare_makings(fit),
        optimism=fit.metric.utility(own) - fit.metric.utility(scores["blend"].nested.pooled),
        price=comparison("the fewest members", fit.price) if fit.price else None,
        units="groups" if len(fit.rows.parts) != len(fit.predictions.folds) else "folds",
        n_groups=fit.bootstrap.n_groups,
        error_correlations=tuple(tuple(row) for row in errors.tolist()),
        comparisons=compare_with_baselines(fit),
        previous=compare_with_previous(fit, previous) if previous else None,
        scored_rows=RowsRecord(chosen=settings.score_on, rows=len(fit.predictions.target)) if chosen else None,
        fitted_rows=RowsRecord(chosen=settings.fit_on, rows=len(fit.fitted_on.target)) if chosen else None,
        left_out=fit.predictions.left_out,
        drift=drift,
        notes=notes_about(fit.predictions),
        submission=submission,
    )


def _manifest(record: BlendRecord, submission: SubmissionRecord, data: Prepared) -> SubmissionManifest:
    evidence = record.scores["blend"]
    return SubmissionManifest(
        **submission.model_dump(),
        blend=record.name,
        method=record.method,
        metric=record.metric,
        members={member.candidate: member.weight for member in record.members},
        study=tuple(dict.fromkeys(base_name(member.run) for member in record.members)),
        data_hash=record.data_hash,
        split_hash=record.split_hash,
        scheme=data.manifest.scheme,
        n_folds=data.manifest.n_folds,
        cv=evidence.in_sample.fold_mean,
        nested=evidence.nested.fold_mean,
        expected=evidence.expected.value if evidence.expected else None,
        version=record.version,
    )
