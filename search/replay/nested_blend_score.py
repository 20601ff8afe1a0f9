"""`BlendScores`: the nested blended score of any set of recorded candidates."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from data_prep.scoring.group_bootstrap import GroupBootstrap
from data_prep.scoring.metrics import METRICS
from data_prep.scoring.moments import Moments, best_nonnegative_weights, moments, pearson_of
from search.replay.recording import RecordedRows

Floats = NDArray[np.float64]
N_DRAWS = 400


class BlendScores:
    """Scores blends of columns of recorded predictions; results are cached.

    A blend's score is nested: for each fold, the non-negative weights with the greatest Pearson are fitted on all other
    folds, each centered on its own mean, and scored by Pearson on that fold; the score is the mean over folds.
    """

    def __init__(self, rows: RecordedRows) -> None:
        self.rows = rows
        self._parts = [moments(rows.predictions[inside], rows.target[inside]) for inside in self._folds()]
        self._total = sum(self._parts[1:], start=self._parts[0])
        self._bootstrap = GroupBootstrap(
            rows.target.astype(np.float64), rows.fold, rows.group, METRICS["pearson"], resamples=N_DRAWS
        )
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
        """Return the nested score in each draw of groups, [draws]; the weights stay as fitted."""
        if chosen not in self._draws:
            columns = self.rows.predictions[:, sorted(chosen)].astype(np.float64)
            blended = np.empty(len(columns))
            for inside, weights in zip(self._folds(), self._fitted(chosen), strict=True):
                blended[inside] = columns[inside] @ weights
            self._draws[chosen] = self._bootstrap.draws(blended[:, None]).drawn[0]
        return self._draws[chosen]
