"""The members as the record keeps them: weights and their spread, what each adds, and what to know of them."""

from collections.abc import Sequence

from blend.blend_record import CertificateRecord, MemberRecord
from blend.evidence.comparisons import comparison
from blend.evidence.member_influence import drop_costs, weight_spread
from blend.fit.fit_blend import BlendFit
from blend.fit.objective import MOMENT_METRICS, PearsonOnMoments
from blend.fit.weight_methods import METHODS, exact_pearson
from blend.members.member_predictions import MemberPredictions
from data_prep.scoring.group_bootstrap import PairedDifference
from data_prep.store.oof_store import UNKNOWN_SPLIT
from data_prep.wording import count


def member_records(fit: BlendFit) -> tuple[MemberRecord, ...]:
    """Return every member with its weight and what it adds to the blend."""
    rows, places, weights = fit.predictions, fit.fitter.places, fit.weights
    scaled = fit.fitter.scaled(fit.calibration)
    spreads = weight_spread(scaled.columns[:, places], rows.target, rows.group, seed=fit.settings.seed)
    costs: Sequence[PairedDifference | None] = [None]
    if len(places) > 1:
        costs = drop_costs(
            scaled, places, rows.target, rows.fold, group=rows.group, metric=fit.metric, seed=fit.settings.seed
        )
    records = []
    for number, (index, place) in enumerate(zip(fit.membership.members, places, strict=True)):
        member, cost = rows.members[index], costs[number]
        records.append(
            MemberRecord(
                candidate=member.candidate,
                label=member.label,
                family=member.family,
                run=member.run,
                weight=float(weights.fit.weights[number]),
                fold_mean=float(fit.values[index].mean()),
                pooled=fit.metric(rows.target, fit.fitter.raw[:, place]),
                nested_weights=tuple(weights.held_out.weights[:, place].tolist()),
                resampled=spreads[number],
                drop_cost=None if cost is None else comparison("the members without it", cost),
                retried=member.retried,
            )
        )
    return tuple(records)


def certify(fit: BlendFit) -> CertificateRecord | None:
    """Return how near the weights are to the exact optimum; None where there is no exact optimum to compare with."""
    if fit.metric.name not in MOMENT_METRICS or METHODS[fit.settings.method].free_sign:
        return None
    objective = PearsonOnMoments(fit.fitter.scaled(fit.calibration).sums()).of(fit.fitter.places)
    value = objective(fit.weights.fit.weights)
    exact = exact_pearson(objective).utility
    return CertificateRecord(pearson=value, exact=exact, gap=exact - value)


def left_out(fit: BlendFit) -> tuple[str, ...]:
    """Return one sentence for each candidate that could not be a member, or that another one stands for."""
    members = fit.predictions.members
    merged = [
        f"{members[entry.candidate].candidate} {members[entry.candidate].label}: predicts nearly the same as "
        f"{members[entry.kept].candidate} {members[entry.kept].label} (r {entry.correlation:.4f})"
        for entry in fit.membership.merged
    ]
    return (*fit.predictions.left_out, *merged)


def notes_about(predictions: MemberPredictions) -> tuple[str, ...]:
    """Return what a person should know about the candidates, one sentence each."""
    notes = []
    if unknown := [member.label for member in predictions.members if member.split_hash == UNKNOWN_SPLIT]:
        notes.append(
            f"split unknown of {count(len(unknown), 'candidate')} ({', '.join(unknown)}): rows may have been "
            "trained on by the model that predicts them; nested scores can flatter"
        )
    named = {member.split_hash for member in predictions.members} - {UNKNOWN_SPLIT}
    if len(named) > 1:
        notes.append(f"candidates of {len(named)} splits: rows may have been trained on; nested scores can flatter")
    pairs = zip(predictions.members, predictions.columns, strict=True)
    lacking = [member.label for member, columns in pairs if not columns.holdout]
    if lacking and predictions.holdout_target is not None:
        notes.append(f"no holdout score with {', '.join(lacking)}: no predictions for the holdout")
    return tuple(notes)
