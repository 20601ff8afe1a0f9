import numpy as np
import pytest

from blend.fit.makings import Making, makings_for
from blend.fit.objective import Readout
from blend.fit.tournament import all_rows
from data_prep.scoring.combination import decide
from data_prep.scoring.metrics import METRICS, Targets

LEVELS = {"accuracy": (0.0, 0.5, 1.0), "qwk": (0.0, 0.5, 1.0), "f1": (0.0, 1.0)}
ALL = [(name, making) for name, metric in METRICS.items() for making in makings_for(metric)]


def toy(metric: str, n_rows: int = 240, n_members: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    if METRICS[metric].targets is Targets.CLASSES:
        target, unit = np.eye(3)[random.integers(0, 3, n_rows // 3)].ravel(), np.arange(n_rows) // 3 % 4
        return (
            0.2 + 0.6 * target[:, None] + random.normal(size=(n_rows, n_members)) * [0.2, 0.3, 0.4, 0.5],
            target,
            unit,
        )
    two = METRICS[metric].targets in (Targets.TWO_LEVELS, Targets.PROBABILITIES)
    target = random.choice(LEVELS.get(metric, (0.0, 1.0) if two else (0.0, 0.5, 1.0)), n_rows)
    columns = 0.2 + 0.6 * target[:, None] + random.normal(size=(n_rows, n_members)) * [0.2, 0.3, 0.4, 0.5]
    return columns, target, np.arange(n_rows) % 4


@pytest.mark.parametrize(("metric", "making"), ALL, ids=[f"{metric}-{making.name}" for metric, making in ALL])
def test_every_making_makes_a_formula_that_predicts_other_rows(metric: str, making: Making) -> None:
    kind = METRICS[metric].for_levels(LEVELS.get(metric))
    if kind.targets is Targets.CLASSES:
        kind = kind.for_classes(3)
    columns, target, unit = toy(metric)
    formula = making.fit(all_rows(columns[:150], target[:150], unit[:150], kind))
    prediction = formula.predict(columns[150:])
    parts = columns[150:, formula.members]
    if formula.scalings:
        parts = np.column_stack([scale(part) for scale, part in zip(formula.scalings, parts.T, strict=True)])
    expected = formula.line.intercept + formula.line.slope * (parts @ formula.search.weights)
    expected = decide(expected, formula.cuts, kind.levels) if formula.cuts is not None else expected
    np.testing.assert_array_equal(prediction, expected)
    if kind.decides:
        assert set(prediction) <= set(kind.levels)
    assert kind.utility(kind(target[150:], prediction)) > kind.utility(kind(target[150:], columns[::-1][:90, 3]))


@pytest.mark.parametrize("metric", METRICS)
def test_names_tell_makings_apart_and_the_plain_ones_are_among_them(metric: str) -> None:
    names = [making.name for making in makings_for(METRICS[metric])]
    assert len(set(names)) == len(names)
    plain = "single+line" if METRICS[metric].scale_free else "single"
    assert {plain, plain.replace("single", "mean")} <= set(names)
    assert all(Making(m.method, m.readout, m.calibration).name == m.name for m in makings_for(METRICS[metric]))


def test_without_scale_only_lines_compete_and_nelder_mead_is_first_of_equals() -> None:
    found = makings_for(METRICS["pearson"])
    assert found[0].name == "nelder-mead+line"
    assert {making.readout for making in found} == {Readout.LINE}


@pytest.mark.parametrize("most", [1, 2, 3])
@pytest.mark.parametrize("metric", ["pearson", "rmse", "mae"])
def test_no_more_members_than_asked_for(metric: str, most: int) -> None:
    columns, target, unit = toy(metric)
    rows = all_rows(columns, target, unit, METRICS[metric])
    for making in makings_for(METRICS[metric], most):
        assert 1 <= len(making.fit(rows).members) <= most, making.name


def test_every_family_takes_part_on_request() -> None:
    columns, target, unit = toy("rmse")
    columns[:, 3] = np.random.default_rng(1).normal(size=len(target))
    rows = all_rows(columns, target, unit, METRICS["rmse"], ["good", "good", "good", "poor"])
    for making in makings_for(METRICS["rmse"]):
        formula = making.fit(rows)
        if making.calibration is None and not making.method.startswith("free"):
            weights = dict(zip(formula.members.tolist(), formula.search.weights.tolist(), strict=True))
            assert weights[3] >= 0.02, making.name
            assert sum(weights.values()) == pytest.approx(1.0)
