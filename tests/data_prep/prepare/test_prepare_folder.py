import csv
import hashlib
import json

import numpy as np
import pyarrow as pa
import pytest
import yaml

from data_prep import prepared as prepared_module
from data_prep.errors import InputError
from data_prep.prepare.folds import SCHEMES
from data_prep.prepare.prepare_folder import prepare
from data_prep.prepared import hash_data, hash_split, load_prepared, test_schema, train_schema
from data_prep.store.files import write_json
from data_prep.store.tables import DamagedTableError
from data_prep.store.yaml_documents import read_document
from data_prep.task import PPPM, Task

test_schema.__test__ = False


def test_the_prepared_folder_is_as_the_contract_says(inputs, prepare_inputs, tmp_path):
    prepared = prepare_inputs(inputs, holdout=0.1, seed=5)
    assert prepared.train.schema.equals(train_schema(PPPM))
    assert prepared.test.schema.equals(test_schema(PPPM))
    assert prepared.train["id"].to_pylist() == [row[0] for row in inputs.train]
    assert prepared.test["anchor"].to_pylist() == [row[1] for row in inputs.test]
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["rows"] == {"train": 110, "holdout": 10, "test": 15}
    assert (manifest["scheme"], manifest["n_folds"], manifest["seed"]) == ("stratified_group", 4, 5)
    for role in ("train", "test"):
        assert manifest["inputs"][role] == hashlib.sha256((tmp_path / f"{role}.csv").read_bytes()).hexdigest()
    assert manifest["data_hash"] == hash_data(prepared.train, prepared.test)
    assert manifest["split_hash"] == hash_split(prepared.train)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["manifest.json", "test.arrow", "train.arrow"]


def test_without_a_test_file_there_are_no_test_rows(inputs, prepare_inputs, tmp_path):
    train, _ = inputs.write()
    alone = prepare(train=train, test=None, out=tmp_path / "alone", n_folds=4)
    assert (alone.test.num_rows, alone.manifest.rows["test"]) == (0, 0)
    assert alone.test.schema.equals(test_schema(PPPM))
    assert alone.train.equals(prepare_inputs(inputs).train)


def test_context_text_is_section_and_class(inputs, prepare_inputs):
    prepared = prepare_inputs(inputs)
    texts = dict(zip(*(prepared.train[name].to_pylist() for name in ("context", "context_text")), strict=True))
    assert texts["G02"] == "PHYSICS; OPTICS"
    assert texts["A47"].startswith("HUMAN NECESSITIES; FURNITURE; DOMESTIC ARTICLES")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_holdout_is_whole_groups_under_every_scheme(scheme, inputs, prepare_inputs):
    prepared = prepare_inputs(inputs, scheme=scheme, holdout=0.2)
    folds, groups = (prepared.train[name].to_numpy() for name in ("fold", "group"))
    assert (folds == -1).sum() == 20
    assert not set(groups[folds == -1]) & set(groups[folds >= 0])
    assert set(folds) == {-1, 0, 1, 2, 3}


def test_an_anchor_that_is_anothers_target_joins_its_group(inputs, prepare_inputs):
    inputs.train[0][2] = "tr anchor 7"
    inputs.train[1][2] = "te anchor 1"
    groups = prepare_inputs(inputs).train["group"].to_numpy()
    assert len(set(groups)) == 11
    assert groups[0] == groups[75] == 0
    assert groups.max() == 10


@pytest.mark.parametrize("metric", ["pearson", "rmse"])
def test_folds_that_no_metric_can_judge_are_refused(metric, inputs, prepare_inputs, tmp_path):
    task = PPPM.model_copy(update={"metric": metric})
    for row in inputs.train[:30]:
        row[4] = "0.5"
    for row in inputs.train[30:]:
        row[4] = "0.25" if row[1].endswith(("3", "4", "5")) else row[4]
    with pytest.raises(
        InputError, match=rf"{metric} says nothing there: .*all \d+ rows of fold \d have the score 0.\d"
    ):
        prepare_inputs(inputs, task=task, n_folds=12, scheme="group")
    assert not (tmp_path / "out").exists()


def test_folds_and_holdouts_of_a_row_or_two_are_refused(inputs, prepare_inputs):
    del inputs.train[21:]
    inputs.train.append(["last", "alone", "x", "A47", "0.5"])
    with pytest.raises(InputError, match=r"fold \d holds 1 row; fold \d holds 1 row"):
        prepare_inputs(inputs, n_folds=4, scheme="group")
    with pytest.raises(InputError, match="the holdout holds 2 rows"):
        prepare_inputs(inputs, n_folds=2, scheme="kfold", holdout=0.1)


