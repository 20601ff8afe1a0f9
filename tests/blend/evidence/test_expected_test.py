import numpy as np
import pytest

from blend.blend_record import ExpectationRecord
from blend.evidence.expected_test import RANKED, expect, variance_removed
from data_prep.scoring.metrics import METRICS, Targets

K = 5


def world(seed: int, *, n_groups: int = 200, drift: float = 0.0) -> dict[str, np.ndarray]:
    """Models of K folds: a shared error that no mean takes away, errors of their own, and a shift for each model."""
    random = np.random.default_rng(seed)
    shift = drift * random.normal(size=K)

    def rows(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        group = np.repeat(np.arange(n), 6).astype(np.int32)
        score = random.integers(0, 5, len(group)) / 4
        shared = 0.8 * score + 0.1 * random.normal(size=n)[group] + 0.15 * random.normal(size=len(group))
        models = shared + shift[:, None] + 0.2 * random.normal(size=(K, len(group)))
        return group, score, models

    group, score, models = rows(n_groups)
    fold = group % K
    test_group, test_score, test_models = rows(n_groups)
    return {
        "group": group,
        "score": score,
        "oof": models[fold, np.arange(len(score))],
        "test_models": test_models,
        "test_score": test_score,
        "test_groups": np.unique(test_group),
    }


def suited(data: dict[str, np.ndarray], metric: str) -> dict[str, np.ndarray]:
    """Return the data with scores that the metric takes: high or not, where it needs two levels or probabilities."""
    if METRICS[metric].targets in (Targets.NUMBERS, Targets.LEVELS):
        return data
    return {**data, **{name: (data[name] > 0.0).astype(float) for name in ("score", "test_score")}}


def told(data: dict[str, np.ndarray], metric: str = "pearson") -> ExpectationRecord:
    found = expect(
        data["oof"],
        variance_removed([data["test_models"]]),
        target=data["score"],
        group=data["group"],
        metric=METRICS[metric],
        test_groups=len(data["test_groups"]),
    )
    assert found is not None
    return found


@pytest.mark.parametrize("metric", ["pearson", "rmse", "mse", "r2", *RANKED])
@pytest.mark.parametrize("drift", [0.0, 0.1])
def test_what_is_expected_is_what_test_gives(metric: str, drift: float) -> None:
    """Over seeds: no bias beyond its own error, and the interval holds the score in about 95 of 100."""
    errors, inside, gain = [], [], []
    for seed in range(120):
        data = suited(world(seed, drift=drift), metric)
        found = told(data, metric)
        real = METRICS[metric](data["test_score"], data["test_models"].mean(axis=0))
        errors.append(found.value - real)
        inside.append(found.low <= real <= found.high)
        gain.append(abs(real - METRICS[metric](data["score"], data["oof"])))
    assert abs(np.mean(errors)) < 3 * np.std(errors) / np.sqrt(len(errors)) + 0.1 * np.mean(gain)
    assert np.mean(gain) > 4 * abs(np.mean(errors)), "the mean over models moves the score by far more"
    assert 0.88 <= np.mean(inside) <= 1.0


def test_models_that_agree_take_nothing_away() -> None:
    same = np.tile(np.random.default_rng(0).normal(size=50), (K, 1))
    assert variance_removed([same]) == pytest.approx(0.0, abs=1e-20)
    assert variance_removed([same[:1]]) == 0.0


def test_variance_removed_is_that_of_the_mean() -> None:
    random = np.random.default_rng(0)
    models = random.normal(size=(K, 200_000))
    assert variance_removed([models]) == pytest.approx(1.0 - models.mean(axis=0).var(), abs=0.01)
    assert variance_removed([models, 2 * models]) == pytest.approx(5 * variance_removed([models]))


def test_with_nothing_taken_away_it_is_the_pooled_score() -> None:
    data = world(0)
    data["test_models"] = np.tile(data["test_models"][0], (K, 1))
    for metric in METRICS.values():
        fit = suited(data, metric.name)
        assert told(fit, metric.name).value == pytest.approx(metric(fit["score"], fit["oof"]))


def test_fewer_test_groups_are_noisier() -> None:
    data = world(0)
    few = {**data, "test_groups": data["test_groups"][:20]}
    ratio = told(few).standard_error / told(data).standard_error
    assert ratio == pytest.approx(np.sqrt((1 + 10) / (1 + 1)))


def test_nothing_is_told_where_test_is_of_another_kind() -> None:
    data = world(0)
    removed = variance_removed([5 * data["test_models"]])
    assert (
        expect(
            data["oof"],
            removed,
            target=data["score"],
            group=data["group"],
            metric=METRICS["pearson"],
            test_groups=200,
        )
        is None
    )
