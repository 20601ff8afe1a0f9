"""The whole fit on synthetic run directories, and what is written."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from blend.blend_folder import find_previous, read_blend, write_blend
from blend.blend_record import BlendRecord
from blend.evidence.blend_report import more_sentences, sentences
from blend.evidence.comparisons import PreviousBlend
from blend.fit.blend_settings import BlendSettings
from blend.fit.family_shares import LEAST_SHARE
from blend.fit.makings import makings_for
from blend.make_blend import FinishedBlend, make_blend
from blend.members.load_predictions import load_predictions
from blend.write_bundle import write_bundle
from data_prep.errors import InputError
from data_prep.scoring.metrics import METRICS, Targets
from data_prep.store.tables import OOF_SCHEMA, read_table
from data_prep.target_views import target_views


def fit(run: Any, *, name: str = "x", previous: PreviousBlend | None = None, **settings: Any) -> FinishedBlend:
    predictions = load_predictions([run.path], run.data)
    chosen = BlendSettings(**{"method": "nnls+line", "clip": True, **settings})
    return make_blend(predictions, run.data, chosen, name=name, previous=previous)


@pytest.mark.parametrize("metric", [name for name in METRICS if METRICS[name].targets is not Targets.CLASSES])
def test_every_metric_is_served_to_the_end(tmp_path: Path, toolbox: Any, metric: str) -> None:
    levels = {"score_levels": (0.0, 0.25, 0.5, 0.75, 1.0)}
    if METRICS[metric].targets is Targets.TWO_LEVELS:
        levels = {"score_levels": (0.0, 1.0)}
    task = toolbox.task.model_copy(update={"metric": metric, **levels})
    two = len(levels["score_levels"]) == 2
    run = toolbox.Run(tmp_path / "run", toolbox.make_prepared(tmp_path / "prepared", task=task, two=two))
    run.add("aaa", noise=0.2).add("bbb", noise=0.3)
    record = fit(run, method=None).record
    assert sum(abs(member.weight) for member in record.members) == pytest.approx(1.0)
    better = METRICS[metric].utility
    plain = "single+line" if METRICS[metric].scale_free else "single"
    assert {record.method, plain} <= set(record.makings)
    assert record.method in ("consensus", "nelder-mead+line")
    assert sum(making.share for making in record.makings.values()) == pytest.approx(1.0)
    assert better(record.makings[record.method].nested) >= better(record.makings[plain].nested) - 0.02
    expected = record.scores["blend"].expected
    assert expected is not None
    assert expected.low <= expected.value <= expected.high
    assert record.scores["blend"].holdout is not None


@pytest.mark.parametrize("method", [making.name for making in makings_for(METRICS["pearson"])])
def test_test_rows_pass_the_same_arithmetic(full_run: Any, method: str) -> None:
    """What the record computes from the test tables is what stands in the submission."""
    fitted = fit(full_run, method=method)
    predictions = load_predictions([full_run.path], full_run.data)
    columns = {m.candidate: c.test for m, c in zip(predictions.members, predictions.columns, strict=True)}
    restored = BlendRecord.model_validate_json(fitted.record.model_dump_json())
    expected = restored.combination.predict([columns[part.candidate] for part in restored.combination.parts])
    written = np.array([float(line.split(b",")[1]) for line in fitted.submission.splitlines()[1:]])
    np.testing.assert_allclose(written, np.clip(expected, 0, 1), atol=1e-7)
    assert fitted.record.method == method
    assert all(len(part.scalings) == 1 for part in restored.combination.parts)


def with_length(run: Any, toolbox: Any, *, told: bool) -> Any:
    """Return a run whose prepared tables have a numeric column `length`; `told`: it tells how far the target is off."""
    data, random = run.data, np.random.default_rng(0)
    wrong = sum(
        read_table(run.root / "oof" / "aaa" / f"fold-{fold}.arrow")
        .to_pandas()
        .set_index("id")
        .eval("score - 2 * prediction")
        .reindex(data.train["id"].to_pylist(), fill_value=0.0)
        for fold in range(4)
    )
    train = wrong.to_numpy() if told else random.normal(size=len(data.train))
    test = random.normal(size=len(data.test)) * train.std()
    data = toolbox.replace(
        data,
        train=data.train.append_column("length", pa.array(train)),
        test=data.test.append_column("length", pa.array(test)),
    )
    run.data = data
    return run


@pytest.mark.parametrize("method", ["stacked-ridge", "stacked-trees"])
def test_a_stacked_blend_predicts_test_rows_from_its_record(full_run: Any, toolbox: Any, method: str) -> None:
    run = with_length(full_run, toolbox, told=True)
    fitted = fit(run, method=method, clip=True)
    restored = BlendRecord.model_validate_json(fitted.record.model_dump_json())
    predictions = load_predictions([run.path], run.data)
    length = {"length": run.data.test["length"].to_numpy()}
    expected = restored.combination.predict([column.test for column in predictions.columns], length)
    written = np.array([float(line.split(b",")[1]) for line in fitted.submission.splitlines()[1:]])
    np.testing.assert_allclose(written, np.clip(expected, 0, 1), atol=1e-7)
    assert restored.combination.stack is not None
    assert restored.combination.stack.columns == ("length",)
    assert bool(restored.combination.stack.trees) == (method == "stacked-trees")
    assert restored.scores["blend"].holdout is not None
    assert sum(abs(member.weight) for member in restored.members) == pytest.approx(1.0)
    text = " ".join([*sentences(restored), *more_sentences(restored)])
    assert f"chosen: {method}, as asked, 3 members and 1 numeric column" in text
    assert "numeric columns: length +" in text


@pytest.mark.parametrize("told", [True, False])
def test_stacked_makings_compete_where_there_are_numeric_columns(full_run: Any, toolbox: Any, told: bool) -> None:
    record = fit(with_length(full_run, toolbox, told=told), method=None).record
    assert {"stacked-ridge", "stacked-trees"} <= set(record.makings)
    assert record.method.startswith("stacked") == told
    assert (record.combination.stack is not None) == told


def test_a_bundle_of_a_stacked_blend_is_refused_with_one_that_it_can_hold(full_run: Any, tmp_path: Path) -> None:
    record = fit(full_run, method="stacked-trees").record
    with pytest.raises(InputError, match=r"neither numeric columns nor trees; .* --method mean\+line --name x-linear"):
        write_bundle(full_run.path, record, full_run.data, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="--method stacked-trees: cannot raise a family's weight"):
        fit(full_run, method="stacked-trees", one_per_family=True)


def test_nothing_that_is_chosen_saw_the_fold_that_it_is_scored_on(run: Any, toolbox: Any, tmp_path: Path) -> None:
    """Members, calibration curves and weights for fold 2 are the same when fold 2's own predictions give it away."""

    def cheat(fold: int, tables: Any, origin: Any) -> Any:
        if fold != 2:
            return tables, origin
        place = tables.oof.schema.get_field_index("prediction")
        return toolbox.replace(tables, oof=tables.oof.set_column(place, "prediction", tables.oof["score"])), origin

    honest = run.add("good", noise=0.3).add("also", noise=0.35).add("third", noise=0.5)
    caught = toolbox.Run(tmp_path / "caught", run.data)
    caught.add("good", noise=0.3).add("also", noise=0.35).add("third", noise=0.5, change=cheat)
    options = {"method": "isotonic:greedy+line", "most_members": 2}
    weights = [
        {member.candidate: member.nested_weights for member in fit(r, **options).record.members}
        for r in (honest, caught)
    ]
    shared = weights[0].keys() & weights[1].keys()
    assert shared
    assert weights[0] != weights[1], "the other folds' choices saw it"
    for candidate in shared:
        assert weights[0][candidate][2] == weights[1][candidate][2]


