"""`GroupBootstrap`: the noise of a metric, from drawing whole groups of rows with replacement.

Rows of one group (all targets of an anchor) are hard or easy together. This is the noise of the rows that are scored;
training with another seed adds to it. A standard deviation over 4 or 5 folds is itself uncertain by a third, and over
one fold there is none. A draw costs a sum over groups, not rows: the metric follows from each group's sums. For
Spearman, ranks are taken once, inside each part that is scored.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from data_prep.scoring.combination import Floats
from data_prep.scoring.metrics import Metric, average_ranks

if TYPE_CHECKING:
    from scipy.sparse import csr_array

RESAMPLES = 1_000
MOST_CLUSTERS = 4_096
"""Above this many groups, several are drawn together: the noise is the same, and draws cost no more."""


@dataclass(frozen=True)
class PairedDifference:
    """How much better one prediction is than another on the same rows, in utility, with its noise."""

    value: float
    """Positive: the first prediction is better."""
    standard_error: float
    low: float
    """Lower end of the 95 % interval, from the quantiles of the draws."""
    high: float

    @property
    def is_noise(self) -> bool:
        """Whether the difference is within two standard errors of zero."""
        return not abs(self.value) > 2.0 * self.standard_error


@dataclass(frozen=True)
class DrawnUtilities:
    """The utilities of some predictions, as measured and in each draw."""

    value: Floats
    """[predictions]"""
    drawn: Floats
    """[predictions, resamples]"""

    def difference(self, first: int, second: int) -> PairedDifference:
        """Return by how much one prediction is better than another, from the same draws of both."""
        drawn = self.drawn[first] - self.drawn[second]
        low, high = np.nanquantile(drawn, [0.025, 0.975])
        value = float(self.value[first] - self.value[second])
        return PairedDifference(value, float(np.nanstd(drawn, ddof=1)), float(low), float(high))


class GroupBootstrap:
    """Draws groups, always the same ones, and scores predictions on them.

    The metric is taken in each part (fold) and averaged over parts; one part throughout gives the pooled metric.
    `target`, `part` and `group` are [rows].
    """

    def __init__(
        self,
        target: Floats,
        part: NDArray[np.int8],
        group: NDArray[np.int32],
        metric: Metric,
        *,
        seed: int = 0,
        resamples: int = RESAMPLES,
    ) -> None:
        from scipy.sparse import csr_array  # noqa: PLC0415 - slow to import

        self._target, self._metric = target, metric
        random = np.random.default_rng(seed)
        cluster = cluster_groups(group, random)
        n_clusters = int(cluster.max()) + 1
        drawn = random.multinomial(n_clusters, np.full(n_clusters, 1.0 / n_clusters), size=resamples)
        self._parts = {}
        for value in np.unique(part).tolist():
            rows = np.flatnonzero(part == value)
            present, place = np.unique(cluster[rows], return_inverse=True)
            members = csr_array((np.ones(len(rows)), (place, np.arange(len(rows)))), shape=(len(present), len(rows)))
            self._parts[value] = (rows, members, drawn[:, present].T.astype(np.float64))

    def draws(
        self,
        predictions: Floats,
        utilities: Callable[[Floats], Floats] | None = None,
        *,
        parts: Collection[int] | None = None,
    ) -> DrawnUtilities:
        """Score `predictions` [rows, predictions], as they are and in each draw, averaged over `parts` (None: all).

        `utilities` maps sums [..., 6] as in `_cluster_sums`; None: the metric's. Rows of other parts are not read.
        """
        utilities = utilities or self._utilities
        values, drawn = [], []
        for rows, members, times in (self._parts[part] for part in (self._parts if parts is None else parts)):
            sums = _cluster_sums(predictions[rows], self._target[rows], members, self._metric)
            whole = sums.sum(axis=-1)
            values.append(utilities(whole))
            drawn.append(utilities(np.moveaxis(sums @ times, 1, -1)))
        return DrawnUtilities(np.mean(values, axis=0), _mean_where_known(np.array(drawn)))

    def _utilities(self, sums: Floats) -> Floats:
        values = FROM_SUMS[self._metric.name](sums)
        return values if self._metric.greater_is_better else -values

    def compare(self, first: Floats, second: Floats, *, parts: Collection[int] | None = None) -> PairedDifference:
        """Return by how much `first` [rows] is better than `second` [rows], over `parts` or over all of them."""
        return self.draws(np.column_stack([first, second]), parts=parts).difference(0, 1)


def cluster_groups(group: NDArray[np.int32], random: np.random.Generator) -> NDArray[np.intp]:
    """Return a number for each row: that of its group, or of the cluster that its group is put into."""
    names, number = np.unique(group, return_inverse=True)
    if len(names) <= MOST_CLUSTERS:
        return number
    return np.asarray(random.permutation(len(names)) % MOST_CLUSTERS)[number]


def _cluster_sums(predictions: Floats, target: Floats, members: "csr_array", metric: Metric) -> Floats:
    """Return [predictions, 6, clusters]: count, sums of target and prediction, of their squares and product."""
    if metric.name == "spearman":
        predictions, target = np.apply_along_axis(average_ranks, 0, predictions), average_ranks(target)
    if metric.name != "rmse":
        predictions, target = predictions - predictions.mean(axis=0), target - target.mean()
    shared = [np.ones_like(target), target, target**2]
    count, x, xx = (np.broadcast_to(members @ column, (predictions.shape[1], members.shape[0])) for column in shared)
    y, yy, xy = (
        np.asarray(members @ table).T for table in (predictions, predictions**2, predictions * target[:, None])
    )
    return np.stack([count, x, y, xx, yy, xy], axis=1)


def _mean_where_known(values: Floats) -> Floats:
    """Return the mean over the first axis; a part where a draw has nothing to measure does not count in that draw."""
    known = np.isfinite(values)
    return np.asarray(np.where(known, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1))


def _correlation(sums: Floats) -> Floats:
    """Pearson from sums [..., 6]; NaN where a side does not vary."""
    count, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((xy - x * y / count) / np.sqrt((xx - x * x / count) * (yy - y * y / count)))


def _root_mean_square(sums: Floats) -> Floats:
    count, _, _, xx, yy, xy = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.sqrt(np.maximum(xx - 2.0 * xy + yy, 0.0) / count))


FROM_SUMS: dict[str, Callable[[Floats], Floats]] = {
    "pearson": _correlation,
    "spearman": _correlation,
    "rmse": _root_mean_square,
}
"""A metric from the sums of `_cluster_sums`, by name."""
