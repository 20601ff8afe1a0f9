"""Which calibration a blend uses: of those tried, the simplest within one standard error of the best."""

from blend.fit.nested_ranking import NestedRanking, rank_nested
from blend.fit.nested_weights import WeightFitter
from data_prep.scoring.group_bootstrap import GroupBootstrap

CHOICES = ("none", "z", "min-max", "z-by-fold", "min-max-by-fold", "isotonic", "isotonic-by-fold")
"""Calibrations that are tried where none is given, the simplest first."""


def choose_calibration(fitter: WeightFitter, method: str, bootstrap: GroupBootstrap) -> tuple[str, NestedRanking]:
    """Return the calibration to use and how `CHOICES` compare, nested with the method or, if slow, exact weights."""
    quick = "nnls" if method == "nelder-mead" else method
    tried = rank_nested({name: fitter.fit(quick, name).held_out.prediction for name in CHOICES}, bootstrap)
    close = [name for name, behind in tried.behind.items() if -behind.value <= behind.standard_error]
    return (close or CHOICES)[0], tried
