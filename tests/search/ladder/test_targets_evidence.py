import numpy as np
import pytest

from search.ladder.blend_gain import BlendEvidence
from search.ladder.targets_evidence import TargetsEvidence

RANDOM = np.random.default_rng(5)
N_ROWS = 240
TARGET = RANDOM.normal(size=(N_ROWS, 2))
GROUP = np.arange(N_ROWS) // 4
COLUMNS = {name: TARGET + RANDOM.normal(size=TARGET.shape) * [0.6, 1.2] for name in ("one", "two", "three")}


def filled(target: np.ndarray = TARGET, columns: dict[str, np.ndarray] = COLUMNS) -> TargetsEvidence:
    evidence = TargetsEvidence()
    for fold in (0, 1):
        for name, column in columns.items():
            rows = slice(fold, None, 2)
            evidence.add(name, fold, column[rows], target[rows], GROUP[rows])
    return evidence


def of_one(target: int, known: np.ndarray | None = None) -> BlendEvidence:
    known = np.ones(N_ROWS, bool) if known is None else known
    evidence = BlendEvidence()
    for fold in (0, 1):
        for name, column in COLUMNS.items():
            rows = np.flatnonzero(known)[np.flatnonzero(known) % 2 == fold]
            evidence.add(name, fold, column[rows, target], TARGET[rows, target], GROUP[rows])
    return evidence


def test_the_gain_is_the_mean_over_targets_each_with_its_own_blend():
    gain = filled().gain("three", ["one", "two"], [0, 1])
    alone = [of_one(target).gain("three", ["one", "two"], [0, 1]) for target in (0, 1)]
    assert gain is not None
    assert gain.halves == tuple((a + b) / 2 for a, b in zip(*(each.halves for each in alone if each), strict=True))
    best, each = filled().best_blend(COLUMNS, [0, 1]), [of_one(target).best_blend(COLUMNS, [0, 1]) for target in (0, 1)]
    assert best is not None
    assert best.pearson == pytest.approx(np.mean([found.pearson for found in each if found]), abs=0)


def test_a_row_without_a_target_does_not_count_for_it_whatever_is_predicted_there():
    holes = TARGET.copy()
    holes[::5, 1] = np.nan
    wild = {name: np.where(np.isnan(holes), 1e6, column) for name, column in COLUMNS.items()}
    gain = filled(holes, wild).gain("three", ["one"], [0, 1])
    first = of_one(0).gain("three", ["one"], [0, 1])
    second = of_one(1, ~np.isnan(holes[:, 1])).gain("three", ["one"], [0, 1])
    assert gain is not None
    assert first is not None
    assert second is not None
    assert gain.mean == pytest.approx((first.mean + second.mean) / 2, abs=1e-15)


def test_one_target_is_the_evidence_of_that_target():
    evidence = TargetsEvidence()
    for fold in (0, 1):
        for name, column in COLUMNS.items():
            evidence.add(name, fold, column[fold::2, 0], TARGET[fold::2, 0], GROUP[fold::2])
    assert evidence.gain("three", ["one", "two"], [0, 1]) == of_one(0).gain("three", ["one", "two"], [0, 1])
    assert evidence.known(["one", "four"], [0]) == ("one",)
    assert evidence.best_blend(["four"], [0]) is None
