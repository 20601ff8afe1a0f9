import numpy as np
import pandas as pd
import pytest

from blend.__main__ import app
from blend.blend_folder import read_blend
from blend.errors.error_rows import given_names, last_blend, load_error_rows
from blend.members.load_predictions import load_predictions
from data_prep.errors import InputError
from data_prep.store.oof_store import OofStore
from data_prep.store.tables import read_table


def fit(run, name, *options, method="ridge+line"):
    app(["fit", run.path, "--name", name, "--method", method, *options], standalone_mode=False)


def test_rows_hold_the_nested_prediction_and_every_members(full_run):
    fit(full_run, "first")
    rows = load_error_rows(full_run.path)
    assert (rows.source, rows.kind) == ("blend first", "nested")
    assert list(rows.members) == [member.candidate for member in read_blend(full_run.path, "first").members]
    frame = rows.frame.set_index("id")
    nested = read_table(full_run.root / "blends" / "first" / "oof.arrow").to_pandas().set_index("id")
    assert len(frame) == len(nested) == 240
    np.testing.assert_allclose(frame["prediction"], nested["prediction"][frame.index])
    np.testing.assert_allclose(frame["error"], frame["prediction"] - frame["score"])
    train = full_run.data.train.to_pandas().set_index("id").loc[frame.index]
    for name in ("left", "score", "fold", "group"):
        assert (frame[name] == train[name]).all()
    assert (frame["length"] == train["left"].str.len()).all()
    store = OofStore(full_run.path)
    for member in rows.members:
        parts = pd.concat([store.read("oof", member, fold).to_pandas() for fold in range(4)]).set_index("id")
        np.testing.assert_allclose(frame[member], parts["prediction"][frame.index])


def test_a_blend_scored_on_some_rows_has_those(full_run):
    fit(full_run, "some", "--score-on", "score=0,0.25,0.5")
    frame = load_error_rows(full_run.path, full_run.data, blend="some").frame
    assert sorted(frame["score"].unique()) == [0, 0.25, 0.5]


def test_the_blend_written_last_is_taken(full_run):
    assert last_blend(full_run.path) is None
    fit(full_run, "z-first")
    fit(full_run, "a-second", method="nnls+line")
    assert last_blend(full_run.path) == "a-second"
    assert load_error_rows(full_run.path).source == "blend a-second"
    assert load_error_rows(full_run.path, blend="z-first").source == "blend z-first"


def test_without_a_blend_the_best_candidate_of_those_with_the_most_folds_is_taken(run):
    run.add("bad", noise=0.5).add("good", noise=0.2).add("short", noise=0.1, folds=2)
    rows = load_error_rows(run.path)
    assert rows.source == "candidate good good-k2-pair-mean-mse"
    assert (rows.kind, list(rows.members)) == ("out-of-fold", ["good", "bad"])
    predictions = load_predictions([run.path], run.data, members=["good"])
    expected = pd.Series(predictions.oof([0])[:, 0], index=predictions.ids.to_pylist())
    frame = rows.frame.set_index("id")
    np.testing.assert_allclose(frame["prediction"], expected[frame.index])
    assert (frame["prediction"] == frame["good"]).all()


def test_a_search_that_runs_shows_the_folds_that_are_finished(run):
    run.add("only", folds=2)
    assert sorted(load_error_rows(run.path).frame["fold"].unique()) == [0, 1]


def test_a_run_without_predictions_says_so(run):
    with pytest.raises(InputError, match=r"no fold run is finished.*blendfold status"):
        load_error_rows(run.path)


def test_other_data_is_refused(full_run, toolbox, tmp_path):
    fit(full_run, "first")
    other = toolbox.make_prepared(tmp_path / "other", score_seed=1)
    with pytest.raises(InputError, match=r"blend first was fitted on other data"):
        load_error_rows(full_run.path, other)


def test_a_column_of_the_data_keeps_its_values_under_another_name_beside_ours():
    assert given_names(["left", "error"], ["error", "length"]) == ["left", "error (given)"]
