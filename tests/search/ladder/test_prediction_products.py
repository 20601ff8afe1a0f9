"""Columns and their products against plain matrix products, and what they take of memory."""

import tracemalloc

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from search.ladder.blend_gain import BlendEvidence
from search.ladder.prediction_products import KeptProducts, PredictionProducts

steps = st.lists(st.one_of(st.integers(1, 90), st.just("ask")), min_size=1, max_size=12)
"""So many columns come, or something is asked."""


def plain(columns: list[np.ndarray], rows: np.ndarray) -> np.ndarray:
    table = np.array(columns, dtype=np.float64)[:, rows]
    return table - table.mean(axis=1, keepdims=True)


@settings(max_examples=60, deadline=None)
@given(steps, st.integers(0, 2**32 - 1))
def test_products_are_those_of_centred_columns_whatever_was_asked_before(script: list[str | int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows, score = np.sort(generator.permutation(40)[:23]), generator.normal(size=40)
    columns = PredictionProducts(rows, score)
    kept, seen = KeptProducts(columns), [(1000 + generator.normal(size=40)).astype(np.float32)]
    kept.add(seen[0])
    for step in script:
        if isinstance(step, int):
            new = (1000 + generator.normal(size=(step, 40))).astype(np.float32)
            seen.extend(new)
            for column in new:
                kept.add(column)
            continue
        some, others = (generator.integers(len(seen), size=generator.integers(len(seen) + 1)) for _ in range(2))
        if generator.random() < 0.5:
            kept.keep(generator.choice([*some, 0], size=2))
        if generator.random() < 0.3:
            kept.keep(others)
        table = plain(seen, rows)
        for source in (columns, kept):
            np.testing.assert_allclose(source.products(some, others), table[some] @ table[others].T, atol=1e-9)
    everywhere, table = np.arange(len(seen)), plain(seen, rows)
    assert len(columns) == len(seen)
    np.testing.assert_allclose(columns.cross(everywhere), table @ (score[rows] - score[rows].mean()), atol=1e-9)
    np.testing.assert_allclose(columns.diagonal(everywhere), (table**2).sum(axis=1), atol=1e-9)


def grown_by(n_candidates: int, n_members: int) -> int:
    """Return the bytes that the predictions of some candidates take, with those of some in a blend."""
    generator = np.random.default_rng(0)
    score = generator.normal(size=200)
    evidence, names = BlendEvidence(), [f"c{number}" for number in range(n_candidates)]
    tracemalloc.start()
    for name in names:
        evidence.add(name, 0, (score + generator.normal(size=200)).astype(np.float32), score, None)
    evidence.gains(names[n_members:], names[:n_members], [0])
    evidence.best_blend(names, [0])
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size


def test_memory_grows_as_the_predictions_do_and_not_as_their_square() -> None:
    few, many = grown_by(300, 10), grown_by(1200, 10)
    assert many < 1200 * (4 * 200 + 800), "single precision, and some room for names, gains and the members' products"
    assert many < 5 * few
