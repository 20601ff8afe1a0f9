"""The active-set optimum against the one that `blend` uses, and against its own optimality conditions."""

import numpy as np
import pytest

from data_prep.scoring.moments import Moments, best_nonnegative_weights, moments, pearson_of
from search.ladder import blend_optimum as optimum
from search.ladder.blend_optimum import Products, RowProducts, SparseWeights, best_from, widen


def made_up(seed: int) -> Moments:
    """Columns with shared errors; in every third case with copies and sums of others, in every seventh a constant."""
    generator = np.random.default_rng(seed)
    n_columns = int(generator.integers(1, 25))
    n_rows = int(generator.integers(n_columns + 4, 80))
    score = generator.normal(size=n_rows)
    shared = generator.normal(size=(n_rows, 1)) * generator.normal(size=n_columns)
    own = generator.normal(size=(n_rows, n_columns)) * generator.uniform(0.1, 3)
    columns = score[:, None] * generator.uniform(-0.5, 2, size=n_columns) + shared + own
    if n_columns > 3 and seed % 3 == 0:
        columns[:, 1], columns[:, 2] = columns[:, 0], 2 * columns[:, 0] + columns[:, 3] / 2
    if seed % 7 == 0:
        columns[:, 0] = 1.0
    return moments(columns, score)


def products_of(table: Moments) -> Products:
    def block(some: np.ndarray, others: np.ndarray) -> np.ndarray:
        return table.gram[np.ix_(some, others)]

    return Products([RowProducts(table.cross, table.gram.diagonal(), table.square, block)])


def somewhere(table: Moments, seed: int) -> SparseWeights:
    generator = np.random.default_rng(seed + 1)
    support = generator.permutation(len(table.cross))[:3].astype(np.intp)
    return SparseWeights(support, generator.uniform(0.1, 1.0, len(support)))


@pytest.mark.parametrize("warm", [False, True])
def test_it_reaches_the_same_pearson_as_from_the_eigenvectors(warm: bool) -> None:
    for seed in range(300):
        table = made_up(seed)
        products = products_of(table)
        blend = best_from(products, somewhere(table, seed) if warm else SparseWeights.none())
        expected = np.nan_to_num(pearson_of(table, best_nonnegative_weights(table)))
        assert products.pearson(blend) == pytest.approx(expected, abs=1e-10), seed
        assert (blend.weights > 0).all()
        assert products.gradient(blend).max() < 1e-8, "nothing outside would raise it"
        assert abs(products.gradient(blend)[blend.support]).max(initial=0.0) < 1e-8


@pytest.mark.parametrize("guesses", [0, 1, optimum._GUESSES])
def test_many_columns_at_once_are_each_worth_what_they_are_alone(monkeypatch, guesses: int) -> None:
    monkeypatch.setattr(optimum, "_GUESSES", guesses)
    seen = set()
    for seed in range(300):
        table = made_up(seed)
        n_columns = len(table.cross)
        n_members = n_columns // 2
        columns = np.arange(n_members, n_columns)
        if not n_members:
            continue
        blend = best_from(products_of(table.of(range(n_members))), SparseWeights.none())
        wider = widen(products_of(table), blend, columns)
        found = products_of(table).pearson_of_each(wider)
        places = {column: place for place, column in enumerate(wider.columns.tolist())}
        for column in columns.tolist():
            alone, place = table.of([*range(n_members), column]), places.get(column)
            weights = best_nonnegative_weights(alone)
            assert (place is not None) == bool(weights[-1] > 1e-9), seed
            if place is None:
                seen.add((False, True))
                continue
            assert found[place] == pytest.approx(pearson_of(alone, weights), abs=1e-10), seed
            kept = set(wider.support[wider.weights[:, place] > 0].tolist())
            seen.add((True, kept == set(blend.support.tolist())))
    assert {(True, True), (True, False), (False, True)} <= seen, "some push others out, or bring them in"


def test_weights_follow_their_columns_to_new_numbers() -> None:
    blend = SparseWeights(np.array([0, 2]), np.array([0.25, 0.75])).renumbered(["a", "b", "c"], ["c", "d", "b"])
    assert blend.support.tolist() == [0]
    assert blend.weights.tolist() == [0.75]
