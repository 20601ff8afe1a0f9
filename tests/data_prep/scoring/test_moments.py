import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import pearsonr

from data_prep.scoring.moments import best_nonnegative_weights, moments, pearson_of


def columns(seed: int, n_columns: int, n_rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    score = generator.normal(size=n_rows)
    skill = generator.uniform(-0.3, 2, n_columns)
    return score[:, None] * skill + generator.normal(size=(n_rows, n_columns)) * 3 + 7, score


@pytest.mark.parametrize("seed", range(5))
def test_pearson_of_a_weighted_sum_is_scipys(seed: int) -> None:
    predictions, score = columns(seed, 4)
    weights = np.random.default_rng(seed).uniform(size=4)
    expected = pearsonr(predictions @ weights, score).statistic
    assert pearson_of(moments(predictions, score), weights) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_best_weights_beat_a_general_optimiser(seed: int) -> None:
    predictions, score = columns(seed, 5)
    table = moments(predictions, score)
    weights = best_nonnegative_weights(table)
    found = minimize(lambda w: -pearson_of(table, w), np.full(5, 0.2), bounds=[(0, 1)] * 5, method="L-BFGS-B")
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    assert pearson_of(table, weights) >= -found.fun - 1e-9


def test_copies_and_constant_columns_do_no_harm() -> None:
    predictions, score = columns(1, 2)
    padded = np.column_stack([predictions, predictions[:, 0] * 3 - 1, np.full(len(score), 0.5)])
    table = moments(padded, score)
    best = pearson_of(moments(predictions, score), best_nonnegative_weights(moments(predictions, score)))
    weights = best_nonnegative_weights(table)
    assert weights[3] == 0
    assert pearson_of(table, weights) == pytest.approx(best, abs=1e-9)


def test_columns_against_the_score_get_no_weight() -> None:
    _, score = columns(1, 1)
    table = moments(-score[:, None], score)
    assert best_nonnegative_weights(table).tolist() == [0.0]
    assert np.isnan(pearson_of(table, [0.0]))


def test_moments_of_parts_add_up_and_select() -> None:
    predictions, score = columns(2, 3)
    centred = [part - part.mean(axis=0) for part in np.split(predictions, [100])]
    truths = [part - part.mean() for part in np.split(score, [100])]
    whole = moments(predictions[:100], score[:100]) + moments(predictions[100:], score[100:])
    stacked, truth = np.vstack(centred), np.concatenate(truths)
    np.testing.assert_allclose(whole.gram, stacked.T @ stacked)
    np.testing.assert_allclose(whole.of([2, 0]).cross, stacked[:, [2, 0]].T @ truth)


def test_shapes_must_fit() -> None:
    with pytest.raises(ValueError, match=r"moments need \[rows, columns\] and \[rows\], got \(3,\) and \(3,\)"):
        moments(np.arange(3.0), np.arange(3.0))
