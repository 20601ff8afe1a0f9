import numpy as np
import pytest

from blend.fit.makings import SeenRows, makings_for
from blend.fit.tournament import FEW_GROUPS, all_rows, play, units_of
from data_prep.scoring.metrics import METRICS


def toy(seed: int = 0, n_rows: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    target = random.integers(0, 5, n_rows) / 4
    columns = 0.1 + 0.8 * target[:, None] + random.normal(size=(n_rows, 4)) * [0.3, 0.4, 0.5, 0.6]
    return columns, target, np.arange(n_rows) % 4


@pytest.mark.parametrize("metric", ["pearson", "rmse", "spearman"])
def test_nothing_that_is_chosen_for_a_unit_has_seen_it(metric: str) -> None:
    """Targets and predictions of unit 2 spoiled: what is fitted without it, and chosen without it, stays the same."""
    columns, target, unit = toy(n_rows=80)
    kind, rows = METRICS[metric], unit == 2
    makings = makings_for(kind)
    before = play(all_rows(columns, target, unit, kind), makings)
    spoiled, turned = columns.copy(), np.where(rows, 1.0 - target, target)
    spoiled[rows] = np.random.default_rng(1).normal(size=(int(rows.sum()), 4))
    after = play(all_rows(spoiled, turned, unit, kind), makings)
    changed = 0
    for place, making in enumerate(makings):
        ours, theirs = before.without[2][place], after.without[2][place]
        np.testing.assert_array_equal(ours.members, theirs.members, err_msg=making.name)
        np.testing.assert_array_equal(ours.search.weights, theirs.search.weights, err_msg=making.name)
        assert ours.line == theirs.line
        changed += not np.array_equal(before.without[0][place].weigh(columns), after.without[0][place].weigh(columns))
    assert changed > len(makings) / 2, "the other units' formulas saw it"


def test_nested_is_the_loop_a_person_would_write() -> None:
    columns, target, unit = toy(n_rows=80)
    makings = makings_for(METRICS["rmse"])
    found = play(all_rows(columns, target, unit, METRICS["rmse"]), makings)
    for number in range(4):
        seen = unit != number
        rows = all_rows(columns[seen], target[seen], np.unique(unit[seen], return_inverse=True)[1], METRICS["rmse"])
        for place, making in enumerate(makings):
            expected = making.fit(rows).predict(columns[~seen])
            np.testing.assert_allclose(found.nested[~seen, place], expected, atol=1e-9, err_msg=making.name)
    rmse = [METRICS["rmse"](target, column) for column in found.nested.T]
    np.testing.assert_allclose(-found.utility, rmse)
    assert found.utility[found.chosen] >= found.utility.max() - 1e-5


def test_the_blend_is_scored_by_makings_chosen_without_the_rows() -> None:
    columns, target, unit = toy(3)
    found = play(all_rows(columns, target, unit, METRICS["rmse"]), makings_for(METRICS["rmse"]))
    for number in range(4):
        others = unit != number
        values = [METRICS["rmse"](target[others], column[others]) for column in found.nested.T]
        first = int(np.flatnonzero(np.array(values) <= min(values) + 1e-5)[0])
        np.testing.assert_array_equal(found.prediction[~others], found.nested[~others, first])


def test_to_choose_the_best_of_many_useless_makings_flatters_and_that_is_taken_off() -> None:
    """Many equally good models, each alone: the best nested one looks better than its truth, the blend's score not."""
    random, own, honest, truth = np.random.default_rng(0), [], [], []
    kind = METRICS["rmse"]
    single = [making for making in makings_for(kind) if making.name == "single"]

    class Only:
        """The single model of a number, whatever the rows say."""

        def __init__(self, number: int) -> None:
            self.number, self.name = number, str(number)

        def fit(self, rows: SeenRows) -> object:
            chosen = SeenRows(
                rows.columns[:, [self.number]], rows.target, rows.unit, [p.of([self.number]) for p in rows.parts], kind
            )
            return Picked(single[0].fit(chosen), self.number)

    class Picked:
        def __init__(self, formula: object, number: int) -> None:
            self.formula, self.number = formula, number

        def weigh(self, columns: np.ndarray, curved: object = None) -> np.ndarray:  # noqa: ARG002
            return self.formula.predict(columns[:, [self.number]])  # type: ignore[attr-defined]

        def decide(self, values: np.ndarray) -> np.ndarray:
            return values

    for _ in range(60):
        target = random.normal(size=60)
        columns = target[:, None] + random.normal(size=(60, 30))
        found = play(all_rows(columns, target, np.arange(60) % 5, kind), [Only(k) for k in range(30)])  # type: ignore[misc]
        own.append(-found.utility[found.chosen])
        honest.append(kind(target, found.prediction))
        truth.append(1.0)
    error = np.std(honest) / np.sqrt(60)
    assert np.mean(own) < 1.0 - 5 * error
    assert np.mean(honest) == pytest.approx(1.0, abs=4 * error)


def test_only_contenders_are_chosen() -> None:
    columns, target, unit = toy(n_rows=80)
    kind = METRICS["rmse"]
    makings = sorted(makings_for(kind), key=lambda making: making.method != "single")
    found = play(all_rows(columns, target, unit, kind), makings, contenders=3)
    assert found.makings[found.chosen].method == "single"
    best = found.nested[:, :3].T
    assert all(any(row == value for value in column) for row, column in zip(found.prediction, best.T, strict=True))


@pytest.mark.parametrize("metric", [name for name, metric in METRICS.items() if metric.scale_free])
def test_a_model_alone_is_scored_as_it_is_where_scale_does_not_matter(metric: str) -> None:
    """Every unit chooses the same model, so that its nested metric is the model's own."""
    columns, target, unit = toy(n_rows=80)
    target = target.round() if metric in ("auc", "average_precision") else target
    columns[:, 0] = target + 0.01 * columns[:, 0]
    found = play(all_rows(columns, target, unit, METRICS[metric]), makings_for(METRICS[metric]))
    place = found.names.index("single+line")
    assert found.utility[place] == pytest.approx(METRICS[metric](target, columns[:, 0]), abs=1e-12)
    line = found.formulas[place].predict(columns)
    np.testing.assert_allclose(found.nested[:, place], line, atol=1e-12)


def test_units_are_folds_or_where_there_are_few_groups_groups() -> None:
    fold = (np.arange(60) % 4).astype(np.int8)
    few, many = np.arange(60) // 10 + 7, np.arange(60)
    np.testing.assert_array_equal(units_of(fold, few.astype(np.int32)), few - 7)
    np.testing.assert_array_equal(units_of(fold, many.astype(np.int32)), fold)
    assert len(np.unique(many)) > FEW_GROUPS
    np.testing.assert_array_equal(units_of(fold, np.zeros(60, np.int32)), fold)
