"""How good one way to predict is: in-sample, nested, on holdout rows, and what to expect on test rows."""

from collections.abc import Sequence

import numpy as np
import pyarrow.compute as pc

from blend.blend_record import EvidenceRecord
from blend.evidence.comparisons import metric_record
from blend.evidence.expected_test import expect, variance_removed
from blend.fit.fit_blend import BlendFit, baselines_of
from blend.fit.makings import Formula
from data_prep.prepared import Prepared
from data_prep.scoring.combination import Combination, Floats
from data_prep.store.oof_store import UNKNOWN_SPLIT


def measure_blend_and_baselines(fit: BlendFit, data: Prepared) -> dict[str, EvidenceRecord]:
    """Return the evidence for the blend and for each baseline."""
    test_groups, played = count_test_groups(data), fit.tournament
    found = {"blend": _measure(fit, fit.formula, played.prediction, test_groups)}
    for name, baseline in zip(("best_single", "mean"), baselines_of(fit.metric), strict=True):
        place = played.names.index(baseline.name)
        found[name] = _measure(fit, played.formulas[place], played.nested[:, place], test_groups)
    return found


def count_test_groups(data: Prepared) -> int:
    """Return the number of groups of the test rows; of rows, where the folder does not have them."""
    group = data.test_group
    return data.test.num_rows // data.task.measure.n_classes if group is None else int(pc.count_distinct(group).as_py())


def _measure(fit: BlendFit, formula: Formula, nested: Floats, test_groups: int) -> EvidenceRecord:
    combination, members = fit.combination_of(formula), [fit.pool[place] for place in formula.members]
    expected = expect(
        nested,
        variance_removed(_fold_models(fit, combination, members)),
        target=fit.predictions.target,
        group=fit.predictions.group,
        metric=fit.metric,
        test_groups=test_groups,
        seed=fit.settings.seed,
    )
    return EvidenceRecord(
        in_sample=metric_record(fit, formula.predict(fit.rows.features)),
        nested=metric_record(fit, nested),
        expected=expected,
        holdout=_holdout_value(fit, combination, members),
    )


def _holdout_value(fit: BlendFit, combination: Combination, members: Sequence[int]) -> float | None:
    """Return the metric on holdout rows; None where there are none, or a member has no predictions for them."""
    target, columns = fit.predictions.holdout_target, [fit.predictions.columns[member].holdout for member in members]
    if target is None or not all(columns):
        return None
    return fit.metric(target, combination.predict(columns, fit.predictions.numeric.holdout))


def _fold_models(fit: BlendFit, combination: Combination, members: Sequence[int]) -> list[Floats]:
    """Return, for each split, what its members contribute for test rows by fold model, [folds, test rows].

    A member with one test column is a fold model of its own, whatever its split: nothing averages out there.
    Of a stacked blend, its linear part: what its trees do to the fold models' differences is not counted.
    """
    splits: dict[str, Floats] = {}
    for member, part in zip(members, combination.parts, strict=True):
        if not (columns := fit.predictions.columns[member].test):
            continue
        share = combination.slope * part.weight
        scaled = np.stack([share * part.scaled(place, column) for place, column in enumerate(columns)])
        split = fit.predictions.members[member].split_hash
        key = f"{split} {len(columns)}" if split != UNKNOWN_SPLIT else f"{split} {member}"
        splits[key] = splits[key] + scaled if key in splits else scaled
    return list(splits.values())