def test_without_a_method_all_compete(full_run: Any) -> None:
    full_run.add("useless", noise=20.0)
    everyone = load_predictions([full_run.path], full_run.data, dead_below=-1)
    record = make_blend(everyone, full_run.data, BlendSettings(clip=True), name="x").record
    nested = [making.nested for making in record.makings.values()]
    assert nested == sorted(nested, reverse=True)
    assert set(record.makings) == {"consensus", *(making.name for making in makings_for(METRICS["pearson"]))}
    assert sum(making.share for making in record.makings.values()) == pytest.approx(1.0)


def test_a_method_of_ones_own_competes_with_nobody_and_is_compared_with_the_plain_ones(full_run: Any) -> None:
    record = fit(full_run, method="mean+line").record
    assert record.method == "mean+line"
    assert set(record.makings) == {"mean+line", "single+line"}
    assert [entry.against for entry in record.comparisons] == ["best single model", "mean"]
    assert record.comparisons[1].difference == 0.0
    with pytest.raises(
        InputError, match=r"--method magic: unknown for metric pearson; known: nelder-mead\+line, single"
    ):
        fit(full_run, method="magic")


def test_parsimony_takes_the_fewest_within_one_standard_error(run: Any) -> None:
    run.add("good", noise=0.1)
    for name in ("bbb", "ccc", "ddd"):
        run.add(name, noise=0.6)
    whole, few = (fit(run, method=None, parsimony=parsimony).record for parsimony in (False, True))
    assert len(few.members) < len(whole.members)
    assert whole.price is None
    assert few.price is not None
    assert few.price.difference <= few.price.standard_error


def test_every_family_takes_part_on_request(run: Any) -> None:
    run.add("good", noise=0.05).add("poor", noise=3.0)
    assert [member.candidate for member in fit(run, method="single+line").record.members] == ["good"]
    record = fit(run, method="single+line", one_per_family=True).record
    weights = {member.candidate: member.weight for member in record.members}
    assert weights["poor"] == pytest.approx(LEAST_SHARE)
    assert sum(weights.values()) == pytest.approx(1.0)


