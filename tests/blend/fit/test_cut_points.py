import itertools

import numpy as np
import pytest

from blend.fit.cut_points import fit_cuts
from data_prep.scoring.combination import decide
from data_prep.scoring.metrics import METRICS, Metric, midpoints

LEVELS = (1.0, 2.0, 3.0)


def toy(seed: int, n_rows: int = 60, levels: tuple[float, ...] = LEVELS) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of a model whose scale is too narrow, as squared errors make it."""
    random = np.random.default_rng(seed)
    target = random.choice(
        levels, n_rows, p=np.array([0.6, 0.3, 0.1])[: len(levels)] / sum([0.6, 0.3, 0.1][: len(levels)])
    )
    return 1.3 + 0.3 * target + 0.3 * random.normal(size=n_rows), target


def metric(name: str) -> Metric:
    return METRICS[name].for_levels(LEVELS[:2] if name == "f1" else LEVELS)


def worth(kind: Metric, cuts: np.ndarray, prediction: np.ndarray, target: np.ndarray) -> float:
    return kind(target, decide(prediction, cuts, kind.levels))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["accuracy", "f1", "qwk"])
def test_cuts_are_nearly_the_best_of_all(name: str, seed: int) -> None:
    kind = metric(name)
    prediction, target = toy(seed, levels=kind.levels)
    found = fit_cuts(prediction, target, kind)
    assert (np.diff(found) >= 0).all()
    every = itertools.combinations(np.sort(prediction), len(kind.levels) - 1)
    best = max(worth(kind, np.array(cuts), prediction, target) for cuts in every)
    value = worth(kind, found, prediction, target)
    assert value >= worth(kind, midpoints(kind.levels), prediction, target)
    assert value >= best - 0.03, "they move one at a time"


def test_cuts_fitted_on_a_row_flatter_it_and_others_tell_the_truth() -> None:
    kind, flattered, honest = metric("qwk"), [], []
    for seed in range(60):
        prediction, target = toy(seed, n_rows=80)
        cuts = fit_cuts(prediction[:40], target[:40], kind)
        flattered.append(worth(kind, cuts, prediction[:40], target[:40]))
        fresh = toy(1_000 + seed, n_rows=4_000)
        honest.append((worth(kind, cuts, prediction[40:], target[40:]), worth(kind, cuts, *fresh)))
    unseen, truth = np.mean(honest, axis=0)
    assert np.mean(flattered) > truth + 0.05
    assert unseen == pytest.approx(truth, abs=3 * np.std([a - b for a, b in honest]) / np.sqrt(60))
