"""The members as the record keeps them: weights and their spread, what each adds, and what to know of them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from blend.blend_record import CertificateRecord, MemberRecord
from blend.evidence.comparisons import comparison
from blend.evidence.member_influence import drop_costs, weight_spread
from blend.fit.fit_blend import BlendFit
from blend.fit.objective import MOMENT_METRICS, MetricOnMoments, Readout
from blend.fit.weight_methods import exact
from blend.members.member_predictions import MemberPredictions
from data_prep.scoring.group_bootstrap import PairedDifference
from data_prep.store.oof_store import UNKNOWN_SPLIT
from data_prep.wording import count

MOST_DROPPED = 12
"""With more members, it would take too long to make the blend again without each."""
SHOWN = 3
"""So many candidates are named in a note."""


def member_records(fit: BlendFit) -> tuple[MemberRecord, ...]:
    """Return every member with its weight and what it adds to the blend."""
    rows, formula, chosen = fit.predictions, fit.formula, fit.tournament.chosen
    apart = [unit[chosen] for unit in fit.tournament.without]
    nested = [dict(zip(f.members.tolist(), f.search.weights.tolist(), strict=True)) for f in apart]
    fitted, columns = fit.fitted_on, fit.rows.fitted.columns[:, formula.members]
    spreads = weight_spread(columns, fitted.target, fitted.group, seed=fit.settings.seed)
    costs: Sequence[PairedDifference | None] = [None] * len(formula.members)
    if 1 < len(formula.members) <= MOST_DROPPED:
        making = fit.alone
        if fit.metric.name in MOMENT_METRICS and making.method == "nelder-mead":
            making = replace(making, method="nnls")  # the same weights, at once
        costs = drop_costs(fit.rows, making, formula.members.tolist(), fit.bootstrap)
    records = []
    for number, place in enumerate(formula.members.tolist()):
        member, cost, column = rows.members[fit.pool[place]], costs[number], fit.rows.columns[:, place]
        records.append(
            MemberRecord(
                candidate=member.candidate,
                label=member.label,
                family=member.family,
                run=member.run,
                weight=float(formula.search.weights[number]),
                fold_mean=float(np.mean([fit.metric(rows.target[fold], column[fold]) for fold in rows.folds])),
                pooled=fit.metric(rows.target, column),
                nested_weights=tuple(weights.get(place, 0.0) for weights in nested),
                resampled=spreads[number],
                drop_cost=None if cost is None else comparison("the members without it", cost),
                retried=member.retried,
            )
        )
    return tuple(records)


def certify(fit: BlendFit) -> CertificateRecord | None:
    """Return how near the weights are to the exact optimum; None where there is no exact optimum to compare with."""
    if "nelder-mead+line" not in fit.tournament.names or fit.metric.name not in MOMENT_METRICS:
        return None
    formula = fit.tournament.formulas[fit.tournament.names.index("nelder-mead+line")]
    objective = MetricOnMoments(fit.rows.fitted.parts, Readout.LINE).of(formula.members.tolist())
    value, best = objective(formula.search.weights), objective(exact(objective).weights)
    return CertificateRecord(pearson=value, exact=best, gap=best - value)


def notes_about(predictions: MemberPredictions) -> tuple[str, ...]:
    """Return what a person should know about the candidates, one sentence each."""
    notes = []
    if unknown := [member.label for member in predictions.members if member.split_hash == UNKNOWN_SPLIT]:
        shown = ", ".join(unknown[:SHOWN]) + (", ..." if len(unknown) > SHOWN else "")
        notes.append(
            f"split unknown of {count(len(unknown), 'candidate')} ({shown}): rows may have been "
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
