"""The whole fit on synthetic run directories, and what is written."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from blend.blend_folder import find_previous, read_blend, write_blend
from blend.blend_record import Blend
from blend.evidence.comparisons import PreviousBlend
from blend.fit.blend_settings import BlendSettings
from blend.fit.calibration import CALIBRATIONS
from blend.fit.calibration_choice import CHOICES
from blend.fit.membership import LEAST_SHARE
from blend.fit.weight_methods import METHODS
from blend.make_blend import FinishedBlend, make_blend
from blend.members.load_predictions import load_predictions
from data_prep.errors import InputError
from data_prep.scoring.metrics import METRICS
from data_prep.store.tables import OOF_SCHEMA, read_table


def fit(run: Any, *, name: str = "x", previous: PreviousBlend | None = None, **settings: Any) -> FinishedBlend:
    predictions = load_predictions([run.path], run.data)
    chosen = BlendSettings(**{"method": "nnls", "clip": True, **settings})
    return make_blend(predictions, run.data, chosen, name=name, previous=previous)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("metric", METRICS)
def test_every_method_serves_every_metric_to_the_end(tmp_path: Path, toolbox: Any, method: str, metric: str) -> None:
    task = toolbox.task.model_copy(update={"metric": metric})
    run = toolbox.Run(tmp_path / "run", toolbox.make_prepared(tmp_path / "prepared", task=task))
    run.add("aaa", noise=0.2).add("bbb", noise=0.3)
    if method == "nnls" and metric == "spearman":
        with pytest.raises(InputError, match="the task's metric is 'spearman'"):
            fit(run, method=method)
        return
    record = fit(run, method=method).record
    assert record.method == method
    assert method in record.methods
    assert sum(abs(member.weight) for member in record.members) == pytest.approx(1.0)
    better = METRICS[metric].utility
    expected = record.scores["blend"].expected
    assert expected is not None
    assert better(expected.value) > better(record.scores["blend"].nested.pooled), "the mean over folds helps"
    assert record.scores["blend"].holdout is not None
    assert better(record.scores["blend"].holdout) > better(record.scores["blend"].nested.pooled)


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_test_rows_pass_the_same_scalings(full_run: Any, calibration: str) -> None:
    """What the record computes from the test tables is what stands in the submission."""
    fitted = fit(full_run, calibration=calibration)
    predictions = load_predictions([full_run.path], full_run.data)
    columns = {m.candidate: c.test for m, c in zip(predictions.members, predictions.columns, strict=True)}
    restored = Blend.model_validate_json(fitted.record.model_dump_json())
    expected = restored.combination.predict([columns[part.candidate] for part in restored.combination.parts])
    written = np.array([float(line.split(b",")[1]) for line in fitted.submission.splitlines()[1:]])
    np.testing.assert_allclose(written, np.clip(expected, 0, 1), atol=1e-7)
    n_scalings = {len(part.scalings) for part in restored.combination.parts}
    assert n_scalings == {4 if calibration.endswith("by-fold") else 1}


def test_drifting_folds_call_for_a_scale_of_their_own(run: Any, toolbox: Any) -> None:
    def drift(fold: int, tables: Any, origin: Any) -> Any:
        def moved(table: pa.Table) -> pa.Table:
            values = table["prediction"].to_numpy() * (1 + 4 * fold) + 10 * fold
            place = table.schema.get_field_index("prediction")
            return table.set_column(place, "prediction", pa.array(values, pa.float32()))

        return toolbox.replace(tables, oof=moved(tables.oof), test=moved(tables.test)), origin

    for name in ("aaa", "bbb", "ccc"):
        run.add(name, noise=0.2, change=drift if name != "ccc" else None)
    record = fit(run).record
    assert record.calibration == "z-by-fold"
    assert set(record.calibrations) == set(CHOICES)
    best = max(record.calibrations.values(), key=lambda entry: entry.nested.fold_mean)
    chosen = record.calibrations[record.calibration]
    assert best.nested.fold_mean - chosen.nested.fold_mean <= max(chosen.behind.standard_error, 1e-12)
    assert record.calibrations["none"].nested.fold_mean < chosen.nested.fold_mean - 0.02


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
    options = {"calibration": "isotonic", "most_members": 2}
    weights = [
        {member.candidate: member.nested_weights for member in fit(r, **options).record.members}
        for r in (honest, caught)
    ]
    shared = weights[0].keys() & weights[1].keys()
    assert shared
    assert weights[0] != weights[1], "the other folds' choices saw it"
    for candidate in shared:
        assert weights[0][candidate][2] == weights[1][candidate][2]


def test_given_members_are_all_taken(full_run: Any, toolbox: Any) -> None:
    full_run.add("useless", noise=20.0)
    everyone = load_predictions([full_run.path], full_run.data, dead_below=-1)
    settings = BlendSettings(method="mean", clip=True)
    all_of_them = toolbox.replace(settings, choose_members=False)
    given = make_blend(everyone, full_run.data, all_of_them, name="x").record
    assert [member.candidate for member in given.members] == ["aaa", "bbb", "ccc", "useless"]
    assert given.path == ()
    chosen = make_blend(everyone, full_run.data, settings, name="x").record
    assert "useless" not in {member.candidate for member in chosen.members}
    assert {step.n_members for step in chosen.path} >= {1, 2}


def test_near_duplicates_are_reported(run: Any) -> None:
    run.add("aaa", noise=0.2)
    run.add_like("twin", "aaa", wobble=0.02)
    record = fit(run).record
    assert len(record.members) == 1
    assert any("predicts nearly the same as" in sentence and "(r 0.99" in sentence for sentence in record.left_out)


def test_every_family_takes_part_on_request(run: Any) -> None:
    run.add("good", noise=0.05).add("poor", noise=3.0)
    assert [member.candidate for member in fit(run).record.members] == ["good"]
    record = fit(run, one_per_family=True).record
    weights = {member.candidate: member.weight for member in record.members}
    assert weights["poor"] == pytest.approx(LEAST_SHARE)
    assert sum(weights.values()) == pytest.approx(1.0)


def test_weights_of_free_sign_are_never_taken_unless_asked_for(full_run: Any) -> None:
    assert "free-ridge" not in fit(full_run).record.methods
    assert "free-ridge" in fit(full_run, method="free-ridge").record.methods


def test_certificate_is_the_exact_optimum_of_the_same_columns(full_run: Any) -> None:
    record = fit(full_run, method="nelder-mead").record
    assert record.certificate is not None
    assert 0.0 <= record.certificate.gap + 1e-12 < 1e-8
    worse = fit(full_run, method="mean").record.certificate
    assert worse is not None
    assert worse.gap > 1e-4


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
    write_blend(fit(full_run), predictions, str(folder))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(before) == ["blend.json", "oof.arrow", "submission.csv", "submission.json"]
    flat = toolbox.replace(
        predictions,
        columns=tuple(toolbox.replace(c, test=(np.full(36, 0.5, np.float32),) * 4) for c in predictions.columns),
    )
    with pytest.raises(InputError, match="submission refused: all 36 predictions are"):
        make_blend(flat, full_run.data, BlendSettings(method="mean", clip=True), name="x")
    with pytest.raises(InputError, match="holds another blend"):
        write_blend(fit(full_run, method="mean"), predictions, str(folder))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_nested_predictions_are_kept_and_score_what_the_record_says(full_run: Any) -> None:
    folder = full_run.root / "blends" / "x"
    fitted = fit(full_run)
    write_blend(fitted, load_predictions([full_run.path], full_run.data), str(folder))
    table = read_table(folder / "oof.arrow", schema=OOF_SCHEMA).to_pandas()
    values = [np.corrcoef(part["score"], part["prediction"])[0, 1] for _, part in table.groupby("fold")]
    assert fitted.record.scores["blend"].nested.folds == pytest.approx(values, abs=1e-6)
    train = full_run.data.train.to_pandas().set_index("id")
    assert table["score"].tolist() == train.loc[table["id"], "score"].tolist()


def test_a_later_blend_is_compared_with_the_one_before(full_run: Any) -> None:
    predictions = load_predictions([full_run.path], full_run.data)
    runs = [full_run.path]
    assert find_previous(runs, "first", None, predictions) is None
    first = fit(full_run, method="mean", name="first")
    write_blend(first, predictions, str(full_run.root / "blends" / "first"))
    time.sleep(0.01)
    write_blend(fit(full_run, name="second"), predictions, str(full_run.root / "blends" / "second"))
    found = find_previous(runs, "third", None, predictions)
    assert found is not None
    assert found.name == "second"
    found = find_previous(runs, "second", None, predictions)
    assert found is not None
    assert found.name == "first"
    np.testing.assert_allclose(found.prediction, first.nested, atol=1e-6)
    record = fit(full_run, name="third", previous=found).record
    assert record.previous is not None
    assert record.previous.against == "first"
    expected = record.scores["blend"].nested.fold_mean - first.record.scores["blend"].nested.fold_mean
    assert record.previous.difference == pytest.approx(expected, abs=1e-6)
    with pytest.raises(InputError, match="--against nobody: no such blend; known: first, second"):
        find_previous(runs, "third", "nobody", predictions)


def test_a_blend_of_other_rows_is_no_rival(full_run: Any, toolbox: Any, tmp_path: Path) -> None:
    predictions = load_predictions([full_run.path], full_run.data)
    folder = full_run.root / "blends" / "old"
    fewer = toolbox.replace(
        predictions, ids=predictions.ids[:-1], fold=predictions.fold[:-1], target=predictions.target[:-1]
    )
    fitted = fit(full_run)
    write_blend(toolbox.replace(fitted, nested=fitted.nested[:-1]), fewer, str(folder))
    assert find_previous([full_run.path], "new", None, predictions) is None
    with pytest.raises(InputError, match="holds a blend for other rows"):
        find_previous([full_run.path], "new", "old", predictions)


def test_record_reads_back_from_its_file(full_run: Any) -> None:
    folder = full_run.root / "blends" / "x"
    fitted = fit(full_run)
    write_blend(fitted, load_predictions([full_run.path], full_run.data), str(folder))
    assert read_blend(full_run.path, "x") == fitted.record
