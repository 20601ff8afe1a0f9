"""From aligned predictions to a fitted blend: members, calibration, weights, evidence, submission."""

import importlib.metadata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import pyarrow.compute as pc

from blend.blend_record import (
    Blend,
    CalibrationRecord,
    CertificateRecord,
    ComparisonRecord,
    EvidenceRecord,
    ExpectationRecord,
    MemberRecord,
    MethodRecord,
    MetricRecord,
    SearchRecord,
    SpreadRecord,
    StepRecord,
    SubmissionRecord,
)
from blend.evidence.baselines import Baseline, best_single, plain_mean
from blend.evidence.expected_test import expect, variance_removed
from blend.evidence.member_influence import drop_costs, error_correlations, weight_spread
from blend.fit.calibration import CALIBRATIONS
from blend.fit.member_selection import MOST_MEMBERS, EliminationStep
from blend.fit.membership import Membership, plan_all, plan_members
from blend.fit.nested_score import measure_prediction, metric_by_fold
from blend.fit.nested_weights import NestedWeights, WeightFitter
from blend.fit.objective import MOMENT_METRICS, PearsonOnMoments
from blend.fit.weight_methods import METHODS, check_method, exact_pearson
from blend.members.member_predictions import MemberPredictions
from blend.members.moment_sums import MomentSums, total
from data_prep.errors import InputError
from data_prep.prepared import Prepared
from data_prep.scoring.combination import Combination, Floats
from data_prep.scoring.group_bootstrap import GroupBootstrap, PairedDifference
from data_prep.scoring.metrics import Metric
from data_prep.store.files import base_name
from data_prep.store.oof_store import UNKNOWN_SPLIT
from data_prep.submission.submission_gate import SubmissionFormat, clip, render_submission
from data_prep.submission.submission_manifest import SUBMISSION_FILE, SubmissionManifest, hash_submission

CHOICES = ("none", "z", "min-max", "z-by-fold", "min-max-by-fold", "isotonic", "isotonic-by-fold")
"""Calibrations that are tried where none is given."""


@dataclass(frozen=True)
class PreviousBlend:
    """A blend that was fitted before."""

    name: str
    prediction: Floats
    """Its nested predictions, [rows], in the order of `MemberPredictions`."""


@dataclass(frozen=True, eq=False)
class FittedBlend:
    """A blend with what belongs to it, not yet written."""

    record: Blend
    nested: Floats
    """Nested predictions, [rows]."""
    prediction: Floats
    """[test rows], as they stand in the submission."""
    submission: bytes
    manifest: SubmissionManifest


def fit_blend(
    predictions: MemberPredictions,
    data: Prepared,
    *,
    method: str,
    name: str,
    calibration: str | None = None,
    choose_members: bool = True,
    most: int = MOST_MEMBERS,
    one_per_family: bool = False,
    clipped: bool = False,
    form: SubmissionFormat | None = None,
    previous: PreviousBlend | None = None,
    seed: int = 0,
) -> FittedBlend:
    """Choose members and calibration, fit weights, gather the evidence, pass the submission gate.

    Args:
        predictions: of all candidates.
        data: the prepared folder.
        method: one of `blend.fit.weight_methods.METHODS`.
        name: of the blend.
        calibration: one of `blend.fit.calibration.CALIBRATIONS`; None: the simplest as good as the best, nested.
        choose_members: whether fewer than all candidates may become members.
        most: members at most.
        one_per_family: every family takes part.
        clipped: move predictions beyond the task's range to the nearest legal score.
        form: of the submission; None: the task's names, the test's order.
        previous: to compare with.
        seed: of the bootstrap.

    Raises:
        InputError: no such method or calibration, the method cannot serve the task's metric, or the gate refuses the
            submission.
    """
    metric = data.task.measure
    check_method(method, metric)
    check_calibration(calibration, method)
    parts = predictions.sums()
    scores = metric_by_fold(predictions, parts, metric)
    plan = (
        plan_members(predictions, parts, scores, metric=metric, most=most, one_per_family=one_per_family, seed=seed)
        if choose_members
        else plan_all(predictions)
    )
    making = _Making(predictions, data, plan, scores, seed)
    return making.blend(
        parts, method=method, calibration=calibration, name=name, clipped=clipped, form=form, previous=previous
    )


