"""`MomentSums`: counts, means and centred moments of some rows, read block by block; those of parts add up."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np

from data_prep.scoring.combination import Floats
from data_prep.scoring.moments import Moments, moments


@dataclass(frozen=True)
class MomentSums:
    """What Pearson of weighted sums needs from some rows, in a form that can be added to that of other rows."""

    count: int
    mean: Floats
    """[columns]"""
    target_mean: float
    centred: Moments
    """About the means of these rows."""

    def __add__(self, other: "MomentSums") -> "MomentSums":
        """Return the sums of both sets of rows (Chan, Golub and LeVeque 1979)."""
        count = self.count + other.count
        shift, lift = other.mean - self.mean, other.target_mean - self.target_mean
        share = self.count * other.count / count
        return MomentSums(
            count,
            self.mean + shift * (other.count / count),
            self.target_mean + lift * other.count / count,
            Moments(
                self.centred.gram + other.centred.gram + share * np.outer(shift, shift),
                self.centred.cross + other.centred.cross + share * lift * shift,
                self.centred.square + other.centred.square + share * lift * lift,
            ),
        )

    def of(self, columns: "Iterable[int] | Floats") -> "MomentSums":
        """Return the sums of some columns, in the order given."""
        chosen = np.asarray(list(columns), dtype=np.intp)
        return MomentSums(self.count, self.mean[chosen], self.target_mean, self.centred.of(chosen))

    def mixed(self, shares: Floats) -> "MomentSums":
        """Return the sums of weighted sums of the columns, `shares` [sums, columns]."""
        centred = self.centred
        moments = Moments(shares @ centred.gram @ shares.T, shares @ centred.cross, centred.square)
        return MomentSums(self.count, shares @ self.mean, self.target_mean, moments)


def measure(columns: Floats, target: Floats) -> MomentSums:
    """Return the sums of `columns` [rows, columns] against `target` [rows]."""
    return MomentSums(len(target), columns.mean(axis=0), float(target.mean()), moments(columns, target))


def total(parts: Iterable[MomentSums]) -> MomentSums:
    """Return the sums of all parts together; there must be at least one."""
    return reduce(MomentSums.__add__, parts)
