"""The influence of each member: how stable its weight is, what dropping it costs, whose errors it shares."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from blend.blend_record import SpreadRecord
from blend.fit.makings import Making, SeenRows
from blend.fit.tournament import play
from data_prep.scoring.combination import Floats
from data_prep.scoring.group_bootstrap import GroupBootstrap, PairedDifference, cluster_groups
from data_prep.scoring.moments import Moments, best_nonnegative_weights

WEIGHT_RESAMPLES = 200


def weight_spread(columns: Floats, target: Floats, group: NDArray[np.int32], *, seed: int = 0) -> list[SpreadRecord]:
    """Return how each member's weight spreads over bootstrap draws of groups; `columns` [rows, members], scaled."""
    random = np.random.default_rng(seed)
    cluster = cluster_groups(group, random)
    products = _cluster_products(columns, target, cluster)
    n_clusters = len(products)
    weights = np.empty((WEIGHT_RESAMPLES, columns.shape[1]))
    for draw in range(WEIGHT_RESAMPLES):
        times = np.bincount(random.integers(0, n_clusters, n_clusters), minlength=n_clusters)
        weights[draw] = best_nonnegative_weights(_centred(np.tensordot(times.astype(np.float64), products, 1)))
    low, high = np.quantile(weights, [0.05, 0.95], axis=0)
    spreads = np.column_stack([weights.mean(axis=0), low, high, (weights > 0).mean(axis=0)])
    return [
        SpreadRecord(mean=mean, low=least, high=most, present=present)
        for mean, least, most, present in spreads.tolist()
    ]


def _cluster_products(columns: Floats, target: Floats, cluster: NDArray[np.intp]) -> Floats:
    """Return each cluster's sum of z z' [clusters, 2 + members, 2 + members], z = (1, target, columns) about means."""
    middle, target_mean = columns.mean(axis=0), target.mean()
    order = np.argsort(cluster, kind="stable")
    ends = np.cumsum(np.bincount(cluster))
    products = np.empty((len(ends), 2 + columns.shape[1], 2 + columns.shape[1]))
    for number, rows in enumerate(np.split(order, ends[:-1])):
        z = np.column_stack([np.ones(len(rows)), target[rows] - target_mean, columns[rows] - middle])
        products[number] = z.T @ z
    return products


def _centred(products: Floats) -> Moments:
    """Return the moments of rows from the sum of their z z' [2 + members, 2 + members]."""
    sums = products[0, 1:]
    centred = products[1:, 1:] - np.outer(sums, sums) / products[0, 0]
    return Moments(centred[1:, 1:], centred[0, 1:], float(centred[0, 0]))


def drop_costs(
    rows: SeenRows, making: Making, members: Sequence[int], bootstrap: GroupBootstrap
) -> list[PairedDifference]:
    """Return how much worse (positive) the nested metric gets without each of several candidates, made the same way."""
    whole = play(rows, [making]).nested[:, 0]
    costs = []
    for member in members:
        left = np.delete(np.arange(rows.columns.shape[1]), member)
        costs.append(bootstrap.compare(whole, play(rows.of(left), [making.of(left)]).nested[:, 0]))
    return costs


def error_correlations(table: Moments) -> Floats:
    """Return how the members' errors correlate, [members, members]; each on its own least-squares line to the target.

    The error of column j is y - y x_j / (x_j x_j) x_j in centred values, so products of errors follow from moments.
    """
    slope = table.cross / np.diag(table.gram)
    explained = slope * table.cross
    products = table.square - explained[:, None] - explained + np.outer(slope, slope) * table.gram
    size = np.sqrt(np.diag(products))
    return np.asarray(products / np.outer(size, size))
