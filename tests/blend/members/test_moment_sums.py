import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blend.members.moment_sums import measure, total


@given(seed=st.integers(0, 10_000), n_parts=st.integers(1, 5), offset=st.sampled_from([0.0, 1e6]))
def test_sums_of_parts_are_those_of_all_rows(seed: int, n_parts: int, offset: float) -> None:
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 30, n_parts)
    columns = random.normal(size=(sizes.sum(), 3)) + offset
    score = random.normal(size=sizes.sum()) + np.repeat(np.arange(n_parts), sizes)
    ends = np.cumsum(sizes)[:-1]
    found = total(map(measure, np.split(columns, ends), np.split(score, ends)))
    whole = measure(columns, score)
    assert found.count == whole.count
    np.testing.assert_allclose(found.mean, whole.mean, rtol=1e-12)
    assert found.target_mean == pytest.approx(whole.target_mean)
    np.testing.assert_allclose(found.centred.gram, whole.centred.gram, atol=1e-6)
    np.testing.assert_allclose(found.centred.cross, whole.centred.cross, atol=1e-6)
    assert found.centred.square == pytest.approx(whole.centred.square)


def test_some_columns() -> None:
    random = np.random.default_rng(0)
    columns, score = random.normal(size=(20, 4)), random.normal(size=20)
    found, expected = measure(columns, score).of([3, 1]), measure(columns[:, [3, 1]], score)
    np.testing.assert_allclose(found.centred.gram, expected.centred.gram)
    np.testing.assert_allclose(found.mean, expected.mean)