def test_the_split_hash_knows_the_split_and_the_data_hash_the_data(inputs, prepare_inputs, tmp_path):
    first = prepare_inputs(inputs).manifest
    other_split = prepare_inputs(inputs, out=tmp_path / "split", seed=1).manifest
    inputs.train[5][2] += "s"
    other_data = prepare_inputs(inputs, out=tmp_path / "data").manifest
    assert (first.data_hash == other_split.data_hash, first.split_hash == other_split.split_hash) == (True, False)
    assert (first.data_hash == other_data.data_hash, first.split_hash == other_data.split_hash) == (False, True)


def test_the_same_preparation_again_leaves_the_folder_alone(inputs, prepare_inputs, tmp_path):
    first = prepare_inputs(inputs)
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "out").iterdir()}
    assert prepare_inputs(inputs).manifest == first.manifest
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize(
    ("change", "named"), [({"seed": 1}, "seed, split_hash"), ({"n_folds": 3}, "n_folds"), ({"holdout": 0.1}, "holdout")]
)
def test_another_preparation_is_never_overwritten(change, named, inputs, prepare_inputs, tmp_path):
    prepare_inputs(inputs)
    before = (tmp_path / "out/train.arrow").read_bytes()
    with pytest.raises(InputError, match=f"already holds another preparation .it differs in .*{named}"):
        prepare_inputs(inputs, **change)
    assert (tmp_path / "out/train.arrow").read_bytes() == before


def test_two_folders_of_the_same_inputs_are_equal_byte_by_byte(inputs, prepare_inputs, tmp_path):
    for name in ("one", "two"):
        prepare_inputs(inputs, out=tmp_path / name, holdout=0.1)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert {"train.arrow", "test.arrow", "manifest.json"} == one.keys()
    assert one == two


@pytest.mark.parametrize("failing", ["test.arrow", "manifest.json"])
def test_a_preparation_that_stopped_halfway_is_no_prepared_folder_and_can_be_repeated(
    failing, inputs, prepare_inputs, tmp_path, monkeypatch
):
    def full(path: str) -> None:
        if path.endswith(failing):
            raise OSError(28, "No space left on device")

    for name in ("write_table", "write_record"):
        real = getattr(prepared_module, name)
        monkeypatch.setattr(
            prepared_module, name, lambda what, path, real=real, **kw: (full(path), real(what, path, **kw))
        )
    with pytest.raises(OSError, match="No space"):
        prepare_inputs(inputs)
    with pytest.raises(InputError, match=r"not a prepared folder .no manifest\.json.; make one with"):
        load_prepared(tmp_path / "out")
    monkeypatch.undo()
    assert prepare_inputs(inputs).train.num_rows == 120


@pytest.mark.parametrize("change", [("pearson", "spearman"), ('"n_folds": 4', '"n_folds": 5')])
def test_an_edited_manifest_is_refused_also_without_its_seal_if_the_tables_contradict_it(
    change, inputs, prepare_inputs, tmp_path
):
    prepare_inputs(inputs)
    path = tmp_path / "out/manifest.json"
    assert change[0] in path.read_text()
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(
        InputError, match=r"manifest\.json: .*its content does not match its seal.*prepare the data again"
    ):
        load_prepared(tmp_path / "out")
    content = json.loads(path.read_text())
    del content["seal"]
    write_json(content, path)
    if "n_folds" in change[0]:
        with pytest.raises(InputError, match="belong to different preparations"):
            load_prepared(tmp_path / "out")
    else:
        assert load_prepared(tmp_path / "out").task.metric == "spearman", "older versions wrote no seal"


@pytest.mark.parametrize("name", ["train.arrow", "test.arrow"])
def test_damage_to_a_prepared_table_is_noticed(name, inputs, prepare_inputs, tmp_path):
    prepare_inputs(inputs)
    path = tmp_path / "out" / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DamagedTableError, match=name):
        load_prepared(tmp_path / "out")


def test_tables_of_another_preparation_are_noticed(inputs, prepare_inputs, tmp_path):
    prepare_inputs(inputs)
    prepare_inputs(inputs, out=tmp_path / "other", seed=1)
    (tmp_path / "other/train.arrow").replace(tmp_path / "out/train.arrow")
    with pytest.raises(InputError, match="belong to different preparations"):
        load_prepared(tmp_path / "out")


@pytest.mark.parametrize("content", ["{}", "[]", "no json", '{"task": 3}'])
def test_a_spoiled_manifest_is_an_input_error(content, inputs, prepare_inputs, tmp_path):
    prepare_inputs(inputs)
    (tmp_path / "out/manifest.json").write_text(content)
    with pytest.raises(InputError, match=r"manifest\.json: is not what this version of blendfold writes"):
        load_prepared(tmp_path / "out")


def test_settings_are_checked_before_files(tmp_path):
    with pytest.raises(InputError, match=r"unknown --scheme 'x'; known: kfold(.|\n)*--folds(.|\n)*--holdout"):
        prepare(train="nowhere", test="nowhere", out=tmp_path / "out", scheme="x", n_folds=0, holdout=2)


