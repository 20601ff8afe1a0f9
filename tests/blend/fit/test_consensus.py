import numpy as np
import pytest

from blend.fit.consensus import CONSENSUS, add_consensus, mean_formula, shares_of
from blend.fit.makings import makings_for
from blend.fit.objective import Readout
from blend.fit.tournament import Tournament, all_rows, play
from data_prep.scoring.combination import Scaling
from data_prep.scoring.group_bootstrap import DrawnUtilities, GroupBootstrap
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
    return played, add_consensus(rows, played, draws, draws, forced=False)


@pytest.mark.parametrize("metric", ["rmse", "auc"])
def test_the_mean_of_formulas_is_one_formula(metric: str) -> None:
    """Of all makings, with raw columns, isotonic curves and ranks: the same as the mean of their predictions."""
    columns, target, unit = toy(metric)
    rows = all_rows(columns, target, unit, METRICS[metric])
    formulas = [making.fit(rows) for making in makings_for(METRICS[metric])]
    other = np.random.default_rng(1).normal(size=(50, 4)) * 2
    parts = np.arange(len(formulas)) / sum(range(len(formulas)))
    found = mean_formula(formulas, parts, rows, Readout.LINE)
    expected = parts @ [formula.predict(other) for formula in formulas]
    np.testing.assert_allclose(found.predict(other), expected, atol=1e-12)
    assert np.abs(found.search.weights).sum() == pytest.approx(1.0)
    assert all(Scaling.model_validate_json(scaling.model_dump_json()) == scaling for scaling in found.scalings)


def test_the_mean_of_raw_formulas_has_their_mean_weights() -> None:
    columns, target, unit = toy("rmse")
    rows = all_rows(columns, target, unit, METRICS["rmse"])
    formulas = [m.fit(rows) for m in makings_for(METRICS["rmse"]) if m.name in ("single", "mean")]
    found = mean_formula(formulas, np.array([0.5, 0.5]), rows, Readout.RAW)
    np.testing.assert_allclose(found.search.weights, np.array([0.5, 0, 0, 0]) + 0.125)
    assert found.line.slope == pytest.approx(1.0)
    assert found.line.intercept == 0.0
    assert found.scalings == ()


@pytest.mark.parametrize("metric", ["rmse", "qwk"])
def test_each_unit_is_predicted_by_the_consensus_that_was_reached_without_it(metric: str) -> None:
    columns, target, unit = toy(metric)
    _, found = compete(metric, columns, target, unit)
    assert found.makings[-1] is CONSENSUS
    nested = [found.without[number][-1].predict(columns[[row]])[0] for row, number in enumerate(unit)]
    np.testing.assert_allclose(found.nested[:, -1], nested, atol=1e-12)
    assert len({tuple(formulas[-1].search.weights) for formulas in found.without}) == 4


def test_a_making_weighs_what_its_gap_to_the_best_is_likely_to_be_by_chance() -> None:
    random, gaps = np.random.default_rng(0), np.array([0.0, 1.0, 2.0, 4.0])
    drawn = np.concatenate([np.zeros((1, 4000)), 0.1 * random.normal(size=(3, 4000))])
    draws = DrawnUtilities(-0.1 * gaps, drawn, n_groups=1000)
    found = shares_of(-0.1 * gaps, draws, 0)
    assert found[0] == pytest.approx(2 / 3)
    np.testing.assert_allclose(found[2:] / found[1], [np.exp(-1.5), 0.0], rtol=0.15)
    found = shares_of(-0.1 * gaps, draws, 2)
    assert found[2] == pytest.approx(2 / 3, abs=0.01), "two standard errors behind is luck"
    found = shares_of(-0.1 * gaps, draws, 3)
    assert found[3] == pytest.approx(2 * np.exp(-2) / (1 + 2 * np.exp(-2)), rel=0.1)
    assert found.sum() == pytest.approx(1.0)


def test_nelder_mead_alone_makes_the_whole_consensus() -> None:
    draws = DrawnUtilities(np.array([0.0, -9.0]), np.concatenate([np.zeros((1, 9)), np.eye(9)[:1]]), n_groups=100)
    np.testing.assert_array_equal(shares_of(draws.value, draws, 0), [1.0, 0.0])


def test_a_making_far_behind_takes_no_part() -> None:
    columns, target, unit = toy("rmse")
    columns[:, 1:] = np.random.default_rng(1).normal(size=(200, 3)) * 3
    played, found = compete("rmse", columns, target, unit)
    assert played.utility[played.names.index("mean")] < played.utility.max() - 0.5
    assert np.abs(found.formulas[-1].search.weights[1:]).sum() < 0.1
    assert found.utility[-1] > played.utility.max() - 0.01


def test_the_best_is_chosen_where_a_single_candidate_is_better_than_the_consensus() -> None:
    columns, target, unit = toy("rmse", n_rows=60)
    _, found = compete("rmse", columns, target, unit)
    single = found.names.index("single")
    assert found.names[found.chosen] == "consensus"
    utility = found.utility.copy()
    utility[single] = utility[-1] + 0.1
    assert found.choose(utility) == single
    utility[single] = utility[-1] + 1e-6
    assert found.choose(utility) == len(found.names) - 1


def test_nelder_mead_is_chosen_for_pearson_where_it_ties_on_curves_where_they_are_better() -> None:
    columns, target, unit = toy("pearson")
    _, found = compete("pearson", columns, target, unit)
    assert found.names[found.chosen] == "nelder-mead+line"
    columns[:, 0] = target**9 + 0.001 * columns[:, 0]  # only a curve brings it onto the target
    _, found = compete("pearson", columns[:, :1], target, unit)
    assert found.names[found.chosen] == "isotonic:nelder-mead+line"
