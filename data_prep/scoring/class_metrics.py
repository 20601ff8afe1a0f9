"""The metrics of classes: truth and prediction are tables [rows, classes], of shares and of probabilities."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEAST_PROBABILITY = 1e-15
"""Log loss takes no probability to be nearer to 0 or 1 than this."""

MAP_SIZES = (3, 5, 10)
"""For how many classes named there is a `map@`."""


def multiclass_log_loss(shares: ArrayLike, probabilities: ArrayLike) -> float:
    """Cross-entropy of shares and probabilities of classes, [rows, classes] each; scaled so that each row sums to 1."""
    return float(np.mean(class_log_losses(*_share_pair(shares, probabilities))))


def multiclass_accuracy(shares: ArrayLike, probabilities: ArrayLike) -> float:
    """Share of rows whose most probable class is that with the greatest share."""
    x, p = _share_pair(shares, probabilities)
    return float("nan") if _unknown(x, p) else float(np.mean(class_hits(x, p)))


def macro_f1(shares: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean over classes of the F1 of the most probable class; one that is neither there nor decided does not count."""
    x, p = _share_pair(shares, probabilities)
    if _unknown(x, p):
        return float("nan")
    truth, decided = (np.eye(x.shape[1])[values.argmax(axis=1)] for values in (x, p))
    size = truth.sum(axis=0) + decided.sum(axis=0)
    return float(np.mean(2.0 * (truth * decided).sum(axis=0)[size > 0.0] / size[size > 0.0]))


def map_at(most: int, shares: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean over rows of 1 / rank of the class with the greatest share, among the `most` most probable; else 0."""
    x, p = _share_pair(shares, probabilities)
    return float("nan") if _unknown(x, p) else float(np.mean(class_precisions(most, x, p)))


def class_log_losses(shares: NDArray[np.float64], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cross-entropy of each row."""
    return np.asarray(-(shares * np.log(np.maximum(probabilities, LEAST_PROBABILITY))).sum(axis=1))


def class_hits(shares: NDArray[np.float64], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 for each row whose most probable class is that with the greatest share, else 0."""
    return np.asarray(shares.argmax(axis=1) == probabilities.argmax(axis=1), dtype=np.float64)


def class_precisions(most: int, shares: NDArray[np.float64], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 / rank for each row of the class with the greatest share, 0 if it is not among the `most` probable."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :most]
    hits = order == shares.argmax(axis=1)[:, None]
    return np.asarray((hits / np.arange(1, order.shape[1] + 1)).sum(axis=1))


def to_shares(values: ArrayLike) -> NDArray[np.float64]:
    """Return probabilities [rows, classes] that sum to 1: negative ones become 0, a row without any, all the same."""
    positive = np.maximum(np.asarray(values, dtype=np.float64), 0.0)
    total = positive.sum(axis=1, keepdims=True)
    return np.where(total == 0.0, 1.0 / positive.shape[1], positive / np.where(total == 0.0, 1.0, total))


CLASS_VALUES: dict[str, Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]] = {
    "multiclass_log_loss": class_log_losses,
    "multiclass_accuracy": class_hits,
    **{f"map@{most}": partial(class_precisions, most) for most in MAP_SIZES},
}
"""Metrics that are means over rows: the value of each row, for shares and probabilities that sum to 1."""


def _unknown(shares: NDArray[np.float64], probabilities: NDArray[np.float64]) -> bool:
    return bool(np.isnan(shares).any() or np.isnan(probabilities).any())


def _share_pair(shares: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, p = np.asarray(shares, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    if x.shape != p.shape or x.ndim != 2 or x.size == 0:
        raise ValueError(f"a metric of classes takes two tables [rows, classes] alike, got {x.shape} and {p.shape}")
    return x, to_shares(p)
