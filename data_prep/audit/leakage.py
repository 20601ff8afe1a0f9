"""How much a leaky split inflates CV, measured with a nearest-neighbour model.

It only looks up rows with similar letters; what it gains over the safest scheme, any model could by memorizing.
"""

from contextlib import suppress

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

from data_prep.errors import InputError
from data_prep.frozen_record import FrozenRecord
from data_prep.prepare.folds import GROUPED_SCHEMES, SCHEMES, number_by_appearance, split_rows
from data_prep.targets.target_columns import numbers_of
from data_prep.task import Task

N_NEIGHBOURS = 20
SHARPNESS = 8
"""Power of the similarity in a neighbour's weight: one near copy must outweigh twenty loose matches."""
POOL_ROWS = 40_000
"""At most this many rows serve as neighbours; from a larger table, whole groups are drawn."""
SCORED_ROWS = 8_000
"""At most this many rows are predicted, the same under every scheme."""
BATCH_ROWS = 500
N_RESAMPLES = 200

Floats = NDArray[np.float64]


class SchemeLeakage(FrozenRecord):
    """The nearest-neighbour model under one scheme."""

    scheme: str
    metric: float
    """The task's metric over all predicted rows, each predicted from the other folds."""
    inflation: float
    """How much better than under the reference scheme, in units of the metric."""
    standard_error: float
    """Of the inflation, from resampling whole groups of rows."""


class Leakage(FrozenRecord):
    """Every scheme compared with the safest one."""

    reference: str
    """The safest scheme that the task's columns and the number of rows allow."""
    pool_rows: int
    scored_rows: int
    schemes: tuple[SchemeLeakage, ...]


def measure_leakage(
    table: pa.Table,
    task: Task,
    *,
    n_folds: int,
    seed: int,
    pool_rows: int = POOL_ROWS,
    scored_rows: int = SCORED_ROWS,
    batch_rows: int = BATCH_ROWS,
) -> Leakage:
    """Predict the same rows with the same nearest-neighbour model under every scheme, `batch_rows` at once."""
    generator = np.random.default_rng(seed)
    pool = _draw_groups(table["group"].to_numpy(), pool_rows, generator)
    table = table.take(pa.array(pool))
    targets = numbers_of(table, "score", task.target.names).astype(np.float64)
    split_by = task.target.one_number(targets.astype(np.float32))
    groups = number_by_appearance(table["group"].to_numpy())
    folds = {}
    for name in SCHEMES if task.group_column else [name for name in SCHEMES if name not in GROUPED_SCHEMES]:
        with suppress(InputError):  # the rows are too few for this scheme
            folds[name] = split_rows(name, targets=split_by, groups=groups, task=task, n_folds=n_folds, seed=seed)
    rows = np.sort(generator.choice(len(targets), min(scored_rows, len(targets)), replace=False))
    known = np.where(np.isnan(targets), np.nanmean(targets, axis=0), targets)
    predictions = _predict(_features(table, task), known, rows, folds, batch_rows)
    measured = _compare(task, targets[rows], groups[rows], predictions, generator)
    return Leakage(reference=list(folds)[-1], pool_rows=len(targets), scored_rows=len(rows), schemes=measured)


def _draw_groups(groups: NDArray[np.int32], n_rows: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return rows of whole groups, drawn at random, at most `n_rows` of them (but at least one group)."""
    sizes = np.bincount(groups)
    order = generator.permutation(len(sizes))
    n_drawn = max(1, int((np.cumsum(sizes[order]) <= n_rows).sum()))
    return np.flatnonzero(np.isin(groups, order[:n_drawn]))


def _features(table: pa.Table, task: Task) -> csr_matrix:
    """Return tf-idf [rows, n-grams] with unit rows; the second (or only) text counts twice: groups share the rest."""
    scored = task.text_columns[:2][-1]
    columns = [table[name].to_pylist() for name in (*task.text_columns, scored)]
    texts = [" | ".join(parts) for parts in zip(*columns, strict=True)]
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, min_df=2, dtype=np.float32)
    return csr_matrix(vectorizer.fit_transform(texts))


def _predict(
    features: csr_matrix, targets: Floats, rows: NDArray[np.int64], folds: dict[str, NDArray[np.int8]], batch_rows: int
) -> dict[str, Floats]:
    """Predict the targets of `rows` from their nearest neighbours in the other folds of each scheme."""
    predictions = {scheme: np.empty((len(rows), *targets.shape[1:])) for scheme in folds}
    transposed = features.T.tocsr()
    for start in range(0, len(rows), batch_rows):
        part = slice(start, start + batch_rows)
        batch = rows[part]
        similarity = (features[batch] @ transposed).toarray()
        for scheme, fold in folds.items():
            allowed = np.where(fold[batch][:, None] == fold[None, :], np.float32(-1), similarity)
            predictions[scheme][part] = _vote(allowed, targets)
    return predictions


def _vote(similarity: NDArray[np.float32], targets: Floats) -> Floats:
    """Return the weighted mean targets of each row's nearest neighbours; similarity -1: may not be used."""
    nearest = np.argpartition(similarity, -min(N_NEIGHBOURS, similarity.shape[1]), axis=1)[:, -N_NEIGHBOURS:]
    near = np.take_along_axis(similarity, nearest, axis=1)
    weights = np.where(near < 0, 0.0, np.maximum(near, 1e-3) ** SHARPNESS)
    means = [(weights * column[nearest]).sum(axis=1) / weights.sum(axis=1) for column in np.atleast_2d(targets.T)]
    return np.column_stack(means) if targets.ndim == 2 else np.asarray(means[0], np.float64)


def _compare(
    task: Task,
    targets: Floats,
    groups: NDArray[np.int32],
    predictions: dict[str, Floats],
    generator: np.random.Generator,
) -> tuple[SchemeLeakage, ...]:
    reference = list(predictions)[-1]
    measure = task.measure
    members = np.split(np.argsort(groups, kind="stable"), np.cumsum(np.unique(groups, return_counts=True)[1])[:-1])
    gains: dict[str, list[float]] = {scheme: [] for scheme in predictions}
    for _ in range(N_RESAMPLES):
        drawn = np.concatenate([members[index] for index in generator.integers(len(members), size=len(members))])
        values = {name: measure.utility(measure(targets[drawn], made[drawn])) for name, made in predictions.items()}
        for name, value in values.items():
            gains[name].append(value - values[reference])
    found = {name: measure(targets, made) for name, made in predictions.items()}
    return tuple(
        SchemeLeakage(
            scheme=name,
            metric=found[name],
            inflation=measure.utility(found[name]) - measure.utility(found[reference]),
            standard_error=float(np.std(gains[name], ddof=1)),
        )
        for name in predictions
    )