def test_certificate_is_the_exact_optimum_of_the_same_columns(full_run: Any) -> None:
    record = fit(full_run, method="nelder-mead+line").record
    assert record.certificate is not None
    assert 0.0 <= record.certificate.gap + 1e-12 < 1e-8
    assert fit(full_run, method="mean+line").record.certificate is None, "it does not search for the optimum"


def test_range_is_kept_only_on_request(run: Any, toolbox: Any) -> None:
    def level(fold: int, tables: Any, origin: Any) -> Any:
        place = tables.test.schema.get_field_index("prediction")
        values = tables.test["prediction"].to_numpy().copy()
        values[:2] = [9.0, -9.0]
        return toolbox.replace(tables, test=tables.test.set_column(place, "prediction", pa.array(values))), origin

    run.add("aaa", change=level)
    with pytest.raises(InputError, match=r"predictions are outside \[0, 1\].*t000, t001"):
        fit(run, clip=False)
    fitted = fit(run)
    assert fitted.submission.decode().splitlines()[1:3] == ["t000,1", "t001,0"]
    assert fitted.record.submission.clipped >= 2
    assert fitted.record.clip


def test_a_refused_blend_leaves_the_old_files_untouched(full_run: Any, toolbox: Any) -> None:
    folder = full_run.root / "blends" / "x"
    predictions = load_predictions([full_run.path], full_run.data)
    write_blend(fit(full_run), str(folder))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(before) == ["blend.json", "oof.arrow", "submission.csv", "submission.json"]
    flat = toolbox.replace(
        predictions,
        columns=tuple(toolbox.replace(c, test=(np.full(36, 0.5, np.float32),) * 4) for c in predictions.columns),
    )
    with pytest.raises(InputError, match="submission refused: all 36 predictions are"):
        make_blend(flat, full_run.data, BlendSettings(method="mean+line", clip=True), name="x")
    with pytest.raises(InputError, match="holds another blend"):
        write_blend(fit(full_run, method="mean+line"), str(folder))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_nested_predictions_are_kept_and_score_what_the_record_says(full_run: Any) -> None:
    folder = full_run.root / "blends" / "x"
    fitted = fit(full_run)
    write_blend(fitted, str(folder))
    table = read_table(folder / "oof.arrow", schema=OOF_SCHEMA).to_pandas()
    values = [np.corrcoef(part["score"], part["prediction"])[0, 1] for _, part in table.groupby("fold")]
    assert fitted.record.scores["blend"].nested.folds == pytest.approx(values, abs=1e-6)
    train = full_run.data.train.to_pandas().set_index("id")
    assert table["score"].tolist() == train.loc[table["id"], "score"].tolist()


def test_a_later_blend_is_compared_with_the_one_before(full_run: Any) -> None:
    predictions = load_predictions([full_run.path], full_run.data)
    runs, (view,) = [full_run.path], target_views(full_run.data.task)
    assert find_previous(runs, "first", None, predictions, view) is None
    first = fit(full_run, method="mean+line", name="first")
    write_blend(first, str(full_run.root / "blends" / "first"))
    time.sleep(0.01)
    write_blend(fit(full_run, name="second"), str(full_run.root / "blends" / "second"))
    found = find_previous(runs, "third", None, predictions, view)
    assert found is not None
    assert found.name == "second"
    found = find_previous(runs, "second", None, predictions, view)
    assert found is not None
    assert found.name == "first"
    np.testing.assert_array_equal(found.prediction, first.oof["prediction"].to_numpy())
    record = fit(full_run, name="third", previous=found).record
    assert record.previous is not None
    assert record.previous.against == "first"
    expected = record.scores["blend"].nested.pooled - first.record.scores["blend"].nested.pooled
    assert record.previous.difference == pytest.approx(expected, abs=1e-6)
    with pytest.raises(InputError, match="--against nobody: no such blend; known: first, second"):
        find_previous(runs, "third", "nobody", predictions, view)


def test_a_blend_of_other_rows_is_no_rival(full_run: Any, toolbox: Any, tmp_path: Path) -> None:
    predictions = load_predictions([full_run.path], full_run.data)
    folder = full_run.root / "blends" / "old"
    (view,), fitted = target_views(full_run.data.task), fit(full_run)
    write_blend(toolbox.replace(fitted, oof=fitted.oof[:-1]), str(folder))
    assert find_previous([full_run.path], "new", None, predictions, view) is None
    with pytest.raises(InputError, match="holds a blend for other rows"):
        find_previous([full_run.path], "new", "old", predictions, view)


def test_record_reads_back_from_its_file(full_run: Any) -> None:
    folder = full_run.root / "blends" / "x"
    fitted = fit(full_run)
    write_blend(fitted, str(folder))
    assert read_blend(full_run.path, "x") == fitted.record
