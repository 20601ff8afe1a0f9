"""`fit_blend`: choose members, choose a calibration, fit weights."""

from dataclasses import dataclass

from blend.fit.blend_settings import BlendSettings
from blend.fit.calibration_choice import choose_calibration
from blend.fit.membership import Membership, choose_membership, everyone_is_member
from blend.fit.nested_ranking import NestedRanking
from blend.fit.nested_score import metric_by_fold
from blend.fit.nested_weights import NestedWeights, WeightFitter
from blend.fit.weight_methods import METHODS
from blend.members.member_predictions import MemberPredictions
from blend.members.moment_sums import MomentSums
from data_prep.scoring.combination import Combination, Floats
from data_prep.scoring.group_bootstrap import GroupBootstrap
from data_prep.scoring.metrics import Metric


@dataclass(frozen=True, eq=False)
class BlendFit:
    """A fitted blend, with everything that it was chosen from."""

    settings: BlendSettings
    metric: Metric
    predictions: MemberPredictions
    """Of all candidates."""
    sums: tuple[MomentSums, ...]
    """Of all candidates, for each fold."""
    values: Floats
    """The metric of each candidate on each fold, [candidates, folds]."""
    bootstrap: GroupBootstrap
    """Draws groups of all rows; the metric is a mean over folds."""
    membership: Membership
    fitter: WeightFitter
    """Fits other methods and calibrations to the same members."""
    calibration: str
    tried: NestedRanking | None
    """The calibrations that `calibration` was chosen from; None where it was given."""
    weights: NestedWeights
    combination: Combination
    """The blend as arithmetic; parts in the order of the members."""

    @property
    def utility(self) -> Floats:
        """`values` where more is better, [candidates, folds]."""
        return self.values if self.metric.greater_is_better else -self.values


def fit_blend(predictions: MemberPredictions, metric: Metric, settings: BlendSettings) -> BlendFit:
    """Fit a blend of given candidates; InputError if method or calibration is unknown or does not suit the metric."""
    settings.check(metric)
    sums = predictions.sums()
    values = metric_by_fold(predictions, sums, metric)
    utility = values if metric.greater_is_better else -values
    membership = (
        choose_membership(predictions, sums, utility, metric, settings)
        if settings.choose_members
        else everyone_is_member(predictions)
    )
    fitter = WeightFitter(predictions, membership, metric, utility.mean(axis=1))
    bootstrap = GroupBootstrap(predictions.target, predictions.fold, predictions.group, metric, seed=settings.seed)
    calibration, tried = METHODS[settings.method].calibration or settings.calibration, None
    if calibration is None:
        calibration, tried = choose_calibration(fitter, settings.method, bootstrap)
    weights = fitter.fit(settings.method, calibration)
    return BlendFit(
        settings=settings,
        metric=metric,
        predictions=predictions,
        sums=sums,
        values=values,
        bootstrap=bootstrap,
        membership=membership,
        fitter=fitter,
        calibration=calibration,
        tried=tried,
        weights=weights,
        combination=fitter.combination(weights, calibration),
    )
