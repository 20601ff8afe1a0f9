"""Ways to bring members onto one scale before they are weighed, with statistics from out-of-fold rows only.

A calibration measures a `Scaling` for each member: one for all folds (pooled), or one for the model of each fold, since
folds drift in scale. The same scalings are applied to what the fold models predict for test rows, before the mean over
folds is taken. Standardising and min-max are straight lines, which fitted weights can make up for (pooled, not for
each fold); they count for equal weights and greedy ones. `isotonic` learns the shape of the relation to the score.

A curve that was fitted on a row's own score would flatter that row. So where scores are used, out-of-fold columns are
cross-fitted: a pooled curve leaves the row's fold out, a fold's own curve the half of the fold's groups that the row is
in. And while a fold is held out to be scored, its scores are used for no curve that others or itself pass through, the
own curves of the fold apart, which test rows will have, too.
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
"""From out-of-fold predictions [rows] and scores [rows]."""


def leave(prediction: Floats, target: Floats) -> Scaling:  # noqa: ARG001 - the registry's signature
    """Take predictions as they are."""
    return Scaling()


def standardise(prediction: Floats, target: Floats) -> Scaling:  # noqa: ARG001
    """Mean 0, standard deviation 1."""
    return _line(float(prediction.mean()), float(prediction.std()))


def stretch(prediction: Floats, target: Floats) -> Scaling:  # noqa: ARG001
    """Least prediction 0, greatest 1."""
    return _line(float(prediction.min()), float(np.ptp(prediction)))


def rank(prediction: Floats, target: Floats) -> Scaling:  # noqa: ARG001
    """Share of out-of-fold predictions below, in [0, 1]; equal ones count half."""
    values, counts = np.unique(prediction, return_counts=True)
    shares = (np.cumsum(counts) - counts / 2) / len(prediction)
    if len(values) > RANKS:
        knots = np.quantile(values, np.linspace(0.0, 1.0, RANKS))
        knots = np.unique(np.concatenate([knots, np.quantile(prediction, np.linspace(0.0, 1.0, RANKS))]))
        values, shares = knots, np.interp(knots, values, shares)
    return Scaling(x=tuple(values.tolist()), y=tuple(shares.tolist()))


def follow(prediction: Floats, target: Floats) -> Scaling:
    """The monotone curve with the least squared error (isotonic regression; Zadrozny and Elkan 2002)."""
    from scipy.optimize import isotonic_regression  # noqa: PLC0415 - slow to import

    values, place, counts = np.unique(prediction, return_inverse=True, return_counts=True)
    means = np.bincount(place, weights=target) / counts
    level = isotonic_regression(means, weights=counts).x
    ends = np.ones(len(level), dtype=np.bool_)  # of stretches of one level, all that a curve needs
    ends[1:-1] = (level[1:-1] != level[:-2]) | (level[1:-1] != level[2:])
    return Scaling(x=tuple(values[ends].tolist()), y=tuple(level[ends].tolist()))


def _line(center: float, spread: float) -> Scaling:
    return Scaling(center=center, scale=spread if spread > 1e-12 * abs(center) else 1.0)


@dataclass(frozen=True)
class Calibration:
    """How members are brought onto one scale."""

    fit: FitScaling
    per_fold: bool
    """Whether each fold's model has a scaling of its own."""
    uses_target: bool
    """Whether a row's scaled value could know its score."""

    def scalings(self, prediction: Floats, target: Floats, own_fold: NDArray[np.int8]) -> tuple[Scaling, ...]:
        """Return what test predictions of a candidate pass through: one scaling, or one for each of its folds.

        Args:
            prediction: out-of-fold, [rows].
            target: [rows].
            own_fold: the candidate's fold of each row, [rows].
        """
        if not self.per_fold:
            return (self.fit(prediction, target),)
        masks = [own_fold == k for k in np.unique(own_fold)]
        return tuple(self.fit(prediction[mask], target[mask]) for mask in masks)


CALIBRATIONS: dict[str, Calibration] = {
    "none": Calibration(leave, per_fold=False, uses_target=False),
    "z": Calibration(standardise, per_fold=False, uses_target=False),
    "min-max": Calibration(stretch, per_fold=False, uses_target=False),
    "rank": Calibration(rank, per_fold=False, uses_target=False),
    "z-by-fold": Calibration(standardise, per_fold=True, uses_target=False),
    "min-max-by-fold": Calibration(stretch, per_fold=True, uses_target=False),
    "isotonic": Calibration(follow, per_fold=False, uses_target=True),
    "isotonic-by-fold": Calibration(follow, per_fold=True, uses_target=True),
}
"""By name, the simpler ones first: of equals the first is taken."""


class ScaledColumns:
    """Out-of-fold predictions of some members on one scale.

    Args:
        raw: [rows, members].
        target: [rows].
        fold: the fold of the prepared data of each row, [rows].
        group: [rows].
        own_folds: for each member its own fold of each row, [rows].
        calibration: how.
    """

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
        """[rows, members], every row scaled without its own score."""
        return self._keep(None)

    def without(self, fold: int) -> Floats:
        """Return [rows, members] for weights that are fitted without `fold` and then applied to it."""
        return self._keep(self._held_out(fold))

    def sums(self, without: int | None = None) -> tuple[MomentSums, ...]:
        """Return the sums of each fold, folds ascending, over `columns`, or over those `without` a fold."""
        held_out = None if without is None else self._held_out(without)
        if held_out not in self._sums:
            columns, masks = self._keep(held_out), [self._fold == k for k in np.unique(self._fold)]
            self._sums[held_out] = tuple(measure(columns[rows], self._target[rows]) for rows in masks)
        return self._sums[held_out]

    def _held_out(self, fold: int) -> int | None:
        """Return what columns without a fold are kept under: only pooled curves differ from fold to fold."""
        pooled_curve = self._calibration.uses_target and not self._calibration.per_fold
        return fold if pooled_curve else None

    def _keep(self, held_out: int | None) -> Floats:
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
            return _through(prediction, target, [(part, part) for part in parts], calibration.fit)
        if calibration.per_fold:
            parts = [own_fold == k for k in np.unique(own_fold)]
            halves = [half for part in parts for half in _halves(part, self._group)]
            pairs = [(halves[place], halves[place ^ 1]) for place in range(len(halves))]
            return _through(prediction, target, pairs, calibration.fit)
        folds = np.unique(self._fold)
        pairs = [(self._fold == k, ~np.isin(self._fold, [k, k if held_out is None else held_out])) for k in folds]
        return _through(prediction, target, pairs, calibration.fit)


def _halves(part: NDArray[np.bool_], group: NDArray[np.int32]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return two halves of some rows, every second group of them in each."""
    place = np.searchsorted(np.unique(group[part]), group)
    return part & (place % 2 == 0), part & (place % 2 == 1)


def _through(
    prediction: Floats, target: Floats, pairs: Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]], fit: FitScaling
) -> Floats:
    """Return scaled predictions [rows]; of each pair, rows of the first pass what was fitted on the second.

    Where the second has no rows, all others than those of the first stand in.
    """
    scaled = np.empty_like(prediction)
    for rows, known in pairs:
        if rows.any():
            fitted = known if known.any() else ~rows
            scaled[rows] = fit(prediction[fitted], target[fitted])(prediction[rows])
    return scaled
