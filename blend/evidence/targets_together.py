"""How good the blends of several targets are together: means over the targets, with groups drawn for all of them."""

from collections.abc import Sequence

import numpy as np

from blend.blend_record import BlendRecord, ComparisonRecord, EvidenceRecord, ExpectationRecord, MetricRecord
from blend.evidence.comparisons import comparison
from blend.evidence.expected_test import expectation
from blend.fit.fit_blend import BlendFit, baselines_of
from data_prep.scoring.group_bootstrap import DrawnUtilities, GroupBootstrap


def measure_together(
    fits: Sequence[BlendFit], blends: Sequence[BlendRecord], *, test_groups: int
) -> tuple[dict[str, EvidenceRecord], tuple[ComparisonRecord, ...]]:
    """Return the evidence for all targets together, and what the blends gain over simpler predictions."""
    draws = _draws(fits)
    scores = {
        name: _mean_evidence([blend.scores[name] for blend in blends], draws, place, fits[0], test_groups)
        for place, name in enumerate(blends[0].scores)
    }
    names = [entry.against for entry in blends[0].comparisons]
    return scores, tuple(comparison(name, draws.difference(0, 1 + place)) for place, name in enumerate(names))


def _draws(fits: Sequence[BlendFit]) -> DrawnUtilities:
    """Return the mean utility over targets, and in each draw, of the nested blends and of each baseline."""
    ways = []
    for fit in fits:
        places = [fit.tournament.names.index(baseline.name) for baseline in baselines_of(fit.metric)]
        ways.append(np.column_stack([fit.tournament.prediction, fit.tournament.nested[:, places]]))
    rows = [fit.predictions for fit in fits]
    target_number = np.repeat(np.arange(len(fits), dtype=np.int8), [len(way) for way in ways])
    target, group = np.concatenate([of.target for of in rows]), np.concatenate([of.group for of in rows])
    bootstrap = GroupBootstrap(target, target_number, group, fits[0].metric, seed=fits[0].settings.seed)
    return bootstrap.draws(np.concatenate(ways))


def _mean_evidence(
    found: Sequence[EvidenceRecord], draws: DrawnUtilities, place: int, fit: BlendFit, test_groups: int
) -> EvidenceRecord:
    of_tests = [evidence.expected for evidence in found if evidence.expected is not None]
    holdouts = [evidence.holdout for evidence in found if evidence.holdout is not None]
    return EvidenceRecord(
        in_sample=_mean_metric([evidence.in_sample for evidence in found]),
        nested=_mean_metric([evidence.nested for evidence in found]),
        expected=_mean_expectation(of_tests, draws, place, fit, test_groups) if len(of_tests) == len(found) else None,
        holdout=float(np.mean(holdouts)) if len(holdouts) == len(found) else None,
    )


def _mean_expectation(
    found: Sequence[ExpectationRecord], draws: DrawnUtilities, place: int, fit: BlendFit, test_groups: int
) -> ExpectationRecord:
    own = DrawnUtilities(draws.value[place:], draws.drawn[place:], draws.n_groups)
    return expectation(
        float(np.mean([one.value for one in found])),
        own,
        fit.metric,
        test_groups=test_groups,
        averaged_out=float(np.mean([one.averaged_out for one in found])),
    )


def _mean_metric(found: Sequence[MetricRecord]) -> MetricRecord:
    """Return the means over targets; by fold where all targets are scored in as many."""
    alike = len({len(one.folds) for one in found}) == 1
    return MetricRecord(
        fold_mean=float(np.mean([one.fold_mean for one in found])),
        pooled=float(np.mean([one.pooled for one in found])),
        folds=tuple(np.mean([one.folds for one in found], axis=0).tolist()) if alike else (),
    )
