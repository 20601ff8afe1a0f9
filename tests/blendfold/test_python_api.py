from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import blendfold as bf
from data_prep.prepared import Prepared
from data_prep.store.tables import read_table
from search.watch.leaderboard import leaderboard
from written_run import WrittenRun

SAMPLE = Path(__file__).parents[2] / "data_prep" / "sample"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, prepared_tiny: Prepared) -> WrittenRun:
    """Return a run directory with two complete candidates, one of them named, and one that has finished two folds."""
    path = tmp_path_factory.mktemp("run")
    run = WrittenRun(str(path), prepared_tiny)
    first, second, third = (run.add(seed) for seed in (1, 2, 3))
    study = {"name": "s", "data": prepared_tiny.path, "names": {"base": first.id}}
    (path / "study.yaml").write_text(yaml.safe_dump(study))
    for fold in range(4):
        run.point(first, fold, 0.5, 0.6)
        run.point(first, fold, 1.0, 0.7)
        run.point(second, fold, 1.0, 0.6)
    for fold in (0, 2):
        run.point(third, fold, 1.0, 0.5)
    return run


def test_tables_of_a_run_hold_what_its_files_say(written: WrittenRun, prepared_tiny: Prepared) -> None:
    run = bf.Run(written.path)
    first, second, third = (candidate.id for candidate in written.candidates)

    oof = run.oof()
    scored = prepared_tiny.train.to_pandas().query("fold >= 0")
    assert oof["id"].tolist() == scored["id"].tolist()
    assert oof["score"].tolist() == scored["score"].tolist()
    assert oof[[first, second]].notna().all(axis=None)
    assert sorted(oof["fold"][oof[third].notna()].unique()) == [0, 2]
    mine = oof[oof["fold"] == 2]
    noise = np.random.default_rng([1, 2]).normal(size=len(mine))
    np.testing.assert_allclose(mine[first], mine["score"] + noise, atol=1e-6)
    assert run.oof([second]).columns.tolist() == ["id", "fold", "score", second]

    test = run.test()
    assert test["id"].tolist() == prepared_tiny.test["id"].to_pylist()
    assert test.columns.tolist() == ["id", *oof.columns[3:]]
    models = [read_table(f"{written.path}/test/{third}/fold-{fold}.arrow")["prediction"] for fold in (0, 2)]
    np.testing.assert_allclose(test[third], np.mean(np.array(models, np.float64), axis=0))

    curves = run.curves()
    assert len(curves) == 4 * 3 + 2
    assert curves.query("candidate == @first and fold == 3")["metric"].tolist() == [0.6, 0.7]

    board, truth = run.leaderboard(), leaderboard(written.path)
    assert board["candidate"].tolist() == [row.candidate for row in truth.rows]
    assert board["mean"].tolist() == [row.mean for row in truth.rows]
    assert board["folds"].tolist() == [4, 4, 2]
    assert board.set_index("candidate").loc[first, "name"] == "base"
    leader = board.iloc[0]
    by_hand = [np.corrcoef(part["score"], part[leader["candidate"]])[0, 1] for _, part in oof.groupby("fold")]
    assert leader["mean"] == pytest.approx(np.mean(by_hand), abs=1e-6)

    settings = run.settings()
    assert settings.columns.tolist() == ["name", "seed"], "candidates differ in nothing else"
    assert settings["seed"].to_dict() == {first: 1, second: 2, third: 3}
    assert len(run.settings(everything=True).columns) > 20
    assert run.stories()["candidate"].tolist() == [first, second, third]
    assert run.status()[["study", "is_running", "fold_runs_finished"]].tolist() == ["s", False, 10]


def test_a_study_for_optunas_plots(written: WrittenRun) -> None:
    study = bf.Run(written.path).optuna_study()
    assert [trial.value for trial in study.trials] == pytest.approx([0.7, 0.6, 0.5])
    assert [trial.params for trial in study.trials] == [{"seed": 1}, {"seed": 2}, {"seed": 3}]
    assert study.best_trial.value == pytest.approx(0.7)


def test_a_blend_is_its_record_and_its_files(written: WrittenRun) -> None:
    run = bf.Run(written.path)
    blend = run.blend(clip=True, name="both", max_members=2)
    again = bf.Blend(written.path, "both")
    assert run.blends() == ["both"]
    assert blend.weights.equals(again.weights)
    assert blend.weights["weight"].sum() == pytest.approx(1)
    assert blend.nested == blend.record.scores["blend"].nested.pooled == blend.scores.loc["blend", "nested"]
    assert np.corrcoef(blend.oof["score"], blend.oof["prediction"])[0, 1] == pytest.approx(blend.nested, abs=1e-6)
    assert blend.submission["id"].tolist() == run.data.test["id"].tolist()
    assert blend.ways["behind"].is_monotonic_decreasing
    assert blend.error_correlations.shape == (len(blend.weights),) * 2

    worst = run.worst_rows(5)
    frame = blend.oof.assign(error=lambda rows: (rows["prediction"] - rows["score"]).abs())
    assert worst["id"].tolist() == frame.sort_values("error", ascending=False)["id"].tolist()[:5]
    assert run.slices(by="context")["n"].sum() == len(blend.oof)
    assert len(run.most_disputed(3)) == min(3, 3 * (len(blend.weights) > 1))
    with pytest.raises(bf.InputError, match="already holds another blend"):
        run.blend(name="both", method="mean+line")
    run.blend(name="both", method="mean+line", force=True)
    with pytest.raises(bf.InputError, match="no such blend"):
        bf.Blend(written.path, "third")


