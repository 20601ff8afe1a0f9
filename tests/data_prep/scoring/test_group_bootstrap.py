import numpy as np
import pytest

from data_prep.scoring.group_bootstrap import MOST_CLUSTERS, GroupBootstrap, PairedDifference
from data_prep.scoring.metrics import METRICS, Metric


def toy(seed: int = 0, n_groups: int = 60, per_group: int = 5) -> dict[str, np.ndarray]:
    """Rows of a group share an error, so that rows are not independent."""
    random = np.random.default_rng(seed)
    n_rows = n_groups * per_group
    group = np.repeat(np.arange(n_groups), per_group).astype(np.int32)
    score = random.integers(0, 5, n_rows) / 4
    shared = random.normal(size=n_groups)[group] * 0.3
    columns = score[:, None] + shared[:, None] + random.normal(size=(n_rows, 3)) * [0.4, 0.5, 0.8]
    return {"columns": columns, "score": score, "fold": (group % 4).astype(np.int8), "group": group}


def fold_mean(prediction: np.ndarray, score: np.ndarray, fold: np.ndarray, measure: Metric) -> float:
    return float(np.mean([measure(score[fold == k], prediction[fold == k]) for k in np.unique(fold)]))


def bootstrap(data: dict[str, np.ndarray], metric: str = "pearson", **options: int) -> GroupBootstrap:
    return GroupBootstrap(data["score"], data["fold"], data["group"], METRICS[metric], **options)


@pytest.mark.parametrize("metric", METRICS)
def test_standard_error_is_that_of_a_bootstrap_on_rows(metric: str) -> None:
    """Groups drawn, scored from scratch on the rows: the same noise, as far as so many draws can tell."""
    data = toy(n_groups=40)
    measure = METRICS[metric]
    found = bootstrap(data, metric, resamples=2_000).compare(data["columns"][:, 0], data["columns"][:, 1])
    random = np.random.default_rng(7)
    draws = []
    for _ in range(500):
        rows = np.concatenate([np.flatnonzero(data["group"] == g) for g in random.integers(0, 40, 40)])
        values = [fold_mean(p[rows], data["score"][rows], data["fold"][rows], measure) for p in data["columns"].T[:2]]
        draws.append(measure.utility(values[0]) - measure.utility(values[1]))
    assert found.standard_error == pytest.approx(np.std(draws, ddof=1), rel=0.12)
    np.testing.assert_allclose([found.low, found.high], np.quantile(draws, [0.025, 0.975]), atol=0.25 * np.std(draws))


@pytest.mark.parametrize("metric", ["pearson", "rmse"])
def test_a_draw_scores_its_rows(metric: str) -> None:
    """Each draw's metric, from sums over groups, is that of the rows of the drawn groups (Spearman keeps its ranks)."""
    data = toy(n_groups=30)
    measure = METRICS[metric]
    counts = np.random.default_rng(0).multinomial(30, np.full(30, 1 / 30), size=20)
    drawn = bootstrap(data, metric, resamples=20).draws(data["columns"]).drawn
    for draw, times in enumerate(counts):
        rows = np.repeat(np.arange(len(data["group"])), times[data["group"]])
        for column, found in zip(data["columns"].T, drawn[:, draw], strict=True):
            score = fold_mean(column[rows], data["score"][rows], data["fold"][rows], measure)
            assert found == pytest.approx(measure.utility(score), abs=1e-9)


def test_some_parts_are_compared_without_reading_the_others() -> None:
    data = toy()
    first, second = data["columns"].T[:2].copy()
    whole = bootstrap(data).compare(first, second, parts=[0, 2])
    first[data["fold"] == 1] = np.nan
    second[data["fold"] == 3] = np.nan
    assert bootstrap(data).compare(first, second, parts=[0, 2]) == whole
    score = [
        fold_mean(p[(k := np.isin(data["fold"], [0, 2]))], data["score"][k], data["fold"][k], METRICS["pearson"])
        for p in data["columns"].T[:2]
    ]
    assert whole.value == pytest.approx(score[0] - score[1])


@pytest.mark.parametrize("metric", METRICS)
def test_value_is_the_difference_of_utilities(metric: str) -> None:
    data, measure = toy(), METRICS[metric]
    scores = [fold_mean(p, data["score"], data["fold"], measure) for p in data["columns"].T]
    draws = bootstrap(data, metric).draws(data["columns"])
    np.testing.assert_allclose(draws.value, [measure.utility(score) for score in scores], rtol=1e-10)
    assert draws.difference(0, 2).value == pytest.approx(draws.value[0] - draws.value[2])


def test_standard_error_has_the_size_of_the_truth() -> None:
    """Over fresh samples, the spread of the difference is what one sample's bootstrap says, within a third."""
    found = []
    for seed in range(60):
        data = toy(seed, n_groups=40)
        found.append(bootstrap(data, resamples=200).compare(data["columns"][:, 0], data["columns"][:, 1]))
    assert np.mean([f.standard_error for f in found]) == pytest.approx(np.std([f.value for f in found]), rel=0.33)


def test_rows_of_a_group_go_together() -> None:
    """Every row three times over, in the same groups, tells no more than once."""
    data = toy()
    thrice = {name: np.repeat(values, 3, axis=0) for name, values in data.items()}
    once, repeated = (bootstrap(d).compare(*d["columns"].T[:2]).standard_error for d in (data, thrice))
    assert repeated == pytest.approx(once, rel=1e-9)


def test_more_groups_than_clusters_have_the_same_noise() -> None:
    data = toy(n_groups=MOST_CLUSTERS + 1_000, per_group=1)
    found = bootstrap(data, resamples=400).compare(data["columns"][:, 0], data["columns"][:, 1]).standard_error
    small = toy(1, n_groups=(MOST_CLUSTERS + 1_000) // 4, per_group=1)
    expected = bootstrap(small, resamples=400).compare(small["columns"][:, 0], small["columns"][:, 1]).standard_error
    assert found == pytest.approx(expected / 2, rel=0.2)


def test_a_prediction_differs_from_itself_by_nothing() -> None:
    data = toy()
    found = bootstrap(data).compare(data["columns"][:, 0], 2 * data["columns"][:, 0] + 1)
    assert found.value == pytest.approx(0.0, abs=1e-12)
    assert found.standard_error == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("value", "error", "noise"), [(0.01, 0.004, False), (-0.01, 0.004, False), (0.01, 0.006, True)]
)
def test_two_standard_errors_part_noise_from_a_difference(value: float, error: float, noise: bool) -> None:
    assert PairedDifference(value, error, 0.0, 0.0).is_noise is noise
