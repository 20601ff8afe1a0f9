import numpy as np
import pytest

from data_prep.scoring.group_bootstrap import (
    FROM_SUMS,
    MOST_CLUSTERS,
    RANKED,
    DrawnUtilities,
    GroupBootstrap,
    PairedDifference,
    reach_95,
)
from data_prep.scoring.metrics import METRICS, Metric, Targets

CLASSES = 3


def measure_of(metric: str) -> Metric:
    """Return a metric; one of classes has three."""
    found = METRICS[metric]
    return found.for_classes(CLASSES) if found.targets is Targets.CLASSES else found


def toy(seed: int = 0, n_groups: int = 60, per_group: int = 5, metric: str = "pearson") -> dict[str, np.ndarray]:
    """Rows of a group share an error, so that rows are not independent."""
    random = np.random.default_rng(seed)
    n_classes = CLASSES if METRICS[metric].targets is Targets.CLASSES else 1
    n_rows = n_groups * per_group * n_classes
    group = np.repeat(np.arange(n_groups), per_group * n_classes).astype(np.int32)
    score = random.integers(0, 5, n_rows) / 4
    if n_classes > 1:
        score = np.eye(n_classes)[random.integers(0, n_classes, n_rows // n_classes)].ravel()
    if METRICS[metric].targets in (Targets.TWO_LEVELS, Targets.PROBABILITIES):
        score = score.round()
    shared = random.normal(size=n_groups)[group] * 0.3
    columns = score[:, None] + shared[:, None] + random.normal(size=(n_rows, 3)) * [0.4, 0.5, 0.8]
    return {"columns": columns, "score": score, "fold": (group % 4).astype(np.int8), "group": group}


def fold_mean(prediction: np.ndarray, score: np.ndarray, fold: np.ndarray, measure: Metric) -> float:
    return float(np.mean([measure(score[fold == k], prediction[fold == k]) for k in np.unique(fold)]))


def bootstrap(data: dict[str, np.ndarray], metric: str = "pearson", **options: int) -> GroupBootstrap:
    return GroupBootstrap(data["score"], data["fold"], data["group"], measure_of(metric), **options)


@pytest.mark.parametrize("metric", METRICS)
def test_standard_error_is_that_of_a_bootstrap_on_rows(metric: str) -> None:
    """Groups drawn, scored from scratch on the rows: the same noise, as far as so many draws can tell."""
    data = toy(n_groups=40, per_group=12 if metric in FROM_SUMS else 100, metric=metric)
    measure = measure_of(metric)
    found = bootstrap(data, metric, resamples=2_000).compare(data["columns"][:, 0], data["columns"][:, 1])
    random = np.random.default_rng(7)
    draws = []
    for _ in range(500):
        rows = np.concatenate([np.flatnonzero(data["group"] == g) for g in random.integers(0, 40, 40)])
        values = [fold_mean(p[rows], data["score"][rows], data["fold"][rows], measure) for p in data["columns"].T[:2]]
        draws.append(measure.utility(values[0]) - measure.utility(values[1]))
    exact = metric in FROM_SUMS and metric not in RANKED
    assert found.standard_error == pytest.approx(np.std(draws, ddof=1) * (40 / 39) ** 0.5, rel=0.12 if exact else 0.3)
    reach = found.high - found.value
    assert reach == pytest.approx(found.value - found.low) == pytest.approx(2.0227 * found.standard_error, rel=1e-4)


@pytest.mark.parametrize("metric", sorted(set(FROM_SUMS) - set(RANKED)))
def test_a_draw_scores_its_rows(metric: str) -> None:
    """Each draw's metric, from sums over groups, is that of the rows of the drawn groups (ranks are kept)."""
    data = toy(n_groups=30, per_group=12, metric=metric)
    measure = measure_of(metric)
    counts = np.random.default_rng(0).multinomial(30, np.full(30, 1 / 30), size=20)
    drawn = bootstrap(data, metric, resamples=20).draws(data["columns"]).drawn
    for draw, times in enumerate(counts):
        rows = np.concatenate([np.flatnonzero(data["group"] == group) for group in np.repeat(np.arange(30), times)])
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
    data, measure = toy(metric=metric, per_group=10), measure_of(metric)
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
    ("low", "high", "noise"), [(0.001, 0.01, False), (-0.01, -0.002, False), (-0.001, 0.01, True), (0.0, 0.01, True)]
)
def test_an_interval_without_zero_parts_a_difference_from_noise(low: float, high: float, noise: bool) -> None:
    assert PairedDifference((low + high) / 2, 0.004, low, high).is_noise is noise


@pytest.mark.parametrize("n_groups", [2, 4, 8, 50])
def test_intervals_hold_the_truth_however_few_groups_there_are(n_groups: int) -> None:
    """Over fresh samples of a mean difference of zero between two equally good predictions."""
    random, held = np.random.default_rng(n_groups), []
    for _ in range(400):
        shift = random.normal(size=n_groups)
        times = random.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=500)
        drawn = DrawnUtilities(
            np.array([shift.mean(), 0.0]), np.stack([times @ shift / n_groups, np.zeros(500)]), n_groups
        )
        held.append(drawn.difference(0, 1).is_noise)
    assert np.mean(held) == pytest.approx(0.95, abs=0.03)


def test_a_single_group_says_nothing() -> None:
    assert reach_95(1) == np.inf
    assert DrawnUtilities(np.array([1.0, 0.0]), np.zeros((2, 5)), 1).difference(0, 1).is_noise