def test_a_table_gives_the_folder_that_its_file_gives(tmp_path: Path) -> None:
    tables = {name: pd.read_csv(SAMPLE / f"{name}.csv", keep_default_na=False) for name in ("train", "test")}
    by_table = bf.prepare(tables["train"], tables["test"], folds=4, out=tmp_path / "by_table")
    by_path = bf.prepare(SAMPLE / "train.csv", SAMPLE / "test.csv", folds=4, out=tmp_path / "by_path")
    for name in ("train.arrow", "test.arrow", "manifest.json"):
        assert (Path(by_table) / name).read_bytes() == (Path(by_path) / name).read_bytes()
    columns = ["id", "anchor", "target", "context", "context_text", "score", "group", "fold"]
    assert by_table.train.columns.tolist() == columns
    assert by_table.train["target"].tolist() == tables["train"]["target"].tolist()
    assert by_table.folds["rows"].sum() == 1500


AWKWARD = ["NA", "", " two  spaces ", 'says "so", twice', "line\nbreak", "line\r\nbreak", "Ω ﬁ 漢", "007", "1e5", "=A1"]


def test_texts_arrive_as_they_are(tmp_path: Path) -> None:
    texts = [text or "x" for text in AWKWARD]
    rows = pd.DataFrame({"id": range(10), "a": texts, "y": np.linspace(0, 1, 10, dtype=np.float32)})
    task = {"name": "toy", "text_columns": ["a"], "score_column": "y", "score_range": [0, 1]}
    data = bf.prepare(rows, task=task, folds=2, scheme="kfold", out=tmp_path / "toy")
    assert data.train["a"].tolist() == texts
    assert data.train["id"].tolist() == [str(number) for number in range(10)]
    assert data.train["score"].tolist() == rows["y"].tolist()
    assert data.test.empty


def test_faults_of_a_table_name_the_argument(tmp_path: Path) -> None:
    train = pd.read_csv(SAMPLE / "train.csv")
    train.loc[3, "target"] = None
    train.loc[5, "score"] = 0.3
    with pytest.raises(bf.InputError) as caught:
        bf.prepare(train, SAMPLE / "test.csv", out=tmp_path / "p")
    assert "train (DataFrame), column target: may not be empty or blank; found 1: line 5" in str(caught.value)
    assert "line 7 '0.3'" in str(caught.value)
    assert "has missing values in target" in str(caught.value)
    assert "keep_default_na=False" in str(caught.value)
    with pytest.raises(bf.InputError, match="task 'other': known are pppm"):
        bf.prepare(train, task="other")
    assert not (tmp_path / "p").exists()


def test_a_replay_is_that_of_the_command(written: WrittenRun) -> None:
    table = bf.replay(bf.Run(written.path), orders=3, ladder={"eta": 2}, members=["minilm-l6"])
    assert (table.loc["full grid", ["cost", "regret"]] == [1.0, 0.0]).all()
    assert table["cost"].between(0, 1).all()
    assert table["minilm-l6 kept"].max() == 1.0


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(bf.InputError, match="not a run directory"):
        bf.Run(tmp_path)


def test_imported_predictions_are_a_run(tmp_path: Path, prepared_tiny: Prepared) -> None:
    train = prepared_tiny.train.to_pandas()
    rows = train[train["fold"] >= 0]
    for name, noise in (("one", 0.1), ("two", 0.2)):
        seen = rows["score"] + np.random.default_rng(1).normal(scale=noise, size=len(rows))
        pd.DataFrame({"id": rows["id"], "prediction": seen}).to_csv(tmp_path / f"{name}.csv", index=False)
    run = bf.import_predictions(tmp_path / "*.csv", prepared_tiny.path, out=tmp_path / "team", split=prepared_tiny.path)
    assert run.oof().shape == (len(rows), 3 + 2)
    blend = run.blend()
    assert blend.weights["weight"].idxmax() in run.oof().columns
    with pytest.raises(bf.InputError, match="has no submission"):
        blend.submission  # noqa: B018 - reading it is the test


def test_a_module_of_the_users_is_named(tmp_path: Path) -> None:
    import os
    import subprocess
    import sys

    (tmp_path / "models.py").write_text("raise RuntimeError('the user file ran')")
    program = "import blendfold as bf\nbf.Run"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SAMPLE.parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.splitlines()[-1].startswith(
        f"ImportError: {tmp_path / 'models.py'} hides blendfold's own package `models`: rename it, or start Python"
    )


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(AttributeError, match=r"has no attribute 'fit'; it has .*search"):
        bf.fit  # noqa: B018 - asking is the test
    assert set(bf.__all__) <= set(dir(bf))
    assert all(getattr(bf, name).__doc__ for name in bf.__all__)
