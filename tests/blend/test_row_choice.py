import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from blend.__main__ import app
from blend.fit.blend_settings import BlendSettings
from blend.fit.fit_blend import fit_blend
from blend.fit.makings import Making
from blend.fit.objective import Readout
from blend.fit.tournament import FEW_GROUPS, all_rows, play, units_beside, units_of
from blend.members.load_predictions import load_predictions
from blend.row_choice import choose_rows
from data_prep.console import console
from data_prep.errors import InputError
from data_prep.scoring.metrics import pearson
from data_prep.store.tables import read_table


def is_like_test(ids: list[str]) -> np.ndarray:
    """Tell which train rows come from the test's source: every third group."""
    return np.array([int(name[1:]) // 6 % 3 == 0 for name in ids])


@pytest.fixture
def sources(run: Any, tmp_path: Path) -> str:
    """Return a file with the source of each train row."""
    path = tmp_path / "rows.csv"
    ids = run.data.train["id"].to_pylist()
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(
            [
                ("id", "source", "site"),
                *((i, int(like), f"site, {like}") for i, like in zip(ids, is_like_test(ids), strict=True)),
            ]
        )
    return str(path)


@pytest.fixture
def two_sources(run: Any, toolbox: Any) -> Any:
    """Return a run of seven candidates: `flashy` is the best on all rows, and the worst on those like the test's."""

    def blind(fold: int, tables: Any, origin: Any) -> Any:
        oof = tables.oof
        like = is_like_test(oof["id"].to_pylist())
        random = np.random.default_rng(fold)
        score = oof["score"].to_numpy()
        values = 0.2 + 0.5 * score + 0.03 * random.normal(size=len(score))
        values[like] = 0.2 + 0.5 * score[like] + 0.32 * random.normal(size=int(like.sum()))
        place = oof.schema.get_field_index("prediction")
        return toolbox.replace(tables, oof=oof.set_column(place, "prediction", pa.array(values, pa.float32()))), origin

    run.add("flashy", change=blind)
    for number in range(6):
        run.add(f"sound{number}", noise=0.22 + 0.01 * number)
    return run


def blend(*arguments: object) -> str:
    console.width = 200
    with console.capture() as capture:
        app([str(argument) for argument in arguments], standalone_mode=False)
    return capture.get()


def read(run: Any, name: str) -> Any:
    return json.loads((run.root / "blends" / name / "blend.json").read_text())


def test_rows_like_the_test_tell_another_story(two_sources: Any, sources: str) -> None:
    """The model that wins on all rows is the worst on those that count; scored and fitted there, another one wins."""
    run, single = two_sources, ("--method", "single+line", "--clip")
    blend("fit", run.path, *single, "--name", "all")
    assert [member["candidate"] for member in read(run, "all")["members"]] == ["flashy"]

    options = ("--rows", sources, "--score-on", "source=1", "--fit-on", "source=1")
    printed = blend("fit", run.path, *single, *options, "--name", "like")
    record = read(run, "like")
    assert record["members"][0]["candidate"].startswith("sound")
    assert record["scored_rows"] == {"chosen": ["source=1"], "rows": 78}
    assert "all scores stand on 78 rows (source=1)" in printed
    assert "weights were fitted on 78 rows (source=1)" in printed

    blend("fit", run.path, *single, *options[:4], "--name", "scored")
    scored = read(run, "scored")
    assert [member["candidate"] for member in scored["members"]] == ["flashy"], "weights come from all rows"
    assert scored["scores"]["blend"]["nested"]["pooled"] < 0.6 < read(run, "all")["scores"]["blend"]["nested"]["pooled"]
    assert scored["fitted_rows"] == {"chosen": [], "rows": 240}


def test_scores_are_those_of_the_chosen_rows_alone(two_sources: Any, sources: str) -> None:
    run = two_sources
    blend(
        "fit", run.path, "--rows", sources, "--score-on", "source=1", "--clip", "--name", "x", "--method", "mean+line"
    )
    table = read_table(run.root / "blends" / "x" / "oof.arrow")
    assert is_like_test(table["id"].to_pylist()).all()
    assert table.num_rows == 78
    value = pearson(table["score"].to_numpy(), table["prediction"].to_numpy())
    assert read(run, "x")["scores"]["blend"]["nested"]["pooled"] == pytest.approx(value, abs=1e-6)


def test_the_making_is_chosen_by_the_scored_rows(two_sources: Any, sources: str) -> None:
    """Its weights come from all rows."""
    predictions, metric = load_predictions([two_sources.path], two_sources.data), two_sources.data.task.measure
    scored, fitted = choose_rows(predictions, two_sources.data, BlendSettings(score_on=("source=1",)), sources)
    assert fitted is not None
    everyone = range(len(predictions.members))
    others = all_rows(fitted.oof(everyone), fitted.target, units_beside(scored, fitted), metric)
    unit = units_of(scored.fold, scored.group)
    whole = all_rows(scored.oof(everyone), scored.target, unit, metric, others=others)
    makings = [Making("single", Readout.LINE), Making("mean", Readout.LINE), Making("nnls", Readout.LINE)]
    found = play(whole, makings)
    worth = [metric(scored.target, column) for column in found.nested.T]
    assert found.utility.tolist() == pytest.approx(worth)
    assert found.chosen == int(np.argmax(worth)) == 1, "the mean; by all rows it would be the optimum"
    assert int(np.argmax(play(others, makings).utility)) == 2
    for making, formula in zip(makings, found.formulas, strict=True):
        np.testing.assert_array_equal(formula.search.weights, making.fit(others).search.weights)


@pytest.mark.parametrize(
    ("score_on", "fit_on"), [(("source=1",), ()), ((), ("source=1",)), (("source=1",), ("source=0",))]
)
def test_no_unit_is_scored_by_what_saw_it(
    two_sources: Any, sources: str, score_on: tuple[str, ...], fit_on: tuple[str, ...], toolbox: Any
) -> None:
    """A unit (a fold, or one of few groups) spoiled, in rows scored or not: what was fitted without it stays."""
    settings = BlendSettings(method="nnls+line", score_on=score_on, fit_on=fit_on)
    honest = load_predictions([two_sources.path], two_sources.data)
    scored, _ = choose_rows(honest, two_sources.data, settings, sources)
    few = len(np.unique(scored.group)) <= FEW_GROUPS
    label = honest.group if few else honest.fold
    spoiled = np.split(
        label == np.unique(scored.group if few else scored.fold)[2], np.flatnonzero(np.diff(honest.fold)) + 1
    )
    columns = tuple(
        toolbox.replace(c, oof=tuple(np.where(rows, -part, part) for part, rows in zip(c.oof, spoiled, strict=True)))
        for c in honest.columns
    )
    weights = []
    for predictions in (honest, toolbox.replace(honest, columns=columns)):
        scored, fitted = choose_rows(predictions, two_sources.data, settings, sources)
        played = fit_blend(scored, two_sources.data.task.measure, settings, fitted).tournament
        weights.append([formulas[0].search.weights.tolist() for formulas in played.without])
    assert weights[0][2] == weights[1][2]
    if fit_on != ("source=0",) or not few:
        assert weights[0][0] != weights[1][0], "the other units' formulas saw it"


def chosen(run: Any, *score_on: str, file: str | None = None) -> list[str]:
    predictions = load_predictions([run.path], run.data)
    scored, fitted = choose_rows(predictions, run.data, BlendSettings(score_on=score_on), file)
    assert fitted is not None
    assert len(fitted.target) == len(predictions.target)
    rows = np.isin(predictions.ids.to_pylist(), scored.ids.to_pylist())
    everyone = range(len(scored.members))
    np.testing.assert_array_equal(scored.oof(everyone), predictions.oof(everyone)[rows])
    return list(scored.ids.to_pylist())


def test_columns_of_the_prepared_table_choose_too(full_run: Any) -> None:
    train = full_run.data.train.to_pandas().set_index("id")
    assert set(train.loc[chosen(full_run, "fold=1,3"), "fold"]) == {1, 3}
    assert set(train.loc[chosen(full_run, "fold=1", "fold=3", "score=0,.5,1"), "score"]) == {0.0, 0.5, 1.0}
    assert len(chosen(full_run, "fold=1")) == 60


def test_a_value_may_hold_a_comma(full_run: Any, sources: str) -> None:
    assert is_like_test(chosen(full_run, "site=site, True", file=sources)).all()
    assert is_like_test(chosen(full_run, "source=1.0", file=sources)).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["origin=1"], r"--score-on origin=1: no column 'origin'; known: left, score, group, fold, id, source, site"),
        (["source=7"], r"--score-on source=7: no row has source '7'; there are '1', '0'|'0', '1'"),
        (["source=1,7"], r"no row has source '7'"),
        (["source"], r"must be COLUMN=VALUE"),
        (["id=r030"], r"--score-on: too few rows: fold \d holds 1 row with 1 different score.*\n.*choose more values"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(full_run: Any, sources: str, given: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        chosen(full_run, *given, file=sources)


def test_a_single_unit_cannot_be_scored_by_itself(full_run: Any) -> None:
    settings = BlendSettings(score_on=("fold=1",), fit_on=("fold=1",))
    predictions = load_predictions([full_run.path], full_run.data)
    groups = np.zeros_like(predictions.group)
    with pytest.raises(InputError, match="--fit-on: too few rows: what is left to fit on holds 0 rows"):
        choose_rows(replace(predictions, group=groups), full_run.data, settings)


def test_a_file_of_other_rows_is_refused(full_run: Any, tmp_path: Path, sources: str) -> None:
    lines = Path(sources).read_text().splitlines()
    short, twice, nameless = (tmp_path / name for name in ("short.csv", "twice.csv", "nameless.csv"))
    short.write_text("\n".join(lines[:-3]) + "\n")
    twice.write_text("\n".join([*lines, lines[1]]) + "\n")
    nameless.write_text("\n".join(["who,source,site", *lines[1:]]) + "\n")
    for path, message in (
        (short, r"short.csv: 3 of 240 train rows are not in it \(ids r261, r262, r263\)"),
        (twice, "twice.csv: column id repeats ids"),
        (nameless, "nameless.csv: has no id column"),
    ):
        with pytest.raises(InputError, match=message):
            chosen(full_run, "source=1", file=str(path))
    with pytest.raises(InputError, match=r"--rows x.csv: chooses nothing; add --score-on or --fit-on"):
        choose_rows(load_predictions([full_run.path], full_run.data), full_run.data, BlendSettings(), "x.csv")
