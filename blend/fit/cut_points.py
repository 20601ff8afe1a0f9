"""Cut points: where a prediction turns from one level of the task into the next, chosen for the task's metric."""

import numpy as np
from numpy.typing import NDArray

from data_prep.scoring.combination import Floats
from data_prep.scoring.group_bootstrap import metric_of_counts
from data_prep.scoring.metrics import Metric, level_numbers, midpoints

STEPS = 200
"""Cut points are midpoints between levels, or quantiles of the predictions in so many steps."""
ROUNDS = 10


def fit_cuts(prediction: Floats, target: Floats, metric: Metric) -> Floats:
    """Return the cut points [levels - 1] that serve a metric best on these rows, moved one by one until none gains.

    It starts from the midpoints between levels, and from cuts that give each level as many rows as the target has.
    """
    middle = midpoints(metric.levels)
    truth = level_numbers(target, middle).astype(np.intp)
    grid = np.unique(np.concatenate([middle, np.quantile(prediction, np.linspace(0.0, 1.0, STEPS + 1))]))
    below = np.zeros((len(middle) + 1, len(grid) + 2))
    """Rows of each level whose prediction is below each grid value; at the ends none, and all."""
    np.add.at(below, (truth, np.searchsorted(grid, prediction, side="right") + 1), 1.0)
    below = np.cumsum(below, axis=1)
    as_many = np.quantile(prediction, np.cumsum(below[:, -1])[:-1] / len(target))
    starts = [np.searchsorted(grid, start) + 1 for start in (middle, np.minimum(as_many, grid[-1]))]
    places, _ = max((_improved(start, below, metric) for start in starts), key=lambda found: found[1])
    return np.asarray(grid[places - 1])


def _improved(places: NDArray[np.intp], below: Floats, metric: Metric) -> tuple[NDArray[np.intp], float]:
    """Return better places of the cuts in the columns of `below`, and their utility."""
    best = float(_utilities(places[None], below, metric)[0])
    for _ in range(ROUNDS):
        before = best
        for cut in range(len(places)):
            low = places[cut - 1] if cut else 1
            high = places[cut + 1] if cut + 1 < len(places) else below.shape[1] - 2
            tried = np.repeat(places[None], high - low + 1, axis=0)
            tried[:, cut] = np.arange(low, high + 1)
            utilities = _utilities(tried, below, metric)
            if utilities.max() > best:
                best, places = float(utilities.max()), tried[int(np.argmax(utilities))]
        if best == before:
            break
    return places, best


def _utilities(places: NDArray[np.intp], below: Floats, metric: Metric) -> Floats:
    """Return the utility [k] of cuts at `places` [k, levels - 1]."""
    ends = np.zeros((len(places), 1), dtype=np.intp)
    edges = np.concatenate([ends, places, ends + below.shape[1] - 1], axis=1)
    counts = np.diff(below[:, edges], axis=2).transpose(1, 0, 2)  # [k, levels, decisions]
    values = metric_of_counts(counts, metric)
    return np.where(np.isfinite(values), values if metric.greater_is_better else -values, -np.inf)
