import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from blend.fit.makings import SeenRows, makings_for
from blend.fit.stacking import LEAST_ROWS, LEAST_SHARE, LEAVES, PENALTY, RATE, TREES, add_stackings, boost, stackings
from blend.fit.tournament import Tournament, all_rows, play
from data_prep.scoring.group_bootstrap import GroupBootstrap
from data_prep.scoring.metrics import METRICS

LEVELS = (-1.0, 0.0, 1.0)


def toy(
    seed: int, *, bent: bool, n_rows: int = 200, metric: str = "rmse", n_models: int = 4
) -> tuple[SeenRows, np.ndarray]:
    """Return rows with two numeric columns, and their groups; `bent`: half of the models fail where `length` is low."""
    random = np.random.default_rng(seed)
    numeric = random.normal(size=(n_rows, 2))
    target = random.choice(LEVELS, n_rows) if METRICS[metric].decides else random.normal(size=n_rows)
    columns = 0.8 * target[:, None] + random.normal(size=(n_rows, n_models)) * np.linspace(0.4, 0.7, n_models)
    if bent:
        fails = (numeric[:, :1] > 0) == (np.arange(n_models) % 2 == 0)
        columns += 2.0 * random.normal(size=columns.shape) * fails
    named = {"length": numeric[:, 0], "noise": numeric[:, 1]}
    kind = METRICS[metric].for_levels(LEVELS)
    return all_rows(columns, target, np.arange(n_rows) % 4, kind, numeric=named), np.arange(n_rows, dtype=np.int32)


def compete(rows: SeenRows, group: np.ndarray) -> Tournament:
    names = ("single+line", "mean+line", "nnls+line", "free-ridge+line")
    played = play(rows, [making for making in makings_for(rows.metric) if making.name in names])
    everywhere = np.zeros(len(group), dtype=np.int8)
    return add_stackings(rows, played, stackings(), GroupBootstrap(rows.target, everywhere, group, rows.metric))


def test_trees_as_numbers_predict_what_scikit_learn_does() -> None:
    random = np.random.default_rng(0)
    features = np.column_stack([random.normal(size=(500, 3)), random.integers(0, 3, 500)])
    target = features[:, 0] * (features[:, 3] == 1) + 0.1 * random.normal(size=500)
    target -= target.mean()
    trees = boost(features, target)
    other = np.column_stack([2 * random.normal(size=(300, 3)), random.integers(-1, 4, 300)])
    model = HistGradientBoostingRegressor(
        learning_rate=RATE,
        max_iter=TREES,
        max_leaf_nodes=LEAVES,
        min_samples_leaf=max(LEAST_ROWS, int(LEAST_SHARE * 500)),
        l2_regularization=PENALTY,
        early_stopping=False,
        random_state=0,
    )
    with threadpool_limits(1):
        model.fit(features, target)
        expected = [model.predict(rows) for rows in (features, other)]
    for rows, values in zip((features, other), expected, strict=True):
        np.testing.assert_allclose(sum(tree(rows) for tree in trees), values, atol=1e-9)
    assert len(trees) == TREES
    assert np.std(expected[1]) > 0.1


@pytest.mark.parametrize("metric", ["rmse", "pearson"])
def test_columns_of_noise_never_win(metric: str) -> None:
    for seed in range(4):
        found = compete(*toy(seed, bent=False, metric=metric, n_rows=120))
        assert not found.names[found.chosen].startswith("stacked"), seed
        assert found.names[-2:] == ["stacked-ridge", "stacked-trees"]


@pytest.mark.parametrize("metric", ["rmse", "pearson", "accuracy"])
def test_trees_win_where_a_column_tells_which_model_to_believe(metric: str) -> None:
    """And the blend is better on other rows, by as much as its nested metric says."""
    rows, group = toy(0, bent=True, metric=metric, n_rows=800)
    other, _ = toy(1, bent=True, metric=metric, n_rows=4000)
    found, kind = compete(rows, group), rows.metric
    truth = [kind.utility(kind(other.target, formula.predict(other.features))) for formula in found.formulas]
    assert found.names[found.chosen] == "stacked-trees"
    assert truth[found.chosen] > max(truth[:-2]) + 0.02
    assert kind.utility(kind(rows.target, found.prediction)) == pytest.approx(truth[found.chosen], abs=0.06)


def test_ridge_wins_where_all_models_err_with_a_column() -> None:
    rows, group = toy(0, bent=False)
    shift = 0.5 * rows.numeric["length"][:, None]
    shifted = all_rows(rows.columns + shift, rows.target, rows.unit, rows.metric, numeric=rows.numeric)
    found = compete(shifted, group)
    formula = found.formulas[found.chosen]
    assert found.names[found.chosen] == "stacked-ridge"
    assert formula.stack is not None
    assert formula.stack.columns == ("length", "noise")
    assert formula.stack.weights[0] < -0.3
    assert abs(formula.stack.weights[1]) < 0.1
    assert np.abs(formula.search.weights).sum() == pytest.approx(1.0)


def test_a_win_that_may_be_chance_is_not_taken() -> None:
    """The same rows as many groups, and as a single one: what another group would say is then unknown."""
    rows, group = toy(0, bent=True, n_rows=300)
    many, lone = compete(rows, group), compete(rows, np.zeros_like(group))
    assert many.names[many.chosen] == "stacked-trees"
    assert lone.utility[-1] == many.utility[-1] > lone.utility[lone.chosen]
    assert not lone.names[lone.chosen].startswith("stacked")


@pytest.mark.parametrize("metric", ["rmse", "pearson", "accuracy"])
def test_what_is_stacked_for_a_unit_has_not_seen_it(metric: str) -> None:
    rows, _ = toy(0, bent=True, metric=metric)
    spoiled, unit = np.random.default_rng(1), rows.unit == 2
    columns, target = rows.columns.copy(), np.where(unit, rows.target[::-1], rows.target)
    columns[unit] = spoiled.normal(size=(int(unit.sum()), 4))
    numeric = {name: np.where(unit, spoiled.normal(size=len(unit)), values) for name, values in rows.numeric.items()}
    other = all_rows(columns, target, rows.unit, rows.metric, numeric=numeric)
    before, after = (play(seen, stackings()) for seen in (rows, other))
    for place in range(2):
        ours, theirs = before.without[2][place], after.without[2][place]
        np.testing.assert_allclose(ours.weigh(rows.features), theirs.weigh(rows.features), atol=1e-9)
        np.testing.assert_array_equal(ours.predict(rows.features), theirs.predict(rows.features))
        seen = [played.without[0][place].weigh(rows.features) for played in (before, after)]
        assert not np.allclose(*seen), "the other units' formulas saw it"


def test_only_the_strongest_candidates_are_stacked() -> None:
    rows, _ = toy(0, bent=False, n_models=30)
    formula = stackings()[0].fit(rows)
    fewer = stackings(2)[1].fit(rows)
    assert 2 <= len(formula.members) <= 20
    assert len(fewer.members) == 2
    assert len(fewer.predict(rows.features)) == 200


def test_without_numeric_columns_there_is_still_something_to_stack() -> None:
    rows, _ = toy(0, bent=False)
    bare = all_rows(rows.columns, rows.target, rows.unit, rows.metric)
    for making in stackings():
        formula = making.fit(bare)
        assert formula.stack is not None
        assert formula.stack.columns == ()
        assert METRICS["rmse"](rows.target, formula.predict(bare.features)) < 0.6
