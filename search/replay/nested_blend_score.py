"""`BlendScores`: the nested blended score of any set of recorded candidates."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from data_prep.scoring.moments import Moments, best_nonnegative_weights, moments, pearson_of
from search.replay.recording import RecordedRows

Floats = NDArray[np.float64]
N_DRAWS = 400


class BlendScores:
    """Scores blends of columns of recorded predictions; what was reckoned once is kept.

    A blend's score is nested: for each fold the non-negative weights of the greatest Pearson are fitted on all other
    folds, each centred on its own mean, and scored by Pearson on that fold; the mean over folds counts.
    """

    def __init__(self, rows: RecordedRows) -> None:
        self.rows = rows
        self._parts = [moments(rows.predictions[inside], rows.score[inside]) for inside in self._folds()]
        self._total = sum(self._parts[1:], start=self._parts[0])
        names, self._codes = np.unique(rows.group, return_inverse=True)
        self._n_groups = len(names)
        even = np.full(self._n_groups, 1 / self._n_groups)
        self._counts = np.random.default_rng(0).multinomial(self._n_groups, even, size=N_DRAWS).astype(np.float64)
        self._weights: dict[frozenset[int], list[Floats]] = {}
        self._values: dict[frozenset[int], float] = {}
        self._draws: dict[frozenset[int], Floats] = {}

    def score(self, columns: Collection[int]) -> float:
        """Return the nested score of a blend of these columns; NaN for none."""
        chosen = frozenset(columns)
        if not chosen:
            return float("nan")
        if chosen not in self._values:
            order = sorted(chosen)
            pairs = zip(self._parts, self._fitted(chosen), strict=True)
            self._values[chosen] = float(np.mean([pearson_of(part.of(order), weights) for part, weights in pairs]))
        return self._values[chosen]

    def standard_error(self, first: Collection[int], second: Collection[int]) -> float:
        """Return the bootstrap standard error, over whole groups, of the difference of two nested scores."""
        drawn = self._resampled(frozenset(first)) - self._resampled(frozenset(second))
        return float(np.nanstd(drawn, ddof=1))

    def _folds(self) -> list[NDArray[np.bool_]]:
        return [self.rows.fold == fold for fold in np.unique(self.rows.fold)]

    def _fitted(self, chosen: frozenset[int]) -> list[Floats]:
        """Return for each fold the weights fitted on the others."""
        if chosen not in self._weights:
            order = sorted(chosen)
            total = self._total
            self._weights[chosen] = [
                best_nonnegative_weights(
                    Moments(total.gram - part.gram, total.cross - part.cross, total.square - part.square).of(order)
                )
                for part in self._parts
            ]
        return self._weights[chosen]

    def _resampled(self, chosen: frozenset[int]) -> Floats:
        """Return the nested score of each draw of groups, [draws]; the weights stay as fitted."""
        if chosen not in self._draws:
            order = sorted(chosen)
            folds = zip(self._folds(), self._fitted(chosen), strict=True)
            scores = [self._pearson_of_draws(inside, order, weights) for inside, weights in folds]
            self._draws[chosen] = np.mean(scores, axis=0)
        return self._draws[chosen]

    def _pearson_of_draws(self, inside: NDArray[np.bool_], order: list[int], weights: Floats) -> Floats:
        x = self.rows.predictions[inside][:, order].astype(np.float64) @ weights
        y = self.rows.score[inside].astype(np.float64)
        x, y = x - x.mean(), y - y.mean()
        products = (np.ones_like(x), x, y, x * x, y * y, x * y)
        code, n_groups = self._codes[inside], self._n_groups
        sums = np.stack([np.bincount(code, weights=product, minlength=n_groups) for product in products])
        n, sx, sy, sxx, syy, sxy = sums @ self._counts.T
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((sxy - sx * sy / n) / np.sqrt((sxx - sx * sx / n) * (syy - sy * sy / n)))