def check_calibration(calibration: str | None, method: str) -> None:
    """Refuse a calibration that does not exist or that the method is not meant for.

    Raises:
        InputError: names those that there are.
    """
    if calibration is None:
        return
    if calibration not in CALIBRATIONS:
        raise InputError(f"unknown calibration {calibration!r}; known: {', '.join(CALIBRATIONS)}")
    fixed = METHODS[method].calibration
    if fixed not in (None, calibration):
        raise InputError(f"method {method!r} is the mean of ranks; leave --calibration {calibration} out, or take mean")


class _Making:
    """A blend on its way."""

    def __init__(
        self, predictions: MemberPredictions, data: Prepared, plan: Membership, scores: Floats, seed: int
    ) -> None:
        self.predictions, self.data, self.plan, self.seed = predictions, data, plan, seed
        self.metric: Metric = data.task.measure
        self.scores = scores
        self.utility = scores if self.metric.greater_is_better else -scores
        self.target, self.fold, self.group = predictions.target, predictions.fold, predictions.group
        self.weighing = WeightFitter(predictions, plan, self.metric, self.utility.mean(axis=1))

    @cached_property
    def bootstrap(self) -> GroupBootstrap:
        return GroupBootstrap(self.target, self.fold, self.group, self.metric, seed=self.seed)

    @cached_property
    def test_groups(self) -> int:
        """Groups of the test rows: distinct values of the task's group column, rows where test has none."""
        column = self.data.task.group_column
        has_groups = column is not None and column in self.data.test.column_names
        return int(pc.count_distinct(self.data.test[column]).as_py() if has_groups else self.data.test.num_rows)

    def blend(
        self,
        parts: Sequence[MomentSums],
        *,
        method: str,
        calibration: str | None,
        name: str,
        clipped: bool,
        form: SubmissionFormat | None,
        previous: PreviousBlend | None,
    ) -> FittedBlend:
        """Fit and gather; arguments as for `fit_blend`."""
        predictions, data, plan = self.predictions, self.data, self.plan
        tried = {}
        if calibration is None and METHODS[method].calibration is None:
            tried = self._try_calibrations(method)
            calibration = next((name for name, record in tried.items() if _as_good(record.behind)), CHOICES[0])
        calibration = METHODS[method].calibration or calibration
        assert calibration is not None
        weighed = self.weighing.weigh(method, calibration)
        combination = self.weighing.combination(weighed, calibration)
        rivals = {
            "best_single": best_single(predictions, self.utility),
            "mean": plain_mean(predictions, parts),
        }
        prediction = combination.predict([predictions.columns[member].test for member in plan.members])
        n_clipped = 0
        if clipped:
            prediction, n_clipped = clip(prediction, data.task)
        ids = data.test["id"].to_pylist()
        submission = render_submission(ids, prediction, expected=ids, task=data.task, form=form)
        record = Blend(
            name=name,
            method=method,
            calibration=calibration,
            metric=self.metric.name,
            data=data.path,
            data_hash=data.manifest.data_hash,
            split_hash=data.manifest.split_hash,
            mixed_splits=any(m.split_hash != data.manifest.split_hash for m in predictions.members),
            version=importlib.metadata.version("blendfold"),
            seed=self.seed,
            members=self._members(weighed, calibration),
            combination=combination,
            clip=clipped,
            search=SearchRecord(
                converged=weighed.fit.converged, evaluations=weighed.fit.evaluations, restarts=weighed.fit.restarts
            ),
            certificate=self._certify(method, calibration),
            scores={
                "blend": self._evidence(combination, plan.members, weighed.prediction, weighed.held.prediction),
                **{
                    key: self._evidence(rival.combination, rival.members, rival.prediction, rival.held)
                    for key, rival in rivals.items()
                },
            },
            methods=self._methods(method, calibration),
            calibrations=tried,
            path=tuple(_step(step) for step in plan.path),
            error_correlations=tuple(
                tuple(row) for row in error_correlations(total(parts).of(plan.members).centred).tolist()
            ),
            comparisons=self._comparisons(weighed, rivals),
            previous=self._against(previous, weighed) if previous else None,
            left_out=(*predictions.left_out, *self._merged()),
            notes=predictions.notes,
            submission=SubmissionRecord(
                file=SUBMISSION_FILE, sha256=hash_submission(submission), rows=len(ids), clipped=n_clipped
            ),
        )
        return FittedBlend(record, weighed.held.prediction, prediction, submission, _manifest(record, data))

    def _try_calibrations(self, method: str) -> dict[str, CalibrationRecord]:
        """Return each calibration's nested score, by the method itself or, where that is slow, by exact weights."""
        quick = "nnls" if method == "nelder-mead" else method
        held = {}
        for name in CHOICES:
            held[name] = self.weighing.weigh(quick, name).held.prediction
        return {
            name: CalibrationRecord(nested=self._score(held[name]), behind=behind)
            for name, behind in self._behind(held).items()
        }

    def _methods(self, method: str, calibration: str) -> dict[str, MethodRecord]:
        """Return every method beside the one that was asked for, with the same members."""
        shown = [name for name, entry in METHODS.items() if name == method or not entry.free_sign]
        if self.metric.name not in MOMENT_METRICS:
            shown = [name for name in shown if name == method or name not in ("nnls", "nelder-mead")]
        used = {
            name: METHODS[name].calibration or (calibration if calibration != "rank" else "z") for name in shown
        } | {method: calibration}
        weighed = {name: self.weighing.weigh(name, used[name]) for name in shown}
        behind = self._behind({name: entry.held.prediction for name, entry in weighed.items()})
        return {
            name: MethodRecord(
                calibration=used[name],
                in_sample=self._score(entry.prediction),
                nested=self._score(entry.held.prediction),
                behind=behind[name],
            )
            for name, entry in weighed.items()
            if name in behind
        }

    def _behind(self, held: dict[str, Floats]) -> dict[str, ComparisonRecord]:
        """Return each prediction against the best of them; those without a score, being constant, not at all."""
        draws = self.bootstrap.draws(np.column_stack(list(held.values())))
        scored = {name: place for place, name in enumerate(held) if np.isfinite(draws.value[place])}
        if not scored:
            return {}
        best = max(scored, key=lambda name: draws.value[scored[name]])
        return {name: _comparison(best, draws.difference(place, scored[best])) for name, place in scored.items()}

    def _evidence(
        self, combination: Combination, members: Sequence[int], prediction: Floats, held: Floats
    ) -> EvidenceRecord:
        truth, columns = self.predictions.holdout_target, [self.predictions.columns[m].holdout for m in members]
        known = truth is not None and all(columns)
        holdout = self.metric(truth, combination.predict(columns)) if truth is not None and known else None
        expected = expect(
            held,
            variance_removed(self._fold_models(combination, members)),
            target=self.target,
            group=self.group,
            metric=self.metric,
            test_groups=self.test_groups,
            seed=self.seed,
        )
        return EvidenceRecord(
            in_sample=self._score(prediction),
            nested=self._score(held),
            expected=ExpectationRecord(**asdict(expected)) if expected else None,
            holdout=holdout,
        )

    def _fold_models(self, combination: Combination, members: Sequence[int]) -> list[Floats]:
        """Return, for each split, what its members contribute for test rows by fold model, [folds, test rows]."""
        splits: dict[str, Floats] = {}
        for member, part in zip(members, combination.parts, strict=True):
            columns = self.predictions.columns[member].test
            share = combination.slope * part.weight
            scaled = np.stack([share * part.scaled(place, column) for place, column in enumerate(columns)])
            split = self.predictions.members[member].split_hash
            key = f"{split} {len(columns)}" if split != UNKNOWN_SPLIT else f"{split} {member}"
            splits[key] = splits[key] + scaled if key in splits else scaled
        return list(splits.values())

    def _members(self, weighed: NestedWeights, calibration: str) -> tuple[MemberRecord, ...]:
        scaled, places = self.weighing.scaled(calibration), self.weighing.places
        spreads = weight_spread(scaled.columns[:, places], self.target, self.group, seed=self.seed)
        costs: Sequence[PairedDifference | None] = [None]
        if len(places) > 1:
            costs = drop_costs(
                scaled, places, self.target, self.fold, group=self.group, metric=self.metric, seed=self.seed
            )
        records = []
        for number, (index, place) in enumerate(zip(self.plan.members, places, strict=True)):
            member, cost = self.predictions.members[index], costs[number]
            records.append(
                MemberRecord(
                    candidate=member.candidate,
                    label=member.label,
                    family=member.family,
                    run=member.run,
                    weight=float(weighed.fit.weights[number]),
                    fold_mean=float(self.scores[index].mean()),
                    pooled=self.metric(self.target, self.weighing.raw[:, place]),
                    nested_weights=tuple(weighed.held.weights[:, place].tolist()),
                    resampled=SpreadRecord(**asdict(spreads[number])),
                    drop_cost=None if cost is None else _comparison("the members without it", cost),
                    retried=member.retried,
                )
            )
        return tuple(records)

    def _certify(self, method: str, calibration: str) -> CertificateRecord | None:
        if self.metric.name not in MOMENT_METRICS or METHODS[method].free_sign:
            return None
        objective = PearsonOnMoments(self.weighing.scaled(calibration).sums()).of(self.weighing.places)
        value = objective(self.weighing.weigh(method, calibration).fit.weights)
        exact = exact_pearson(objective).utility
        return CertificateRecord(pearson=value, exact=exact, gap=exact - value)

    def _comparisons(self, weighed: NestedWeights, rivals: dict[str, Baseline]) -> tuple[ComparisonRecord, ...]:
        columns = {
            "best member": rivals["best_single"].prediction,
            "best member, picked without the scored fold": rivals["best_single"].held,
            "mean": rivals["mean"].held,
        }
        draws = self.bootstrap.draws(np.column_stack([weighed.held.prediction, *columns.values()]))
        return tuple(_comparison(against, draws.difference(0, place)) for place, against in enumerate(columns, start=1))

    def _against(self, previous: PreviousBlend, weighed: NestedWeights) -> ComparisonRecord:
        return _comparison(previous.name, self.bootstrap.compare(weighed.held.prediction, previous.prediction))

    def _merged(self) -> list[str]:
        members = self.predictions.members
        return [
            f"{members[entry.candidate].candidate} {members[entry.candidate].label}: predicts nearly the same as "
            f"{members[entry.kept].candidate} {members[entry.kept].label} (r {entry.correlation:.4f})"
            for entry in self.plan.merged
        ]

    def _score(self, prediction: Floats) -> MetricRecord:
        return MetricRecord(**asdict(measure_prediction(prediction, self.target, self.fold, self.metric)))


def _manifest(record: Blend, data: Prepared) -> SubmissionManifest:
    evidence = record.scores["blend"]
    return SubmissionManifest(
        **record.submission.model_dump(),
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


def _comparison(against: str, found: PairedDifference) -> ComparisonRecord:
    return ComparisonRecord(
        against=against,
        difference=found.value,
        standard_error=found.standard_error,
        low=found.low,
        high=found.high,
        is_noise=found.is_noise,
    )


def _step(step: EliminationStep) -> StepRecord:
    return StepRecord(
        n_members=step.n_members, score=step.value, behind=step.behind, standard_error=step.standard_error
    )


def _as_good(behind: ComparisonRecord) -> bool:
    """Tell whether something is within one standard error of the best."""
    return -behind.difference <= behind.standard_error
