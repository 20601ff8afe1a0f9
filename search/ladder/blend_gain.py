"""What a candidate adds to the blend of others on the rows they share, measured out of sample."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from search.ladder.blend_optimum import Products, SparseWeights, best_from, widen
from search.ladder.decisions import BestBlend, BlendGain
from search.ladder.prediction_products import KeptProducts, PredictionProducts

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _RowHalf:
    """One half of a fold's rows."""

    columns: PredictionProducts
    kept: KeptProducts

    @classmethod
    def empty(cls, rows: NDArray[np.intp], score: Floats) -> "_RowHalf":
        columns = PredictionProducts(rows, score)
        return cls(columns, KeptProducts(columns))


@dataclass(frozen=True)
class _ChosenColumns:
    """Some columns of a half, numbered anew; a `search.ladder.blend_optimum.RowProducts`."""

    source: PredictionProducts | KeptProducts
    at: NDArray[np.intp]
    cross: Floats
    diagonal: Floats
    square: float

    def block(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Floats:
        return self.source.products(self.at[rows], self.at[columns])


@dataclass
class _FoldPredictions:
    score: Floats
    halves: tuple[_RowHalf, _RowHalf]
    positions: dict[str, int] = field(default_factory=dict)

    def numbers(self, names: Sequence[str]) -> NDArray[np.intp]:
        return np.fromiter((self.positions[name] for name in names), np.intp, len(names))

    def keep(self, names: Sequence[str]) -> None:
        for half in self.halves:
            half.kept.keep(self.numbers(names))

    def chosen(self, names: Sequence[str], half: int, *, kept: bool) -> _ChosenColumns:
        columns, at = self.halves[half].columns, self.numbers(names)
        source = self.halves[half].kept if kept else columns
        return _ChosenColumns(source, at, columns.cross(at), columns.diagonal(at), columns.square)


@dataclass
class _FittedOnHalves:
    """The blend of some candidates on some folds, fitted on each half; gains are kept until its members change."""

    members: tuple[str, ...]
    fitted: tuple[SparseWeights, SparseWeights]
    """On the first and the second half; columns are numbered as in `members`."""
    pearson: tuple[float, float]
    """On the half that the weights have not seen: first the one fitted on the first half."""
    gains: dict[str, BlendGain] = field(default_factory=dict)


class BlendEvidence:
    """Predictions of finished fold runs, kept on two halves of each fold's rows."""

    def __init__(self) -> None:
        self._folds: dict[int, _FoldPredictions] = {}
        self._blends: dict[tuple[int, ...], _FittedOnHalves] = {}
        self._latest: _FittedOnHalves | None = None
        self._shown: _FittedOnHalves | None = None

    def add(
        self,
        candidate: str,
        fold: int,
        prediction: NDArray[np.floating],
        score: NDArray[np.floating],
        group: NDArray[np.integer] | None,
    ) -> None:
        """Take the predictions [rows] of a candidate; rows, `score` and `group` are the same for all of a fold.

        Raises:
            ValueError: rows or scores are not those that the fold was first seen with.
        """
        truth = np.asarray(score, dtype=np.float64)
        if fold not in self._folds:
            first, second = split_in_halves(len(truth), group)
            self._folds[fold] = _FoldPredictions(truth, (_RowHalf.empty(first, truth), _RowHalf.empty(second, truth)))
        known = self._folds[fold]
        if not np.array_equal(known.score, truth) or prediction.shape != truth.shape:
            raise ValueError(f"candidate {candidate} fold {fold}: rows or scores differ from those seen before")
        if candidate in known.positions:
            return
        for half in known.halves:
            half.kept.add(prediction)
        known.positions[candidate] = len(known.positions)

    def known(self, candidates: Iterable[str], folds: Iterable[int]) -> tuple[str, ...]:
        """Return those of some candidates whose predictions are known for all `folds`."""
        names = list(candidates)
        for fold in folds:
            positions = self._folds[fold].positions if fold in self._folds else {}
            names = [name for name in names if name in positions]
        return tuple(names)

    def gain(self, candidate: str, members: Sequence[str], folds: Sequence[int]) -> BlendGain | None:
        """Return what `candidate` adds to the non-negative blend of `members` on the rows of `folds`.

        Members without predictions for all of `folds` are left out. None: nothing to add to, or nothing known.
        """
        return self.gains([candidate], members, folds).get(candidate)

    def gains(self, candidates: Iterable[str], members: Sequence[str], folds: Sequence[int]) -> dict[str, BlendGain]:
        """Return what each of some candidates alone adds to the blend, without those of which that cannot be said."""
        names, known = self.known(members, folds), self.known(candidates, folds)
        if not names or not known:
            return {}
        blend = self._blend(names, tuple(folds))
        if asked := [name for name in known if name not in blend.gains]:
            both = [self._products((*names, *asked), folds, half, kept=True) for half in (0, 1)]
            first, second = (_rises(blend, both, fitted=half) for half in (1, 0))
            for name, *halves in zip(asked, first.tolist(), second.tolist(), strict=True):
                blend.gains[name] = BlendGain((halves[0], halves[1]), len(names))
        return {name: blend.gains[name] for name in known}

    def blended(self, candidates: Iterable[str], folds: Sequence[int]) -> BestBlend | None:
        """Return how good the blend of some candidates is on rows that its weights have not seen.

        Changes nothing that decides, and reads only what never changes: `add` writes beside it, so this may run in
        another thread meanwhile. None: of no candidate are all `folds` known.
        """
        names = self.known(candidates, folds)
        if not names:
            return None
        blend = self._fit(names, tuple(folds), self._shown, kept=False)
        self._shown = blend
        members = {int(column) for fit in blend.fitted for column in fit.support}
        return BestBlend(pearson=sum(blend.pearson) / 2, members=len(members), candidates=len(names))

    def _blend(self, names: tuple[str, ...], folds: tuple[int, ...]) -> _FittedOnHalves:
        """Fit the blend of `names`, from the weights of the last one on these folds, else of the last on others."""
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
        """Return the products of some candidates' columns over one half of the rows of some folds.

        Those that are `kept` are for the deciding thread alone.
        """
        return Products([self._folds[fold].chosen(names, half, kept=kept) for fold in folds])


def _rises(blend: _FittedOnHalves, both: Sequence[Products], *, fitted: int) -> Floats:
    """Return the rise of Pearson on one half when the weights of half `fitted` may use each of other columns too.

    Args:
        blend: of the first columns.
        both: products of these and the others on each half.
        fitted: number of the half.
    """
    others = np.arange(len(blend.members), len(both[fitted].cross))
    wider = widen(both[fitted], blend.fitted[fitted], others)
    rises = np.zeros(len(others))
    rises[wider.columns - others[0]] = both[1 - fitted].pearson_of_each(wider) - blend.pearson[fitted]
    return rises


def split_in_halves(n_rows: int, group: NDArray[np.integer] | None) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split row numbers in two: whole groups, largest first, to the smaller half; without groups: every other row."""
    if group is None or len(np.unique(group)) < 2:
        return np.arange(0, n_rows, 2), np.arange(1, n_rows, 2)
    names, codes, counts = np.unique(group, return_inverse=True, return_counts=True)
    sizes = [0, 0]
    side = np.zeros(len(names), dtype=np.intp)
    for code in np.argsort(-counts, kind="stable"):
        side[code] = int(sizes[1] < sizes[0])
        sizes[side[code]] += int(counts[code])
    return np.flatnonzero(side[codes] == 0), np.flatnonzero(side[codes] == 1)
