"""`make_blend`: fit a blend, predict the test rows, gather the evidence, and put all of it on record."""

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from blend.blend_record import (
    BlendRecord,
    DriftRecord,
    RowsRecord,
    SearchRecord,
    SubmissionRecord,
    TargetsRecord,
    WholeRecord,
)
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
from blend.evidence.metric_evidence import count_test_groups, measure_blend_and_baselines
from blend.evidence.targets_together import measure_together
from blend.fit.blend_settings import BlendSettings
from blend.fit.fit_blend import BlendFit, fit_blend
from blend.fit.shared_weights import SharedWeights
from blend.members.member_predictions import MemberPredictions
from blend.members.row_alignment import out_of_fold, row_keys
from data_prep.errors import InputError
from data_prep.prepared import Prepared
from data_prep.scoring.combination import Floats
from data_prep.scoring.moments import moments
from data_prep.store.files import base_name
from data_prep.store.tables import Quantity, one_array
from data_prep.submission.submission_gate import SubmissionFormat, clip, render_submission
from data_prep.submission.submission_manifest import SUBMISSION_FILE, SubmissionManifest, hash_submission
from data_prep.target_views import TargetView, joined, target_views
from data_prep.targets.target_columns import with_numbers


@dataclass(frozen=True, eq=False)
class ViewBlend:
    """The blend of a view: of the one question of a task, or of one of its targets."""

    view: TargetView
    fit: BlendFit
    record: BlendRecord
    test_groups: int

    @property
    def test(self) -> Floats:
        """Predictions for the test rows of the view, not clipped."""
        rows = self.fit.predictions
        columns = [rows.columns[member].test for member in self.fit.members]
        return self.fit.combination.predict(columns, rows.numeric.test)


@dataclass(frozen=True, eq=False)
class FinishedBlend:
    """A blend with everything that belongs to it, not yet written."""

    record: WholeRecord
    oof: pa.Table
    """`oof_schema`: nested predictions of the rows that are scored; no score where a target is missing."""
    prediction: Floats | None
    """[test rows] or [test rows, numbers], as in the submission; None where a member has no test predictions, so that
    there is none."""
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
    """Fit a blend of a task with one question and finish it: `fit_view`, then `finish_blend`."""
    (view,) = target_views(data.task)
    found = fit_view(predictions, data, view, settings, name=name, previous=previous, fitted_on=fitted_on)
    return finish_blend([found], data, settings, name=name, form=form)


def fit_view(
    predictions: MemberPredictions,
    data: Prepared,
    view: TargetView,
    settings: BlendSettings,
    *,
    name: str,
    previous: PreviousBlend | None = None,
    fitted_on: MemberPredictions | None = None,
    shared: SharedWeights | None = None,
) -> ViewBlend:
    """Fit the blend of a view and gather the evidence.

    `predictions` are for the rows that are scored, `fitted_on` for those that are fitted on (None: the same); `shared`
    competes as well.

    Raises:
        InputError: as `fit_blend`, or an option needs test predictions.
    """
    if not predictions.has_test and settings.drop_drifting:
        raise InputError("--drop-drifting needs test predictions, and there are none; leave it out")
    data = view.data(data)
    drift = find_drift(fitted_on or predictions, data, seed=settings.seed) if predictions.has_test else ()
    if settings.drop_drifting:
        predictions = leave_drifting_out(predictions, drift)
        fitted_on = leave_drifting_out(fitted_on, drift) if fitted_on else None
    fit = fit_blend(predictions, data.task.measure, settings, fitted_on, shared)
    own = f"{name}/{view.name}" if view.name else name
    record = _record(fit, data, name=own, previous=previous, drift=drift)
    return ViewBlend(view, fit, record, count_test_groups(data))


def finish_blend(
    parts: Sequence[ViewBlend],
    data: Prepared,
    settings: BlendSettings,
    *,
    name: str,
    form: SubmissionFormat | None = None,
) -> FinishedBlend:
    """Put the blends of all views together, and pass the submission through the gate.

    Without `form`, it has the task's names and test order; without test predictions, there is none.

    Raises:
        InputError: the gate refuses the submission, or `form` is given and there is none.
    """
    record, oof = _whole_record(parts, name), _nested_table(parts, data)
    if not all(part.fit.predictions.has_test for part in parts):
        if form is not None:
            raise InputError("--sample-submission needs test predictions, and there are none; leave it out")
        return FinishedBlend(record, oof, None, None, None)
    prediction = joined([part.test for part in parts], [part.view for part in parts])
    prediction, n_clipped = clip(prediction, data.task) if settings.clip else (prediction, 0)
    ids = data.test["id"].to_pylist()
    submission = render_submission(ids, prediction, expected=ids, task=data.task, form=form)
    written = SubmissionRecord(
        file=SUBMISSION_FILE, sha256=hash_submission(submission), rows=len(ids), clipped=n_clipped
    )
    record = record.with_submission(written)
    return FinishedBlend(record, oof, prediction, submission, _manifest(record, written, data))


