"""`BlendEvidence`: what a candidate adds to the blend of others, on rows that the weights were not fitted on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from search.ladder.blend_optimum import Products, RowProducts, SparseWeights, best_from, widen
from search.ladder.decisions import BestBlend, BlendGain
from search.ladder.prediction_products import KeptProducts, PredictionProducts

Floats = NDArray[np.float64]


@dataclass
class _FoldPredictions:
    """What is known of one fold's rows."""

    target: Floats
    halves: tuple[KeptProducts, KeptProducts]
    positions: dict[str, int] = field(default_factory=dict)

    def numbers(self, names: Sequence[str]) -> NDArray[np.intp]:
        return np.fromiter((self.positions[name] for name in names), np.intp, len(names))

    def keep(self, names: Sequence[str]) -> None:
        for half in self.halves:
            half.keep(self.numbers(names))

    def chosen(self, names: Sequence[str], half: int, *, kept: bool) -> RowProducts:
        columns, at = self.halves[half].columns, self.numbers(names)
        source = self.halves[half] if kept else columns
        return RowProducts(
            columns.cross(at),
            columns.diagonal(at),
            columns.square,
            lambda some, others: source.products(at[some], at[others]),
        )


@dataclass
class _FittedOnHalves:
    """The blend of some candidates on some folds, fitted on each half; its gains are kept until its members change."""

    members: tuple[str, ...]
    fitted: tuple[SparseWeights, SparseWeights]
    """On the first and the second half; columns are numbered as in `members`."""
    pearson: tuple[float, float]
    """On the other half: first the blend that is fitted on the first half."""
    gains: dict[str, BlendGain] = field(default_factory=dict)


