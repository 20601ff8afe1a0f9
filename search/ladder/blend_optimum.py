"""The non-negative weights with the greatest Pearson, found from weights that are nearly right already.

`data_prep.scoring.moments.best_nonnegative_weights` solves one problem from scratch. A search solves hundreds that
differ by one column each, and about a dozen columns get weight: the active-set method of Lawson and Hanson (Solving
Least Squares Problems, 1974, chapter 23) then needs a few Cholesky factorisations of a dozen rows, and never the whole
Gram matrix.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dposv

Floats = NDArray[np.float64]
Index = NDArray[np.intp]

_GRADIENT_TOLERANCE = 1e-9
"""A column does not enter if its correlation with the residual of the blend is below this."""

_RANK_TOLERANCE = 1e-9
"""A column is a copy if the others leave less than this share of its square."""

_GUESSES = 6
"""Supports tried for a column among many before it is solved by itself."""


@dataclass(frozen=True)
class SparseWeights:
    """The columns with weight, and their weights (least-squares scale; all positive)."""

    support: Index
    weights: Floats

    @classmethod
    def none(cls) -> "SparseWeights":
        """Return no weights at all."""
        return cls(np.empty(0, np.intp), np.empty(0))

    def renumbered(self, old: Sequence[str], new: Sequence[str]) -> "SparseWeights":
        """Return the same weights for columns in another order; missing ones are left out."""
        places = {name: place for place, name in enumerate(new)}
        kept = [(places[old[i]], w) for i, w in zip(self.support, self.weights, strict=True) if old[i] in places]
        return SparseWeights(np.array([i for i, _ in kept], np.intp), np.array([w for _, w in kept], np.float64))


@dataclass(frozen=True)
class RowProducts:
    """Products of centred columns on some of the rows."""

    cross: Floats
    """[columns]: with the target."""
    diagonal: Floats
    """[columns]: of each with itself."""
    square: float
    """Of the target with itself."""
    block: Callable[[Index, Index], Floats]
    """Returns the products of some columns with others, [some, others]."""


class Products:
    """Products of centred columns with each other and with the target, summed over parts and computed where needed."""

    def __init__(self, parts: Sequence[RowProducts]) -> None:
        self._parts = parts
        self.square = sum(part.square for part in parts)
        self.cross: Floats = np.sum([part.cross for part in parts], axis=0)
        self.diagonal: Floats = np.sum([part.diagonal for part in parts], axis=0)
        self._scale = np.sqrt(self.diagonal * self.square)
        self._read = np.empty((0, len(self.cross)))
        self._place = np.full(len(self.cross), -1)

    def block(self, rows: Index, columns: Index) -> Floats:
        """Return the products of some columns with others."""
        blocks = [part.block(rows, columns) for part in self._parts]
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

    def pearson(self, blend: SparseWeights) -> float:
        """Return the Pearson of a blend with the target; 0 where the blend or the target is constant."""
        w, at = blend.weights, blend.support
        if not at.size:
            return 0.0
        variance = float(w @ self.block(at, at) @ w) * self.square
        return float(w @ self.cross[at]) / float(np.sqrt(variance)) if variance > 0 else 0.0

    def gradient(self, blend: SparseWeights) -> Floats:
        """Return the correlation of every column with the residual of a blend; 0 for constant columns."""
        rest = self.cross - blend.weights @ self.with_all(blend.support)
        correlation: Floats = np.divide(rest, self._scale, out=np.zeros_like(rest), where=self._scale > 0)
        return correlation

    def pearson_of_each(self, wider: "Widened") -> Floats:
        """Return the Pearson of each of some blends of one column more, [columns]; 0 where it is constant."""
        at, columns, w, own = wider.support, wider.columns, wider.weights, wider.own
        with_column = self.block(at, columns)
        variance = np.einsum("ic,ic->c", w, self.block(at, at) @ w + 2 * own * with_column)
        variance = (variance + own**2 * self.diagonal[columns]) * self.square
        product = self.cross[at] @ w + own * self.cross[columns]
        pearson: Floats = np.divide(product, np.sqrt(variance), out=np.zeros_like(product), where=variance > 0)
        return pearson


@dataclass(frozen=True)
class Widened:
    """The best blends of some columns and one more each, for many such columns at once."""

    columns: Index
    """Those that get weight; with any other the best weights are those without it."""
    support: Index
    weights: Floats
    """[support, columns]"""
    own: Floats
    """[columns]: the weight of the column itself."""


def widen(products: Products, blend: SparseWeights, columns: Index) -> Widened:
    """Return the best blends when the columns before the first of `columns`, whose best is `blend`, get one more each.

    A column enters when its gradient at `blend` is positive (otherwise the conditions of Karush, Kuhn and Tucker hold
    as they are). Which others then have weight is guessed, first to be those of `blend`, and all guesses are tried at
    once. Where the conditions do not hold, whatever has a negative weight leaves the guess, or else whatever has the
    highest gradient joins it (principal pivoting: Kim and Park, SIAM J. Sci. Comput. 33, 2011).
    """
    members = np.arange(columns[0])
    rest = products.cross[columns] - blend.weights @ products.block(blend.support, columns)
    enters = rest > _GRADIENT_TOLERANCE * np.sqrt(products.diagonal[columns] * products.square)
    columns = columns[enters]
    between = products.block(members, columns)
    weights, own = np.zeros_like(between), np.zeros(len(columns))
    inside = np.zeros(between.shape, dtype=np.bool_)
    inside[blend.support] = True
    unsolved = np.arange(len(columns))
    for _ in range(_GUESSES):
        if not unsolved.size:
            break
        trial = _weigh_with_each(products, inside[:, unsolved], columns[unsolved], between[:, unsolved])
        if trial is None:
            break
        weights[:, unsolved], own[unsolved] = trial.weights, trial.own
        inside[:, unsolved] = trial.next_guesses
        unsolved = unsolved[~trial.solved]
    for place in unsolved:
        alone = best_from(products, blend, among=np.append(members, columns[place]))
        member = alone.support < len(members)
        weights[:, place] = 0.0
        weights[alone.support[member], place] = alone.weights[member]
        own[place] = alone.weights[~member].sum()
    support = np.flatnonzero(weights.any(axis=1))
    return Widened(columns, support, weights[support], own)


@dataclass(frozen=True)
class _Trial:
    """The weights of any sign that some columns get, each beside a support of its own."""

    weights: Floats
    """[members, columns]"""
    own: Floats
    """[columns]"""
    solved: NDArray[np.bool_]
    """[columns]: these are the best weights that are not negative."""
    next_guesses: NDArray[np.bool_]
    """[members, columns]: the supports to try next."""


def _weigh_with_each(products: Products, inside: NDArray[np.bool_], columns: Index, between: Floats) -> _Trial | None:
    """Weigh beside each of some columns its support, by the Schur complement; None: a support is not independent.

    `inside` [members, columns] are the supports, `between` [members, columns] the products of members and columns.
    """
    at = np.flatnonzero(inside.any(axis=1))
    used, with_columns = inside[at], between[at]
    try:
        base, change = _solve_each(products.block(at, at), used, products.cross[at], with_columns)
    except np.linalg.LinAlgError:
        return None
    left = products.diagonal[columns] - np.einsum("ic,ic->c", with_columns, change)
    apart = left > _RANK_TOLERANCE * products.diagonal[columns]
    rest = products.cross[columns] - np.einsum("ic,ic->c", base, with_columns)
    own = np.divide(rest, left, out=np.zeros_like(left), where=apart)
    weights = np.zeros_like(between)
    weights[at] = base - change * own
    members = np.arange(len(between))
    gradient = products.cross[members, None] - products.block(members, at) @ weights[at] - between * own
    gradient -= _GRADIENT_TOLERANCE * np.sqrt(products.diagonal[members, None] * products.square)
    positive, wrong = ((weights > 0) | ~inside).all(axis=0), (gradient > 0) & ~inside
    guesses = inside & (weights > 0)
    joining = np.flatnonzero(positive & wrong.any(axis=0))
    guesses[np.argmax(np.where(wrong, gradient, 0.0)[:, joining], axis=0), joining] = True
    return _Trial(weights, own, apart & positive & (own > 0) & ~wrong.any(axis=0), guesses)


def _solve_each(gram: Floats, used: NDArray[np.bool_], cross: Floats, sides: Floats) -> tuple[Floats, Floats]:
    """Return what solves `gram` for `cross`, and for each of `sides`, on the rows that each has `used`; 0 on others.

    `gram` is [rows, rows], `cross` [rows], and all else, also both answers, [rows, sides]. Raises `LinAlgError` where
    rows are not independent.
    """
    if used.all():
        solution = np.asarray(np.linalg.solve(gram, np.column_stack([cross, sides])), dtype=np.float64)
        return np.broadcast_to(solution[:, :1], sides.shape), solution[:, 1:]
    both, along = used.T[:, :, None] & used.T[:, None, :], np.arange(len(gram))
    systems = np.where(both, gram, 0.0)
    systems[:, along, along] = np.where(used.T, gram[along, along], 1.0)
    right = np.stack([np.where(used, cross[:, None], 0.0).T, np.where(used, sides, 0.0).T], axis=-1)
    solutions = np.asarray(np.linalg.solve(systems, right), dtype=np.float64)
    return solutions[..., 0].T, solutions[..., 1].T


def best_from(products: Products, start: SparseWeights, *, among: Index | None = None) -> SparseWeights:
    """Return the weights >= 0 with the least squared error, and so the greatest Pearson, starting from `start`.

    Columns that are not `among` those that may have weight get none; None: all may. At its best scale a direction has
    the squared error (1 - r^2) y'y, so the direction of the least is that of the greatest r. Ends when no column
    outside has a positive gradient; columns that depend on those inside stay out.
    """
    blend = _without_negatives(products, start, _free_weights(products, start.support))
    barred: list[int] = []
    outside = np.empty(0, np.intp) if among is None else np.setdiff1d(np.arange(len(products.cross)), among)
    while True:
        gradient = products.gradient(blend)
        gradient[blend.support] = 0.0
        gradient[barred] = 0.0
        gradient[outside] = 0.0
        entering = int(np.argmax(gradient))
        if gradient[entering] <= _GRADIENT_TOLERANCE:
            return blend
        wider = SparseWeights(np.append(blend.support, entering), np.append(blend.weights, 0.0))
        free = _free_weights(products, wider.support)
        if free is None or free[-1] <= 0:
            barred.append(entering)
        else:
            blend, barred = _without_negatives(products, wider, free), []


def _without_negatives(products: Products, blend: SparseWeights, free: Floats | None) -> SparseWeights:
    """Go from a blend towards the weights of any sign; a column whose weight reaches 0 on the way leaves."""
    support, weights = blend.support, blend.weights
    while support.size:
        if free is None:
            support, weights = support[:-1], weights[:-1]
        elif (free > 0).all():
            return SparseWeights(support, free)
        else:
            leaving = np.flatnonzero(free <= 0)
            shares = weights[leaving] / (weights[leaving] - free[leaving])
            weights = weights + shares.min() * (free - weights)
            weights[leaving[np.argmin(shares)]] = 0.0
            support, weights = support[weights > 0], weights[weights > 0]
        free = _free_weights(products, support)
    return SparseWeights.none()


def _free_weights(products: Products, support: Index) -> Floats | None:
    """Return the best weights of any sign on a support; None where its last column depends on the others."""
    if not support.size:
        return None
    factor, solution, failed = dposv(products.with_all(support)[:, support], products.cross[support])
    if failed or factor[-1, -1] ** 2 <= _RANK_TOLERANCE * products.diagonal[support[-1]]:
        return None
    return np.asarray(solution, dtype=np.float64)
