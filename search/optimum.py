"""The non-negative weights with the greatest Pearson, found from weights that are nearly right already.

`data_prep.moments.best_nonnegative_weights` solves one problem from nothing. A search solves hundreds that differ by
one column each, of which a dozen get weight: the active-set method of Lawson and Hanson (Solving Least Squares
Problems, 1974, chapter 23) then needs a few Cholesky factorisations of a dozen rows, and never the whole Gram matrix.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dposv

Floats = NDArray[np.float64]
Index = NDArray[np.intp]

_GRADIENT_TOLERANCE = 1e-9
"""A column whose correlation with what the blend leaves of the score is under this does not enter."""

_RANK_TOLERANCE = 1e-9
"""A column of which the others leave less than this share of its square is a copy."""

_GUESSES = 6
"""Supports tried for a column among many before it is solved by itself."""


@dataclass(frozen=True)
class Optimum:
    """The columns with weight, and their weights (least-squares scale; all positive)."""

    support: Index
    weights: Floats

    @classmethod
    def none(cls) -> "Optimum":
        """Return no weights at all."""
        return cls(np.empty(0, np.intp), np.empty(0))

    def renumbered(self, old: Sequence[str], new: Sequence[str]) -> "Optimum":
        """Return the same weights for columns in another order; those that are gone are left out."""
        places = {name: place for place, name in enumerate(new)}
        kept = [(places[old[i]], w) for i, w in zip(self.support, self.weights, strict=True) if old[i] in places]
        return Optimum(np.array([i for i, _ in kept], np.intp), np.array([w for _, w in kept], np.float64))


class Products:
    """Products of centred columns with each other and with the score, summed over parts and read where asked."""

    def __init__(self, parts: list[tuple[Floats, Index]], crosses: list[Floats], square: float) -> None:
        """Take (gram, position of each column in it) and the products with the score of each part."""
        self._parts = parts
        self.square = square
        self.cross: Floats = np.sum([c[at] for c, (_, at) in zip(crosses, parts, strict=True)], axis=0)
        self.diagonal: Floats = np.sum([gram[at, at] for gram, at in parts], axis=0)
        self._scale = np.sqrt(self.diagonal * square)
        self._read = np.empty((0, len(self.cross)))
        self._place = np.full(len(self.cross), -1)

    def block(self, rows: Index, columns: Index) -> Floats:
        """Return the products of some columns with others."""
        blocks = [gram[at[rows][:, None], at[columns]] for gram, at in self._parts]
        total: Floats = blocks[0] if len(blocks) == 1 else np.sum(blocks, axis=0)
        return total

    def with_all(self, rows: Index) -> Floats:
        """Return the products of some columns with all; each is gathered once."""
        unread = rows[self._place[rows] < 0]
        if unread.size:
            self._place[unread] = np.arange(len(self._read), len(self._read) + len(unread))
            self._read = np.vstack([self._read, self.block(unread, np.arange(len(self.cross)))])
        found: Floats = self._read[self._place[rows]]
        return found

    def pearson(self, blend: Optimum) -> float:
        """Return the Pearson of a blend with the score; 0 where the blend or the score is constant."""
        w, at = blend.weights, blend.support
        if not at.size:
            return 0.0
        variance = float(w @ self.block(at, at) @ w) * self.square
        return float(w @ self.cross[at]) / float(np.sqrt(variance)) if variance > 0 else 0.0

    def gradient(self, blend: Optimum) -> Floats:
        """Return the correlation of every column with what a blend leaves of the score; 0 for constant columns."""
        rest = self.cross - blend.weights @ self.with_all(blend.support)
        correlation: Floats = np.divide(rest, self._scale, out=np.zeros_like(rest), where=self._scale > 0)
        return correlation

    def pearson_of_each(self, blends: "Widened", columns: Index) -> Floats:
        """Return the Pearson of each of some blends of one column more, [columns]; 0 where it is constant."""
        at, w, own = blends.support, blends.weights, blends.own
        with_column = self.block(at, columns)
        variance = np.einsum("ic,ic->c", w, self.block(at, at) @ w + 2 * own * with_column)
        variance = (variance + own**2 * self.diagonal[columns]) * self.square
        product = self.cross[at] @ w + own * self.cross[columns]
        pearson: Floats = np.divide(product, np.sqrt(variance), out=np.zeros_like(product), where=variance > 0)
        return pearson


@dataclass(frozen=True)
class Widened:
    """The best blends of some columns and one more each, for many such columns at once."""

    enters: NDArray[np.bool_]
    """[columns]: the best weights give the column weight; else they are those without it, and not given here."""
    support: Index
    weights: Floats
    """[support, columns]"""
    own: Floats
    """[columns]: the weight of the column itself."""


def widen(products: Products, blend: Optimum, columns: Index) -> Widened:
    """Return the best blends when the columns before the first of `columns`, whose best is `blend`, get one more each.

    A column enters when its gradient at `blend` is positive (otherwise the conditions of Karush, Kuhn and Tucker hold
    as they are). Which others then have weight is guessed, first to be those of `blend`; all columns with the same
    guess share one factorisation. Where the conditions do not hold, whatever has a negative weight leaves the guess, or
    else whatever has the highest gradient joins it (principal pivoting: Kim and Park, SIAM J. Sci. Comput. 33, 2011).
    """
    members = np.arange(columns[0])
    between = products.block(members, columns)
    rest = products.cross[columns] - blend.weights @ between[blend.support]
    enters = rest > _GRADIENT_TOLERANCE * np.sqrt(products.diagonal[columns] * products.square)
    weights, own = np.zeros_like(between), np.zeros(len(columns))
    inside = np.zeros(between.shape, dtype=np.bool_)
    inside[blend.support] = True
    unsolved = np.flatnonzero(enters)
    for _ in range(_GUESSES):
        still = []
        for places in _with_same_support(inside, unsolved):
            at = np.flatnonzero(inside[:, places[0]])
            trial = _weigh_with_each(products, at, columns[places], between[:, places])
            weights[:, places], own[places] = 0.0, trial.own
            weights[np.ix_(at, places)] = trial.weights
            inside[:, places] = trial.next_guesses(at)
            still.append(places[~trial.solved])
        unsolved = np.concatenate([np.empty(0, np.intp), *still])
    for place in unsolved:
        alone = best_from(products, blend, among=np.append(members, columns[place]))
        member = alone.support < len(members)
        weights[:, place] = 0.0
        weights[alone.support[member], place] = alone.weights[member]
        own[place] = alone.weights[~member].sum()
    support = np.flatnonzero(weights.any(axis=1))
    return Widened(enters, support, weights[support], own)


@dataclass(frozen=True)
class _Trial:
    """The weights of any sign that some columns on one support get beside each of some others."""

    weights: Floats
    """[support, columns]"""
    own: Floats
    """[columns]"""
    gradient: Floats
    """[members, columns], less what is tolerated; not above 0 on the support."""
    apart: NDArray[np.bool_]
    """[columns]: the support does not determine the column."""

    @property
    def solved(self) -> NDArray[np.bool_]:
        """[columns]: these are the best weights that are not negative."""
        positive = (self.weights > 0).all(axis=0) & (self.own > 0)
        return self.apart & positive & (self.gradient <= 0).all(axis=0)

    def next_guesses(self, at: Index) -> NDArray[np.bool_]:
        """Return which members [members, columns] the supports to try next have."""
        inside = np.zeros(self.gradient.shape, dtype=np.bool_)
        inside[at] = self.weights > 0
        joining = np.flatnonzero((self.weights > 0).all(axis=0) & (self.gradient > 0).any(axis=0))
        inside[np.argmax(self.gradient[:, joining], axis=0), joining] = True
        return inside


def _with_same_support(inside: NDArray[np.bool_], places: Index) -> list[Index]:
    """Return columns of `inside` in groups that are the same."""
    groups: dict[bytes, list[int]] = {}
    for place, key in zip(places.tolist(), np.packbits(inside[:, places], axis=0).T, strict=True):
        groups.setdefault(key.tobytes(), []).append(place)
    return [np.array(group, np.intp) for group in groups.values()]


def _weigh_with_each(products: Products, at: Index, columns: Index, between: Floats) -> _Trial:
    """Weigh a support beside each of some columns, by the Schur complement; `between` is [members, columns]."""
    members = np.arange(len(between))
    with_columns = between[at]
    base, change = np.zeros(len(at)), np.zeros_like(with_columns)
    if at.size:
        sides = np.column_stack([products.cross[at], with_columns])
        _, solution, failed = dposv(products.block(at, at), sides)
        if failed:
            solution[:] = 0.0
        base, change = solution[:, 0], solution[:, 1:]
    left = products.diagonal[columns] - np.einsum("ic,ic->c", with_columns, change)
    apart = left > _RANK_TOLERANCE * products.diagonal[columns]
    own = np.divide(products.cross[columns] - base @ with_columns, left, out=np.zeros_like(left), where=apart)
    weights = base[:, None] - change * own
    gradient = products.cross[members, None] - products.block(members, at) @ weights - between * own
    gradient -= _GRADIENT_TOLERANCE * np.sqrt(products.diagonal[members, None] * products.square)
    gradient[at] = 0.0
    return _Trial(weights, own, gradient, apart)


def best_from(products: Products, start: Optimum, *, among: Index | None = None) -> Optimum:
    """Return the weights >= 0 with the least squared error, and so the greatest Pearson, starting from `start`.

    Columns that are not `among` those that may have weight get none; None: all may. At its best scale a direction has
    the squared error (1 - r^2) y'y, so the direction of the least is that of the greatest r. Ends when no column
    outside has a positive gradient; columns that depend on those inside stay out.
    """
    blend = _without_negatives(products, start, _free_weights(products, start.support))
    barred: list[int] = []
    everywhere = np.arange(len(products.cross))
    outside = np.setdiff1d(everywhere, everywhere if among is None else among)
    while True:
        gradient = products.gradient(blend)
        gradient[blend.support] = 0.0
        gradient[barred] = 0.0
        gradient[outside] = 0.0
        entering = int(np.argmax(gradient))
        if gradient[entering] <= _GRADIENT_TOLERANCE:
            return blend
        wider = Optimum(np.append(blend.support, entering), np.append(blend.weights, 0.0))
        free = _free_weights(products, wider.support)
        if free is None or free[-1] <= 0:
            barred.append(entering)
        else:
            blend, barred = _without_negatives(products, wider, free), []


def _without_negatives(products: Products, blend: Optimum, free: Floats | None) -> Optimum:
    """Go from a blend towards the weights of any sign; a column whose weight reaches 0 on the way leaves."""
    support, weights = blend.support, blend.weights
    while support.size:
        if free is None:
            support, weights = support[:-1], weights[:-1]
        elif (free > 0).all():
            return Optimum(support, free)
        else:
            leaving = np.flatnonzero(free <= 0)
            shares = weights[leaving] / (weights[leaving] - free[leaving])
            weights = weights + shares.min() * (free - weights)
            weights[leaving[np.argmin(shares)]] = 0.0
            support, weights = support[weights > 0], weights[weights > 0]
        free = _free_weights(products, support)
    return Optimum.none()


def _free_weights(products: Products, support: Index) -> Floats | None:
    """Return the best weights of any sign on a support; None where its last column depends on the others."""
    if not support.size:
        return None
    factor, solution, failed = dposv(products.with_all(support)[:, support], products.cross[support])
    if failed or factor[-1, -1] ** 2 <= _RANK_TOLERANCE * products.diagonal[support[-1]]:
        return None
    return np.asarray(solution, dtype=np.float64)
