"""The residual of candidate and fold effects, against ordinary least squares with one column an effect."""

import csv
from pathlib import Path

import numpy as np
import pytest

from least_squares import residual_by_least_squares
from search.ladder.decisions import FoldRun
from search.ladder.fold_ladder import FoldLadder
from search.ladder.fold_utilities import FoldUtilities
from search.ladder.settings import LadderSettings

MEMO = Path(__file__).parents[4] / "shared" / "data" / "memo" / "curves.csv"


def table_of(values: np.ndarray, seed: int = 0) -> FoldUtilities:
    """Put the known cells in random order."""
    table = FoldUtilities(values.shape[1])
    cells = np.argwhere(~np.isnan(values))
    for row, fold in np.random.default_rng(seed).permutation(cells):
        table.put(int(row), int(fold), float(values[row, fold]))
    return table


@pytest.mark.parametrize("seed", range(30))
def test_the_residual_is_that_of_least_squares_with_cells_missing(seed: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.normal(0.8, 0.02, size=(int(generator.integers(2, 12)), int(generator.integers(2, 6))))
    values[generator.random(values.shape) < generator.uniform(0, 0.7)] = np.nan
    squares, freedom = residual_by_least_squares(values)
    found = table_of(values).residual()
    assert found[1] == freedom
    assert found[0] == pytest.approx(squares if freedom else 0.0, abs=1e-12)


def test_folds_that_no_candidate_joins_are_told_apart() -> None:
    values = np.full((4, 4), np.nan)
    values[:2, :2] = [[0.8, 0.7], [0.81, 0.72]]
    values[2:, 2:] = [[0.6, 0.5], [0.61, 0.53]]
    assert residual_by_least_squares(values)[1] == 2
    assert table_of(values).residual() == pytest.approx((0.01**2 / 2 / 2 + 0.02**2 / 2 / 2, 2), abs=1e-12)


def test_hard_folds_and_weak_candidates_leave_nothing() -> None:
    values = np.add.outer(np.arange(7) / 100, np.arange(5) / 10)
    assert table_of(values).residual() == pytest.approx((0.0, 24), abs=1e-12)


def test_a_candidate_left_out_does_not_count() -> None:
    values = np.random.default_rng(0).normal(size=(5, 4))
    table = table_of(values)
    table.forget(3)
    assert table.residual() == pytest.approx(residual_by_least_squares(np.delete(values, 3, axis=0)), abs=1e-12)


def test_the_best_is_over_exactly_the_folds_asked() -> None:
    values = np.array([[0.9, 0.1, np.nan], [0.5, 0.6, 0.7], [0.5, np.nan, 0.9], [0.5, 0.6, 0.7]])
    table = table_of(values)
    assert table.best_over([0, 1, 2, 3], [0]) == 0
    assert table.best_over([1, 2, 3], [0, 2]) == 2
    assert table.best_over([0, 1, 2, 3], [0, 1, 2]) == 1, "the first of equals"
    assert table.best_over([0, 2], [0, 1, 2]) is None
    assert table.best_over([], [0]) is None


def told(values: np.ndarray, settings: LadderSettings) -> FoldLadder:
    ladder = FoldLadder(settings, n_folds=values.shape[1])
    for fold in range(values.shape[1]):
        for row in range(len(values)):
            ladder.finish(FoldRun(f"c{row}", "bert", fold), float(values[row, fold]), None, None)
    return ladder


def test_the_band_is_the_prior_until_folds_are_shared_and_the_data_in_the_end() -> None:
    generator = np.random.default_rng(1)
    values = 0.8 + 0.01 * generator.normal(size=(300, 1)) + 0.1 * np.arange(5) + 0.003 * generator.normal(size=(300, 5))
    assert told(values[:, :1], LadderSettings(noise=0.02)).noise == 0.02
    ladder = told(values, LadderSettings(noise=0.02, enabled=False))
    squares, freedom = residual_by_least_squares(values)
    assert ladder.noise == pytest.approx(np.sqrt((4 * 0.02**2 + 2 * squares) / (4 + freedom)), abs=1e-12)
    assert ladder.noise == pytest.approx(np.sqrt(2) * 0.003, rel=0.07)
    fixed = told(values, LadderSettings(noise=0.02, prior_folds=1e12, enabled=False))
    assert fixed.noise == pytest.approx(0.02, rel=1e-6)


def test_two_candidates_give_the_plain_paired_estimate() -> None:
    values = np.array([[0.80, 0.70, 0.75, 0.71], [0.78, 0.69, 0.72, 0.70]])
    ladder = told(values, LadderSettings(noise=0.005, prior_folds=4, enabled=False))
    differences = values[0] - values[1]
    pooled = (4 * 0.005**2 + ((differences - differences.mean()) ** 2).sum()) / (4 + 3)
    assert ladder.noise == pytest.approx(np.sqrt(pooled), abs=1e-12)


@pytest.mark.shared
@pytest.mark.skipif(not MEMO.exists(), reason="needs the memo's curves beside the project")
def test_the_memo_has_the_noise_that_the_documentation_says() -> None:
    last: dict[tuple[str, int], tuple[int, float]] = {}
    for row in csv.DictReader(MEMO.open(encoding="utf-8")):
        if row["split_id"] == "B":
            key = (row["experiment"], int(row["fold"]))
            last[key] = max(last.get(key, (-1, 0.0)), (int(row["epoch"]), float(row["valid_pearson"])))
    names = sorted({name for name, _ in last if all((name, fold) in last for fold in range(5))})
    assert len(names) == 26
    values = np.array([[last[name, fold][1] for fold in range(5)] for name in names])
    squares, freedom = table_of(values).residual()
    assert freedom == 25 * 4
    assert np.sqrt(squares / freedom) == pytest.approx(0.0037, abs=5e-5)
    assert np.sqrt(2 * squares / freedom) == pytest.approx(0.0052, abs=5e-5)