def _nested_table(parts: Sequence[ViewBlend], data: Prepared) -> pa.Table:
    """Return the `oof` of a finished blend, whose rows are sorted by fold, inside a fold in prepared order."""
    names, (row, fold) = data.task.target.names, out_of_fold(data)
    ids, predicted = one_array(data.train["id"]).take(pa.array(row)), np.zeros(len(row), dtype=np.bool_)
    keys = row_keys(ids, fold)
    columns: dict[Quantity, list[Floats]] = {"score": [], "prediction": []}
    for part in parts:
        rows, cells = part.fit.predictions, part.view.cells
        own_keys = row_keys(part.view.row_ids(rows.ids), rows.fold[::cells])
        place = pc.index_in(own_keys, value_set=keys).to_numpy()
        predicted[place] = True
        for own, values in zip(columns.values(), (rows.target, part.fit.tournament.prediction), strict=True):
            own.append(np.full((len(fold), cells), np.nan))
            own[-1][place] = values.reshape(-1, cells)
    table = pa.table({"id": ids.filter(pa.array(predicted)), "fold": pa.array(fold[predicted])})
    for quantity, found in columns.items():
        values = np.column_stack(found)[predicted].astype(np.float32)
        table = with_numbers(table, quantity, values if names else values[:, 0], names)
    return table


def _whole_record(parts: Sequence[ViewBlend], name: str) -> WholeRecord:
    blends, first = tuple(part.record for part in parts), parts[0].record
    if not parts[0].view.name:
        return first
    scores, comparisons = measure_together([part.fit for part in parts], blends, test_groups=parts[0].test_groups)
    return TargetsRecord(
        name=name,
        metric=first.metric,
        data=first.data,
        data_hash=first.data_hash,
        split_hash=first.split_hash,
        version=first.version,
        clip=first.clip,
        targets=tuple(part.view.name for part in parts),
        blends=blends,
        scores=scores,
        comparisons=comparisons,
        submission=None,
    )


def _record(
    fit: BlendFit,
    data: Prepared,
    *,
    name: str,
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
        units="groups" if len(fit.rows.parts) != len(np.unique(fit.predictions.first_fold)) else "folds",
        n_groups=fit.bootstrap.n_groups,
        error_correlations=tuple(tuple(row) for row in errors.tolist()),
        comparisons=compare_with_baselines(fit),
        previous=compare_with_previous(fit, previous) if previous else None,
        scored_rows=_rows_record(settings.score_on, fit.predictions, fit) if chosen else None,
        fitted_rows=_rows_record(settings.fit_on, fit.fitted_on, fit) if chosen else None,
        left_out=fit.predictions.left_out,
        drift=drift,
        notes=notes_about(fit.predictions),
        submission=None,
    )


def _rows_record(chosen: tuple[str, ...], rows: MemberPredictions, fit: BlendFit) -> RowsRecord:
    return RowsRecord(chosen=chosen, rows=len(rows.target) // fit.metric.n_classes)


def _manifest(record: WholeRecord, submission: SubmissionRecord, data: Prepared) -> SubmissionManifest:
    evidence = record.scores["blend"]
    return SubmissionManifest(
        **submission.model_dump(),
        blend=record.name,
        method=record.method,
        metric=record.metric,
        members=record.weights,
        study=tuple(
            dict.fromkeys(base_name(member.run) for one in record.by_target.values() for member in one.members)
        ),
        data_hash=record.data_hash,
        split_hash=record.split_hash,
        scheme=data.manifest.ledger_scheme,
        n_folds=data.manifest.n_folds,
        cv=evidence.in_sample.fold_mean,
        nested=evidence.nested.fold_mean,
        expected=evidence.expected.value if evidence.expected else None,
        version=record.version,
    )
