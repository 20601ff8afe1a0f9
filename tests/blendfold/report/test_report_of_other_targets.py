"""The report and the Python API of runs for several targets and for classes, held to the record and the tables."""

import json
from pathlib import Path

import pytest

import blendfold as bf
from blendfold.report.write_report import write_report
from data_prep.errors import InputError
from read_page import read_page
from wide_run import CLASSES, SEVERAL, wide_data, wide_run


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a run for two targets, some missing, with a blend."""
    folder = tmp_path_factory.mktemp("several")
    wide_run(folder / "run", wide_data(folder, SEVERAL, missing=0.2), [0.5, 0.7])
    bf.Run(folder / "run").blend(name="both")
    return str(folder / "run")


def test_a_report_shows_all_targets_then_one(several: str) -> None:
    record = json.loads(Path(several, "blends/both/blend.json").read_text())
    page = read_page(write_report(several, blend="both/b"))
    nested = page.values("targets", "nested")
    for name, blend in zip(record["targets"], record["blends"], strict=True):
        assert nested[name] == pytest.approx(blend["scores"]["blend"]["nested"]["pooled"], abs=1e-9)
    assert nested["mean of all"] == pytest.approx((nested["a"] + nested["b"]) / 2)
    assert page.tiles["nested"] == pytest.approx(nested["mean of all"])
    assert page.values("members", "weight") == {
        member["candidate"]: pytest.approx(member["weight"]) for member in record["blends"][1]["members"]
    }
    assert "Target b" in page.source
    assert "--blend both/a" in page.source
    assert page.tables["worst"].keys() <= set(bf.Run(several).oof(target="b")["id"])


def test_a_target_that_the_blend_does_not_have_is_refused(several: str) -> None:
    with pytest.raises(InputError, match="no such target; blend both has targets a, b"):
        write_report(several, blend="both/c")


def test_a_blend_of_several_targets_in_python(several: str) -> None:
    blend, other = bf.Blend(several, "both"), bf.Blend(several, "both/b")
    table = blend.targets
    assert table.index.tolist() == ["a", "b", "mean"]
    assert table["nested"].tolist() == pytest.approx([blend.nested, other.nested, (blend.nested + other.nested) / 2])
    assert blend.oof.columns.tolist() == ["id", "fold", "score_a", "score_b", "prediction_a", "prediction_b"]
    assert blend.submission.columns.tolist() == ["id", "a", "b"]
    assert blend.name == other.name == "both"
    run = bf.Run(several)
    known = blend.oof["score_b"].notna()
    assert run.oof(target="b")["id"].tolist() == [
        name for name in run.data.train["id"] if name in set(blend.oof["id"][known])
    ]
    assert {"pooled_a", "pooled_b"} <= set(run.leaderboard().columns)
    with pytest.raises(InputError, match="a target must be named; known: a, b"):
        run.oof()
    with pytest.raises(InputError, match="no target 'c'; known: a, b"):
        run.test(target="c")


def test_a_report_of_classes_has_rows_for_each_class(tmp_path: Path) -> None:
    data = wide_data(tmp_path, CLASSES)
    wide_run(tmp_path / "run", data, [0.5, 1.0])
    blend = bf.Run(tmp_path / "run").blend(name="moods")
    page = read_page(write_report(str(tmp_path / "run")))
    assert page.tiles["nested"] == pytest.approx(blend.nested)
    assert all(name.split(" = ")[1] in CLASSES.classes for name in page.tables["worst"])
    assert "probabilities, one for each class" in page.source
    (fold_table,) = [table for name, table in page.tables.items() if name == "folds"]
    assert sum(cells["rows"].value for cells in fold_table.values()) == data.train.num_rows
    assert len(bf.Run(tmp_path / "run").oof()) == 3 * data.train.num_rows


def test_a_target_that_no_candidate_learned_is_blended_all_the_same(tmp_path: Path) -> None:
    data = wide_data(tmp_path, SEVERAL)
    wide_run(tmp_path / "run", data, [0.5, 0.6], unlearned="b")
    blend = bf.Run(tmp_path / "run").blend(name="both")
    second = blend.whole.by_target["b"]
    assert "no candidate learned this target" in second.left_out[0]
    assert len(second.members) > 0
    assert not blend.whole.by_target["a"].left_out
