"""`GroupBootstrap`: the noise of a metric, from drawing whole groups of rows with replacement.

Rows of one group (all targets of an anchor) are hard or easy together. This is the noise of the rows that are scored;
training with another seed adds to it. Intervals use Student's t with one degree of freedom less than there are groups,
so that they are wide where groups are few.

A draw costs a sum over groups, not rows: most metrics follow from six sums of each group (`FROM_SUMS`). Where ranks
matter they are taken once. The others (`kendall`, `medae`, `average_precision`) are measured without each of some
`BLOCKS` blocks of groups, and a draw moves the metric by what its blocks moved it (the delete-a-group jackknife, Efron
1982).
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from data_prep.scoring.class_metrics import CLASS_VALUES, to_shares
from data_prep.scoring.combination import Floats
from data_prep.scoring.metrics import Metric, average_ranks, level_numbers, log_losses, midpoints

if TYPE_CHECKING:
    from scipy.sparse import csr_array

RESAMPLES = 1_000
MOST_CLUSTERS = 4_096
"""Above this many groups, several are drawn together: the noise is the same, and draws cost no more."""
BLOCKS = 40
"""As many, at most, for metrics that do not follow from sums."""


@dataclass(frozen=True)
class PairedDifference:
    """How much better one prediction is than another on the same rows, in utility, with its noise."""

    value: float
    """Positive: the first prediction is better."""
    standard_error: float
    low: float
    """Lower end of the 95 % interval."""
    high: float

    @property
    def reach(self) -> float:
        """How far the 95 % interval reaches to each side."""
        return self.high - self.value

    @property
    def is_noise(self) -> bool:
        """Whether the 95 % interval holds zero."""
        return not (self.low > 0.0 or self.high < 0.0)


@dataclass(frozen=True)
class DrawnUtilities:
    """The utilities of some predictions, as measured and in each draw."""

    value: Floats
    """[predictions]"""
    drawn: Floats
    """[predictions, resamples]"""
    n_groups: int
    """Groups that were drawn from."""

    def difference(self, first: int, second: int) -> PairedDifference:
        """Return by how much one prediction is better than another, from the same draws of both."""
        value = float(self.value[first] - self.value[second])
        error = standard_error(self.drawn[first] - self.drawn[second], self.n_groups)
        reach = reach_95(self.n_groups) * error
        return PairedDifference(value, error, value - reach, value + reach)


def standard_error(drawn: Floats, n_groups: int) -> float:
    """Return the standard error from draws [resamples]; those of `n_groups` groups spread too little by (n - 1) / n."""
    return float(np.nanstd(drawn, ddof=1)) * float(np.sqrt(n_groups / max(n_groups - 1, 1)))


def reach_95(n_groups: float) -> float:
    """Return how many standard errors a 95 % interval reaches to each side; infinite with a single group."""
    from scipy.special import stdtrit  # noqa: PLC0415 - slow to import

    return float(stdtrit(n_groups - 1, 0.975)) if n_groups > 1 else float("inf")


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
        cluster = cluster_groups(group, random, BLOCKS if metric.name not in FROM_SUMS else MOST_CLUSTERS)
        self.n_groups = n_clusters = int(cluster.max()) + 1
        drawn = _draw(n_clusters, resamples, seed)
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
        values, drawn = [], []
        for rows, members, times in (self._parts[part] for part in (self._parts if parts is None else parts)):
            if utilities is None and self._metric.name not in FROM_SUMS:
                value, moved = self._without_each(predictions[rows], self._target[rows], members)
                drawn.append(value[:, None] + moved @ (times - 1.0))
            else:
                sums = _cluster_sums(predictions[rows], self._target[rows], members, self._metric)
                value = (utilities or self._utilities)(sums.sum(axis=-1))
                drawn.append((utilities or self._utilities)(np.moveaxis(sums @ times, 1, -1)))
            values.append(value)
        return DrawnUtilities(np.mean(values, axis=0), _mean_where_known(np.array(drawn)), self.n_groups)

    def _utilities(self, sums: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):  # a draw may hold no row of a part
            values = FROM_SUMS[self._metric.name](sums)
        return values if self._metric.greater_is_better else -values

    def _without_each(self, predictions: Floats, target: Floats, members: "csr_array") -> tuple[Floats, Floats]:
        """Return utilities [predictions], and by how much each block moves them, [predictions, blocks]."""
        value, moved = np.empty(predictions.shape[1]), np.empty((predictions.shape[1], members.shape[0]))
        left = [np.flatnonzero(members[[block]].toarray()[0] == 0.0) for block in range(members.shape[0])]
        for place, column in enumerate(predictions.T):
            value[place] = self._metric.utility(self._metric(target, column))
            without = [
                self._metric.utility(self._metric(target[rows], column[rows])) if len(rows) else np.nan for rows in left
            ]
            moved[place] = (value[place] - np.array(without)) * (1.0 - 1.0 / len(left))
        return value, np.nan_to_num(moved)

    def compare(self, first: Floats, second: Floats, *, parts: Collection[int] | None = None) -> PairedDifference:
        """Return by how much `first` [rows] is better than `second` [rows], over `parts` or over all of them."""
        return self.draws(np.column_stack([first, second]), parts=parts).difference(0, 1)


@lru_cache(maxsize=2)
def _draw(n_clusters: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """Return how often each cluster is drawn, [resamples, clusters]."""
    random = np.random.default_rng(seed)
    return random.multinomial(n_clusters, np.full(n_clusters, 1.0 / n_clusters), size=resamples)


def cluster_groups(
    group: NDArray[np.int32], random: np.random.Generator, most: int = MOST_CLUSTERS
) -> NDArray[np.intp]:
    """Return a number for each row: that of its group, or of the one of `most` clusters that its group is put into."""
    names, number = np.unique(group, return_inverse=True)
    if len(names) <= most:
        return number
    return np.asarray(random.permutation(len(names)) % most)[number]


def _cluster_sums(predictions: Floats, target: Floats, members: "csr_array", metric: Metric) -> Floats:
    """Return [predictions, 6, clusters]: count, sums of target and prediction, of their squares and product."""
    if metric.name in RANKED:
        predictions = np.apply_along_axis(average_ranks, 0, predictions) / len(target)
        target = average_ranks(target) if metric.name == "spearman" else (target == target.max()).astype(np.float64)
    elif metric.decides:
        cuts = midpoints(metric.levels or np.unique(target))
        predictions, target = level_numbers(predictions, cuts), level_numbers(target, cuts)
    if metric.name in ROW_VALUES:
        predictions, target = ROW_VALUES[metric.name](target[:, None], predictions), np.zeros_like(target)
    elif metric.name in CLASS_VALUES:
        predictions, target = _class_values(predictions, target, metric), np.zeros_like(target)
    elif metric.is_correlation:
        predictions, target = predictions - predictions.mean(axis=0), target - target.mean()
    shared = [np.ones_like(target), target, target**2]
    count, x, xx = (np.broadcast_to(members @ column, (predictions.shape[1], members.shape[0])) for column in shared)
    y, yy, xy = (
        np.asarray(members @ table).T for table in (predictions, predictions**2, predictions * target[:, None])
    )
    return np.stack([count, x, y, xx, yy, xy], axis=1)


def _class_values(predictions: Floats, target: Floats, metric: Metric) -> Floats:
    """Return the value of each row of classes, for each of its numbers, [rows * classes, predictions]."""
    shares, measure = target.reshape(-1, metric.n_classes), CLASS_VALUES[metric.name]
    values = [measure(shares, to_shares(column.reshape(shares.shape))) for column in predictions.T]
    return np.repeat(np.column_stack(values), metric.n_classes, axis=0)


def metric_of_counts(counts: Floats, metric: Metric) -> Floats:
    """Return a metric of levels [...] from the numbers of rows, `counts` [..., target level, decided level]."""
    levels = np.indices(counts.shape[-2:], dtype=np.float64)
    target, decision = levels[0], levels[1]
    if metric.name in ROW_VALUES:
        target, decision = np.zeros_like(target), ROW_VALUES[metric.name](target, decision)
    terms = (np.ones_like(target), target, decision, target**2, decision**2, target * decision)
    sums = np.stack([(counts * term).sum(axis=(-2, -1)) for term in terms], axis=-1)
    return np.asarray(FROM_SUMS[metric.name](sums))


def _mean_where_known(values: Floats) -> Floats:
    """Return the mean over the first axis; a part where a draw has nothing to measure does not count in that draw."""
    known = np.isfinite(values)
    return np.asarray(np.where(known, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1))


def _quotient(over: Floats, under: Floats) -> Floats:
    """Return over / under, NaN where that is not positive."""
    return np.asarray(np.where(under > 0.0, over / np.where(under > 0.0, under, 1.0), np.nan))


def _correlation(sums: Floats) -> Floats:
    """Pearson from sums [..., 6]; NaN where a side does not vary."""
    count, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    return _quotient(xy - x * y / count, np.sqrt(np.maximum((xx - x * x / count) * (yy - y * y / count), 0.0)))


def _squared_error(sums: Floats) -> Floats:
    count, _, _, xx, yy, xy = np.moveaxis(sums, -1, 0)
    return _quotient(np.maximum(xx - 2.0 * xy + yy, 0.0), count)


def _explained(sums: Floats) -> Floats:
    count, x, _, xx, yy, xy = np.moveaxis(sums, -1, 0)
    return 1.0 - _quotient(xx - 2.0 * xy + yy, xx - x * x / count)


def _kappa(sums: Floats) -> Floats:
    count, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    return 1.0 - _quotient(xx - 2.0 * xy + yy, xx + yy - 2.0 * x * y / count)


def _ranked_above(sums: Floats) -> Floats:
    """AUC from targets 0 or 1 and ranks as shares: half, and how far the mean rank of ones lies above that of all."""
    count, x, y, _, _, xy = np.moveaxis(sums, -1, 0)
    return 0.5 + _quotient(xy / np.maximum(x, 1.0) - y / count, 1.0 - x / count)


ROW_VALUES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "mae": lambda target, prediction: np.abs(target - prediction),
    "log_loss": log_losses,
    "accuracy": lambda target, decision: (target == decision).astype(np.float64),
}
"""Metrics that are means over rows: the value of each row."""
RANKED = ("spearman", "auc")
"""Metrics of ranks, which are taken once, inside each part that is scored."""
FROM_SUMS: dict[str, Callable[[Floats], Floats]] = {
    "pearson": _correlation,
    "spearman": _correlation,
    "auc": _ranked_above,
    "mse": _squared_error,
    "rmse": lambda sums: np.sqrt(_squared_error(sums)),
    "r2": _explained,
    "qwk": _kappa,
    "f1": lambda sums: _quotient(2.0 * sums[..., 5], sums[..., 1] + sums[..., 2]),
    **dict.fromkeys((*ROW_VALUES, *CLASS_VALUES), lambda sums: _quotient(sums[..., 2], sums[..., 0])),
}
"""A metric from the sums of `_cluster_sums`, by name."""
