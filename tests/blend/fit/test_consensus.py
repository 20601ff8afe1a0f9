import numpy as np
import pytest

from blend.fit.consensus import CONSENSUS, add_consensus, mean_formula
from blend.fit.makings import makings_for
from blend.fit.objective import Readout
from blend.fit.tournament import Tournament, all_rows, play
from data_prep.scoring.combination import Scaling
from data_prep.scoring.group_bootstrap import GroupBootstrap
from data_prep.scoring.metrics import METRICS

LEVELS = {"accuracy": (0.0, 0.5, 1.0), "qwk": (0.0, 0.5, 1.0), "f1": (0.0, 1.0)}


def toy(metric: str, seed: int = 0, n_rows: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    levels = (0.0, 0.5, 1.0) if metric in ("rmse", "pearson", "qwk") else (0.0, 1.0)
    target = random.choice(levels, n_rows)
    columns = 0.1 + 0.7 * target[:, None] + random.normal(size=(n_rows, 4)) * [0.3, 0.35, 0.4, 0.6]
    return columns, target, np.arange(n_rows) % 4


def compete(metric: str, columns: np.ndarray, target: np.ndarray, unit: np.ndarray) -> tuple[Tournament, Tournament]:
    """Return a tournament without and with the consensus."""
    kind = METRICS[metric].for_levels(LEVELS.get(metric))
    rows = all_rows(columns, target, unit, kind)
    played = play(rows, makings_for(kind))
    everywhere, group = np.zeros(len(target), dtype=np.int8), np.arange(len(target), dtype=np.int32)
    draws = GroupBootstrap(target, everywhere, group, kind).draws(played.nested)
    return played, add_consensus(rows, played, draws, forced=False)


@pytest.mark.parametrize("metric", ["rmse", "auc"])
def test_the_mean_of_formulas_is_one_formula(metric: str) -> None:
    """Of all makings, with raw columns, isotonic curves and ranks: the same as the mean of their predictions."""
    columns, target, unit = toy(metric)
    rows = all_rows(columns, target, unit, METRICS[metric])
    formulas = [making.fit(rows) for making in makings_for(METRICS[metric])]
    other = np.random.default_rng(1).normal(size=(50, 4)) * 2
    found = mean_formula(formulas, rows, Readout.LINE)
    np.testing.assert_allclose(found.predict(other), np.mean([f.predict(other) for f in formulas], axis=0), atol=1e-12)
    assert np.abs(found.search.weights).sum() == pytest.approx(1.0)
    assert all(Scaling.model_validate_json(scaling.model_dump_json()) == scaling for scaling in found.scalings)


def test_the_mean_of_raw_formulas_has_their_mean_weights() -> None:
    columns, target, unit = toy("rmse")
    rows = all_rows(columns, target, unit, METRICS["rmse"])
    formulas = [m.fit(rows) for m in makings_for(METRICS["rmse"]) if m.name in ("single", "mean")]
    found = mean_formula(formulas, rows, Readout.RAW)
    np.testing.assert_allclose(found.search.weights, np.array([0.5, 0, 0, 0]) + 0.125)
    assert found.line.slope == pytest.approx(1.0)
    assert found.line.intercept == 0.0
    assert found.scalings == ()


@pytest.mark.parametrize("metric", ["pearson", "rmse", "qwk"])
def test_the_consensus_of_a_unit_has_not_seen_it(metric: str) -> None:
    columns, target, unit = toy(metric)
    _, before = compete(metric, columns, target, unit)
    rows, spoiled = unit == 2, columns.copy()
    spoiled[rows] = np.random.default_rng(1).normal(size=(int(rows.sum()), 4))
    _, after = compete(metric, spoiled, np.where(rows, target[::-1], target), unit)
    ours, theirs = before.without[2][-1], after.without[2][-1]
    if metric == "pearson":  # the standard error that decides who takes part is taken from all rows
        np.testing.assert_array_equal(ours.members, theirs.members)
    assert before.makings[-1] is CONSENSUS
    if metric != "pearson":
        nested = np.array([before.without[number][-1].predict(columns[[row]])[0] for row, number in enumerate(unit)])
        np.testing.assert_allclose(before.nested[:, -1], nested, atol=1e-12)


def test_only_makings_within_one_standard_error_of_the_best_take_part() -> None:
    columns, target, unit = toy("rmse")
    columns[:, 1:] = np.random.default_rng(1).normal(size=(200, 3)) * 3  # the plain mean is far behind
    played, found = compete("rmse", columns, target, unit)
    assert played.utility[played.names.index("mean")] < played.utility.max() - 0.5
    assert np.abs(found.formulas[-1].search.weights[1:]).sum() < 0.1
    assert found.utility[-1] > played.utility.max() - 0.01


def test_where_makings_err_apart_their_mean_is_better_on_other_rows() -> None:
    """Few rows, many models: over draws the consensus beats the making that looked best."""
    gain = []
    for seed in range(12):
        random = np.random.default_rng(seed)
        target = random.normal(size=1120)
        columns = 0.8 * target[:, None] + random.normal(size=(1120, 12)) * np.linspace(0.6, 1.2, 12)
        played, found = compete("rmse", columns[:120], target[:120], np.arange(120) % 4)
        truth = [METRICS["rmse"](target[120:], f.predict(columns[120:])) for f in found.formulas]
        gain.append(truth[played.chosen] - truth[-1])
    assert np.mean(gain) > 0.0
