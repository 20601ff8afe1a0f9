"""Calibrations: ways to bring members onto one scale before weighting, fitted on out-of-fold rows only.

A calibration fits a `Scaling` for each member: one for all folds (pooled), or one for each fold's model, since folds
drift in scale. Test predictions of the fold models pass through the same scalings before their mean is taken.
Fitted weights can undo a pooled line but not one for each fold; equal or greedy weights can undo neither.

A curve fitted on a row's own target would make that row look too good. So where targets are used, out-of-fold columns
are cross-fitted: a pooled curve leaves out the row's fold, a fold's own curve the half of the fold's groups that the
row is in. While a fold is held out, its targets are used for no curve but its own, which test rows have too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blend.members.moment_sums import MomentSums, measure
from data_prep.scoring.combination import Floats, Scaling

RANKS = 512
"""Steps of the curve that turns predictions into ranks."""

FitScaling = Callable[[Floats, Floats], Scaling]
"""From out-of-fold predictions [rows] and targets [rows]."""


def keep_unchanged(prediction: Floats, target: Floats) -> Scaling:  # noqa: ARG001 - the registry's signature
    """Keep predictions unchanged."""
    return Scaling()


def standardise(prediction: Floats, target: Floats) -> Scaling:  # noqa: ARG001
    """Mean 0, standard deviation 1."""
    return _line(float(prediction.mean()), float(prediction.std()))


def min_max(prediction: Floats, target: Floats) -> Scaling:  # noqa: ARG001
    """Smallest prediction 0, largest 1."""
    return _line(float(prediction.min()), float(np.ptp(prediction)))


def rank(prediction: Floats, target: Floats) -> Scaling:  # noqa: ARG001
    """The share of out-of-fold predictions that are lower, in [0, 1]; equal ones count half."""
    values, counts = np.unique(prediction, return_counts=True)
    shares = (np.cumsum(counts) - counts / 2) / len(prediction)
    if len(values) > RANKS:
        knots = np.quantile(values, np.linspace(0.0, 1.0, RANKS))
        knots = np.unique(np.concatenate([knots, np.quantile(prediction, np.linspace(0.0, 1.0, RANKS))]))
        values, shares = knots, np.interp(knots, values, shares)
    return Scaling(x=tuple(values.tolist()), y=tuple(shares.tolist()))


def isotonic(prediction: Floats, target: Floats) -> Scaling:
    """The monotone curve with the least squared error (isotonic regression; Zadrozny and Elkan 2002)."""
    from scipy.optimize import isotonic_regression  # noqa: PLC0415 - slow to import

    values, place, counts = np.unique(prediction, return_inverse=True, return_counts=True)
    means = np.bincount(place, weights=target) / counts
    level = isotonic_regression(means, weights=counts).x
    ends = np.ones(len(level), dtype=np.bool_)  # ends of flat stretches: the knots of the curve
    ends[1:-1] = (level[1:-1] != level[:-2]) | (level[1:-1] != level[2:])
    return Scaling(x=tuple(values[ends].tolist()), y=tuple(level[ends].tolist()))


def _line(center: float, spread: float) -> Scaling:
    return Scaling(center=center, scale=spread if spread > 1e-12 * abs(center) else 1.0)


@dataclass(frozen=True)
class Calibration:
    """A way to bring members onto one scale."""

    fit: FitScaling
    per_fold: bool
    """Whether each fold's model has its own scaling."""
    uses_target: bool
    """Whether scalings are fitted on targets."""

    def scalings(self, prediction: Floats, target: Floats, own_fold: NDArray[np.int8]) -> tuple[Scaling, ...]:
        """Return a candidate's scalings for test predictions, one or one per fold, from out-of-fold values [rows]."""
        if not self.per_fold:
            return (self.fit(prediction, target),)
        masks = [own_fold == k for k in np.unique(own_fold)]
        return tuple(self.fit(prediction[mask], target[mask]) for mask in masks)