class BlendEvidence:
    """Predictions of finished fold runs, kept on two halves of each fold's rows."""

    def __init__(self) -> None:
        self._folds: dict[int, _FoldPredictions] = {}
        self._blends: dict[tuple[int, ...], _FittedOnHalves] = {}
        self._latest: _FittedOnHalves | None = None
        self._reported: _FittedOnHalves | None = None

    def add(
        self,
        candidate: str,
        fold: int,
        prediction: NDArray[np.floating],
        target: NDArray[np.floating],
        group: NDArray[np.integer] | None,
    ) -> None:
        """Add the predictions [rows] of a candidate; rows, `target` and `group` are the same for all of a fold.

        Raises:
            ValueError: rows or targets differ from those of the first candidate on this fold.
        """
        values = np.asarray(target, dtype=np.float64)
        if fold not in self._folds:
            first, second = (PredictionProducts(rows, values) for rows in split_in_halves(len(values), group))
            self._folds[fold] = _FoldPredictions(values, (KeptProducts(first), KeptProducts(second)))
        known = self._folds[fold]
        if not np.array_equal(known.target, values) or prediction.shape != values.shape:
            raise ValueError(
                f"candidate {candidate} fold {fold}: rows or scores differ from those of earlier candidates"
            )
        if candidate in known.positions:
            return
        for half in known.halves:
            half.add(prediction)
        known.positions[candidate] = len(known.positions)

    def known(self, candidates: Iterable[str], folds: Iterable[int]) -> tuple[str, ...]:
        """Return which of some candidates have predictions for all `folds`."""
        names = list(candidates)
        for fold in folds:
            positions = self._folds[fold].positions if fold in self._folds else {}
            names = [name for name in names if name in positions]
        return tuple(names)

    def gain(self, candidate: str, members: Sequence[str], folds: Sequence[int]) -> BlendGain | None:
        """Return what `candidate` adds to the non-negative blend of `members` on the rows of `folds`.

        Members without predictions for all `folds` are left out. None: no member, or no predictions of the candidate.
        """
        return self.gains([candidate], members, folds).get(candidate)

    def gains(self, candidates: Iterable[str], members: Sequence[str], folds: Sequence[int]) -> dict[str, BlendGain]:
        """Return what each of some candidates alone adds to the blend; those without predictions are left out."""
        names, known = self.known(members, folds), self.known(candidates, folds)
        if not names or not known:
            return {}
        blend = self._blend(names, tuple(folds))
        if missing := [name for name in known if name not in blend.gains]:
            both = [self._products((*names, *missing), folds, half, kept=True) for half in (0, 1)]
            first, second = (_rises(blend, both, fitted=half) for half in (1, 0))
            for name, *halves in zip(missing, first.tolist(), second.tolist(), strict=True):
                blend.gains[name] = BlendGain((halves[0], halves[1]), len(names))
        return {name: blend.gains[name] for name in known}

    def best_blend(self, candidates: Iterable[str], folds: Sequence[int]) -> BestBlend | None:
        """Return how good the blend of candidates known on all `folds` is; None: there is none. Any thread may call."""
        names = self.known(candidates, folds)
        if not names:
            return None
        blend = self._fit(names, tuple(folds), self._reported, kept=False)
        self._reported = blend
        members = {int(column) for fit in blend.fitted for column in fit.support}
        return BestBlend(pearson=sum(blend.pearson) / 2, members=len(members), candidates=len(names))

    def _blend(self, names: tuple[str, ...], folds: tuple[int, ...]) -> _FittedOnHalves:
        """Fit the blend of `names`, starting from the last weights on these folds, or else on others."""
        known = self._blends.get(folds)
        if known is not None and known.members == names:
            return known
        for fold in folds:
            self._folds[fold].keep(names)
        self._blends[folds] = self._latest = self._fit(names, folds, known or self._latest, kept=True)
        return self._latest

    def _fit(
        self, names: tuple[str, ...], folds: tuple[int, ...], last: _FittedOnHalves | None, *, kept: bool
    ) -> _FittedOnHalves:
        fits, scores = [], []
        both = [self._products(names, folds, half, kept=kept) for half in (0, 1)]
        for half in (0, 1):
            start = SparseWeights.none() if last is None else last.fitted[half].renumbered(last.members, names)
            fits.append(best_from(both[half], start))
            scores.append(both[1 - half].pearson(fits[half]))
        return _FittedOnHalves(names, (fits[0], fits[1]), (scores[0], scores[1]))

    def _products(self, names: Sequence[str], folds: Sequence[int], half: int, *, kept: bool) -> Products:
        """Return products of columns over one half of the rows; only the thread that decides may read `kept` ones."""
        return Products([self._folds[fold].chosen(names, half, kept=kept) for fold in folds])


def _rises(blend: _FittedOnHalves, both: Sequence[Products], *, fitted: int) -> Floats:
    """Return the rise of Pearson on the other half when a column beside those of `blend` joins on half `fitted`.

    `both` are the products on each half, first of the columns of `blend`; there is a rise for each of the others.
    """
    others = np.arange(len(blend.members), len(both[fitted].cross))
    wider = widen(both[fitted], blend.fitted[fitted], others)
    rises = np.zeros(len(others))
    rises[wider.columns - others[0]] = both[1 - fitted].pearson_of_each(wider) - blend.pearson[fitted]
    return rises


def split_in_halves(n_rows: int, group: NDArray[np.integer] | None) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split row numbers in two: whole groups, largest first, into the smaller half; without groups alternately."""
    if group is None or len(np.unique(group)) < 2:
        return np.arange(0, n_rows, 2), np.arange(1, n_rows, 2)
    names, codes, counts = np.unique(group, return_inverse=True, return_counts=True)
    sizes = [0, 0]
    side = np.zeros(len(names), dtype=np.intp)
    for code in np.argsort(-counts, kind="stable"):
        side[code] = int(sizes[1] < sizes[0])
        sizes[side[code]] += int(counts[code])
    return np.flatnonzero(side[codes] == 0), np.flatnonzero(side[codes] == 1)