def write_csv(path, header, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture
def essays(tmp_path):
    """A data set unlike PPPM: one text, scores from 0 to 5, groups in a column of their own, other names."""
    generator = np.random.default_rng(0)
    rows = [
        [f"{number:04d}", f'essay {number}, "long"\nand wide', f"writer {number % 20}", repr(float(score))]
        for number, score in enumerate(generator.uniform(0, 5, 100))
    ]
    write_csv(tmp_path / "essays.csv", ["key", "essay", "writer", "mark"], rows)
    write_csv(tmp_path / "new.csv", ["key", "essay"], [["x1", "one"], ["x2", "two"]])
    task = {
        "name": "essays",
        "id_column": "key",
        "text_columns": ["essay"],
        "score_column": "mark",
        "score_range": [0, 5],
        "group_column": "writer",
        "metric": "spearman",
    }
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task))
    return tmp_path, rows


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_task_file_makes_another_table_work(scheme, essays):
    folder, rows = essays
    task = read_document(folder / "task.yaml", Task)
    prepared = prepare(
        train=folder / "essays.csv", test=folder / "new.csv", out=folder / scheme, task=task, scheme=scheme, n_folds=4
    )
    assert prepared.train.schema.names == ["id", "essay", "score", "group", "fold"]
    assert prepared.test.schema.names == ["id", "essay"]
    assert prepared.train["id"].to_pylist() == [row[0] for row in rows]
    assert prepared.train["essay"].to_pylist() == [row[1] for row in rows]
    np.testing.assert_array_equal(prepared.train["score"], pa.array([float(row[3]) for row in rows], pa.float32()))
    np.testing.assert_array_equal(prepared.train["group"], np.arange(100) % 20)
    folds = prepared.train["fold"].to_numpy()
    whole = all(len(set(folds[writer::20])) == 1 for writer in range(20))
    assert whole == scheme.endswith("group")
    assert load_prepared(folder / scheme).task.measure.name == "spearman"


def test_a_group_column_in_the_test_file_is_allowed_and_not_used(essays):
    folder, _ = essays
    task = read_document(folder / "task.yaml", Task)
    settings = {"train": folder / "essays.csv", "task": task, "n_folds": 4}
    plain = prepare(test=folder / "new.csv", out=folder / "plain", **settings)
    write_csv(folder / "grouped.csv", ["key", "writer", "essay"], [["x1", "", "one"], ["x2", "w", "two"]])
    grouped = prepare(test=folder / "grouped.csv", out=folder / "grouped", **settings)
    assert grouped.manifest.data_hash == plain.manifest.data_hash


def test_faults_bear_the_names_of_the_task(essays):
    folder, rows = essays
    rows[0][3], rows[1][3], rows[2][2], rows[3][1] = "5.01", "-1", "", ""
    write_csv(folder / "essays.csv", ["key", "essay", "writer", "mark"], rows)
    task = read_document(folder / "task.yaml", Task)
    with pytest.raises(InputError) as error:
        prepare(train=folder / "essays.csv", test=folder / "new.csv", out=folder / "out", task=task, n_folds=30)
    text = str(error.value)
    assert "column mark: must be from 0 to 5; found 2: line 2 '5.01', line 4 '-1'" in text
    assert "column writer: may not be empty or blank; found 1: line 6" in text
    assert "column essay: may not be empty or blank; found 1: line 8" in text
    assert "need at least 30 linked groups, found 21" in text


def test_a_task_without_groups_takes_ungrouped_schemes_only(essays):
    folder, _ = essays
    task = Task(
        name="plain", id_column="key", text_columns=("essay", "writer"), score_column="mark", score_range=(0, 5)
    )
    write_csv(folder / "new.csv", ["key", "essay", "writer"], [["x1", "one", "w"]])
    settings = {"train": folder / "essays.csv", "test": folder / "new.csv", "task": task}
    with pytest.raises(InputError, match="--scheme group needs groups, but task 'plain' has no group_column"):
        prepare(out=folder / "out", scheme="group", **settings)
    prepared = prepare(out=folder / "out", scheme="stratified", holdout=0.1, **settings)
    np.testing.assert_array_equal(prepared.train["group"], np.arange(100))
    assert prepared.manifest.rows == {"train": 90, "holdout": 10, "test": 1}


def test_cpc_titles_for_a_task_without_codes_are_refused(essays):
    folder, _ = essays
    task = read_document(folder / "task.yaml", Task)
    with pytest.raises(InputError, match=r"--cpc does not apply to task 'essays'"):
        prepare(train=folder / "essays.csv", test=folder / "new.csv", out=folder / "o", task=task, cpc="titles.csv")