CALIBRATIONS: dict[str, Calibration] = {
    "none": Calibration(keep_unchanged, per_fold=False, uses_target=False),
    "z": Calibration(standardise, per_fold=False, uses_target=False),
    "min-max": Calibration(min_max, per_fold=False, uses_target=False),
    "rank": Calibration(rank, per_fold=False, uses_target=False),
    "z-by-fold": Calibration(standardise, per_fold=True, uses_target=False),
    "min-max-by-fold": Calibration(min_max, per_fold=True, uses_target=False),
    "isotonic": Calibration(isotonic, per_fold=False, uses_target=True),
    "isotonic-by-fold": Calibration(isotonic, per_fold=True, uses_target=True),
}
"""By name, the simplest first: the first of equals is chosen."""


class ScaledColumns:
    """Out-of-fold predictions `raw` [rows, members] on one scale; `fold` and each member's `own_folds` are [rows]."""

    def __init__(
        self,
        raw: Floats,
        target: Floats,
        fold: NDArray[np.int8],
        *,
        group: NDArray[np.int32],
        own_folds: Sequence[NDArray[np.int8]],
        calibration: Calibration,
    ) -> None:
        self._raw, self._target, self._fold, self._group = raw, target, fold, group
        self._own_folds, self._calibration = own_folds, calibration
        self._kept: dict[int | None, Floats] = {}
        self._sums: dict[int | None, tuple[MomentSums, ...]] = {}

    @property
    def columns(self) -> Floats:
        """[rows, members], every row scaled without its own target."""
        return self._scaled_once(None)

    def without(self, fold: int) -> Floats:
        """Return [rows, members] for weights that are fitted without `fold` and applied to it."""
        return self._scaled_once(self._held_out(fold))

    def sums(self, without: int | None = None) -> tuple[MomentSums, ...]:
        """Return the sums of each fold, folds ascending, over `columns`, or over those `without` a fold."""
        held_out = None if without is None else self._held_out(without)
        if held_out not in self._sums:
            columns, masks = self._scaled_once(held_out), [self._fold == k for k in np.unique(self._fold)]
            self._sums[held_out] = tuple(measure(columns[rows], self._target[rows]) for rows in masks)
        return self._sums[held_out]

    def _held_out(self, fold: int) -> int | None:
        """Return the key of the columns without a fold: only with pooled curves do they differ from fold to fold."""
        pooled_curve = self._calibration.uses_target and not self._calibration.per_fold
        return fold if pooled_curve else None

    def _scaled_once(self, held_out: int | None) -> Floats:
        if held_out not in self._kept:
            self._kept[held_out] = self._scaled(held_out)
        return self._kept[held_out]

    def _scaled(self, held_out: int | None) -> Floats:
        scaled = np.empty(self._raw.shape)
        for member, own_fold in enumerate(self._own_folds):
            scaled[:, member] = self._column(self._raw[:, member], own_fold, held_out)
        return scaled

    def _column(self, prediction: Floats, own_fold: NDArray[np.int8], held_out: int | None) -> Floats:
        calibration, target = self._calibration, self._target
        if not calibration.uses_target:
            whole = np.ones(len(target), dtype=np.bool_)
            parts = [own_fold == k for k in np.unique(own_fold)] if calibration.per_fold else [whole]
            return _cross_fitted(prediction, target, [(part, part) for part in parts], calibration.fit)
        if calibration.per_fold:
            parts = [own_fold == k for k in np.unique(own_fold)]
            halves = [half for part in parts for half in _halves(part, self._group)]
            pairs = [(halves[place], halves[place ^ 1]) for place in range(len(halves))]
            return _cross_fitted(prediction, target, pairs, calibration.fit)
        folds = np.unique(self._fold)
        pairs = [(self._fold == k, ~np.isin(self._fold, [k, k if held_out is None else held_out])) for k in folds]
        return _cross_fitted(prediction, target, pairs, calibration.fit)


def _halves(part: NDArray[np.bool_], group: NDArray[np.int32]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return two halves of some rows, alternating by group."""
    place = np.searchsorted(np.unique(group[part]), group)
    return part & (place % 2 == 0), part & (place % 2 == 1)


def _cross_fitted(
    prediction: Floats, target: Floats, pairs: Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]], fit: FitScaling
) -> Floats:
    """Return scaled predictions [rows]; a pair: rows to scale, rows to fit on (all but the former if none)."""
    scaled = np.empty_like(prediction)
    for rows, known in pairs:
        if rows.any():
            fitted = known if known.any() else ~rows
            scaled[rows] = fit(prediction[fitted], target[fitted])(prediction[rows])
    return scaled
