import json

import numpy as np
import pytest

from data_prep.audit import leakage
from data_prep.audit.audit_report import audit
from data_prep.audit.audit_tables import audit_tables
from data_prep.console import console
from data_prep.prepare.folds import SCHEMES
from data_prep.prepare.prepare_folder import prepare
from data_prep.task import Task

LETTERS = "bcdfghjklmnpqrstvwz"


def words(generator: np.random.Generator, n_words: int) -> str:
    """Return made-up words."""
    return " ".join("".join(generator.choice(list(LETTERS), 7)) for _ in range(n_words))


@pytest.fixture
def remembered(inputs, prepare_inputs):
    """A prepared set whose scores can only be remembered: each anchor's rows share a score that is drawn."""
    generator = np.random.default_rng(0)
    inputs.train[:] = []
    for anchor in range(60):
        name, score = words(generator, 2), str(generator.choice([0, 0.25, 0.5, 0.75, 1]))
        inputs.train += [[f"a{anchor}-{row}", name, words(generator, 1), "A47", score] for row in range(8)]
    return prepare_inputs(inputs)


def test_leakage_is_found_where_scores_can_be_remembered(remembered):
    found = {one.scheme: one for one in audit(remembered).leakage.schemes}
    assert list(found) == list(SCHEMES)
    for careless in ("kfold", "stratified"):
        assert found[careless].metric > 0.9
        assert found[careless].inflation > 5 * found[careless].standard_error > 0
    assert abs(found["stratified_group"].metric) < 0.35
    assert found["stratified_group"].inflation == found["stratified_group"].standard_error == 0


def test_leakage_is_a_function_of_the_seed(remembered):
    settings = {"n_folds": 4, "seed": 3}
    first, again = (leakage.measure_leakage(remembered.train, remembered.task, **settings) for _ in range(2))
    assert first == again


@pytest.mark.parametrize(("scheme", "across"), [("kfold", 1), ("group", 0)])
def test_groups_that_look_equal_are_counted(scheme, across, inputs, prepare_inputs):
    for row, name in zip(inputs.train, ["TR Anchor 0", "tr anchor 0 ", "ｔr anchor 0"], strict=False):
        row[1] = name
    report = audit(prepare_inputs(inputs, scheme=scheme))
    found = report.equal_names
    assert (found.sets, found.rows, found.across_folds) == (1, 10, across)
    assert found.examples == (("tr anchor 0",),)
    assert (report.group_names, report.linked_groups) == (15, 12)


def test_a_large_table_is_sampled_by_whole_groups(remembered):
    limits = {"pool_rows": 200, "scored_rows": 50}
    found = leakage.measure_leakage(remembered.train, remembered.task, n_folds=4, seed=0, **limits)
    assert (found.pool_rows, found.scored_rows) == (200, 50)


def test_batches_do_not_show(remembered):
    whole = leakage.measure_leakage(remembered.train, remembered.task, n_folds=4, seed=0)
    assert leakage.measure_leakage(remembered.train, remembered.task, n_folds=4, seed=0, batch_rows=37) == whole


def test_votes_equal_a_plain_nearest_neighbour_loop():
    generator = np.random.default_rng(0)
    similarity, scores = generator.uniform(0, 1, (5, 60)).astype(np.float32), generator.uniform(0, 1, 60)
    similarity[:, 50:] = -1
    for row, found in enumerate(leakage._vote(similarity, scores)):
        nearest = sorted(range(60), key=lambda column, row=row: -similarity[row, column])[: leakage.N_NEIGHBOURS]
        weights = [similarity[row, column] ** leakage.SHARPNESS for column in nearest]
        assert found == pytest.approx(np.average(scores[nearest], weights=weights), rel=1e-5)


def test_counts_of_a_set_made_by_hand(inputs, prepare_inputs):
    def row(number: int, anchor: str, target: str, context: str, score: str) -> list[str]:
        return [f"h{number}", anchor, target, context, score]

    inputs.train[:4] = [
        row(0, "pump", "water pumps", "A47", "0.5"),
        row(1, "pump", "Pump  water", "A47", "0.75"),
        row(2, "pump", "water pumps", "B29", "0.5"),
        row(3, "pump", "water pumps", "A47", "0.5"),
    ]
    inputs.test[0][2] = "water pumps"
    report = audit(prepare_inputs(inputs))
    assert report.rows == {"train": 120, "holdout": 0, "test": 15}
    assert report.group_names == 13
    assert report.linked_groups == 13
    assert (report.repeated_rows.sets, report.repeated_rows.rows, report.repeated_rows.differing_scores) == (1, 2, 0)
    assert report.repeated_rows.examples == (("pump", "water pumps", "A47"),)
    assert report.repeated_pairs is not None
    assert (report.repeated_pairs.sets, report.repeated_pairs.rows, report.repeated_pairs.differing_scores) == (1, 2, 0)
    assert (report.near_duplicates.sets, report.near_duplicates.rows) == (1, 2)
    assert report.near_duplicates.differing_scores == 1
    assert report.near_duplicates.across_folds == 0
    target = next(one for one in report.columns if one.column == "target")
    assert (target.train, target.test, target.in_both, target.in_several_folds) == (118, 15, 12, 0)
    assert sum(one.rows for one in report.folds) == 120
    for one in report.folds:
        assert sum(one.score_counts.values()) == one.rows
        assert list(one.score_counts) == ["0", "0.25", "0.5", "0.75", "1"]


def test_texts_in_several_folds_are_counted(inputs, prepare_inputs):
    for row in range(0, 120, 10):
        inputs.train[row][2] = "everywhere"
    target = next(one for one in audit(prepare_inputs(inputs)).columns if one.column == "target")
    assert (target.in_several_folds, target.rows_in_several_folds) == (1, 12)
    anchor = next(one for one in audit(prepare_inputs(inputs)).columns if one.column == "anchor")
    assert anchor.in_several_folds == 0


@pytest.mark.parametrize("texts", [("essay",), ("essay", "reply")])
def test_a_task_of_one_or_two_texts_can_be_audited(texts, tmp_path):
    generator = np.random.default_rng(0)
    task = Task(name="essays", text_columns=texts, score_range=(0, 5), metric="rmse")
    for name, n_rows, columns in (("train", 90, [*texts, "score"]), ("test", 5, list(texts))):
        lines = [",".join(["id", *columns])]
        for row in range(n_rows):
            cells = [words(generator, 3) for _ in texts] + (
                [f"{generator.uniform(0, 5):.2f}"] if name == "train" else []
            )
            lines.append(",".join([f"{name}{row}", *cells]))
        (tmp_path / f"{name}.csv").write_text("\n".join(lines))
    prepared = prepare(
        train=tmp_path / "train.csv", test=tmp_path / "test.csv", out=tmp_path / "out", task=task, scheme="stratified"
    )
    report = audit(prepared)
    assert report.repeated_pairs is None
    assert [one.scheme for one in report.leakage.schemes] == ["kfold", "stratified"]
    assert report.leakage.reference == "stratified"
    assert report.folds[0].score_counts == {}
    with console.capture() as shown:
        for table in audit_tables(report):
            console.print(table)
    assert "stratified" in shown.get()
    json.dumps(report.model_dump(mode="json"))
