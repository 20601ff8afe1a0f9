"""Every number that the page shows in a table is the one in the Arrow and JSON files, which are read here again."""

import json
import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from read_page import ReadPage, read_page


def arrow(path: Path) -> pd.DataFrame:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all().to_pandas()


@pytest.fixture(scope="module")
def page(reported) -> ReadPage:
    return read_page(reported.page)


@pytest.fixture(scope="module")
def blend(reported) -> dict:
    return json.loads((reported.run / "blends/new/blend.json").read_text())


@pytest.fixture(scope="module")
def train(reported) -> pd.DataFrame:
    return arrow(reported.prepared / "train.arrow").set_index("id")


def close(value: float | None, wanted: float | None) -> bool:
    """Tell whether a number in a cell is the one in a file; an empty cell stands for none."""
    if wanted is None or math.isnan(wanted):
        return value is None
    return value == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_the_leaderboard_is_that_of_the_tables(reported, page) -> None:
    board = page.tables["leaderboard"]
    assert board.keys() == {path.stem for path in (reported.run / "candidates").glob("*.json")}
    n_scored = 0
    for candidate, row in board.items():
        tables = [arrow(path) for path in sorted((reported.run / "oof" / candidate).glob("*.arrow"))]
        assert row["folds"].value == len(tables)
        if not tables:
            assert row["mean"].value is None
            continue
        folds = [np.corrcoef(table["score"], table["prediction"])[0, 1] for table in tables]
        rows = pd.concat(tables)
        assert row["mean"].value == pytest.approx(np.mean(folds), abs=1e-7)
        assert row["spread"].value == pytest.approx(np.std(folds, ddof=1), abs=1e-7)
        assert row["pooled"].value == pytest.approx(np.corrcoef(rows["score"], rows["prediction"])[0, 1], abs=1e-7)
        n_scored += 1
    assert n_scored == 3


def test_settings_that_differ_have_columns_with_their_values(reported, page) -> None:
    shown = {key.removeprefix("set-") for row in page.tables["leaderboard"].values() for key in row if "set-" in key}
    files = {path.stem: json.loads(path.read_text()) for path in (reported.run / "candidates").glob("*.json")}
    assert shown >= {"loss", "head", "epochs"}
    for candidate, settings in files.items():
        for key in shown:
            cell = page.tables["leaderboard"][candidate][f"set-{key}"]
            value = settings.get(key)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            assert cell.value == value if is_number else cell.text in {str(value), "–", "yes", "no"}
    for shared in shown:
        assert len({str(settings.get(shared)) for settings in files.values()}) > 1


def test_minutes_are_those_of_the_curves(reported, page) -> None:
    points = arrow(reported.run / "curves.arrow")[["candidate", "fold", "seconds"]].values.tolist()
    lines = (reported.run / "curves.journal").read_text().splitlines()
    points += [[*json.loads(line[line.index("[") :])[:2], json.loads(line[line.index("[") :])[5]] for line in lines]
    longest: dict[tuple[str, int], float] = {}
    for candidate, fold, seconds in points:
        longest[candidate, fold] = max(longest.get((candidate, fold), 0.0), seconds)
    minutes = Counter[str]()
    for (candidate, _), seconds in longest.items():
        minutes[candidate] += seconds / 60
    assert page.values("leaderboard", "minutes") == pytest.approx(dict(minutes))
    assert page.tables["saved-time"]["trained"]["minutes"].value == pytest.approx(minutes.total())
    parts = page.values("saved-time", "minutes")
    assert sum(value for name, value in parts.items() if name != "full grid") == pytest.approx(parts["full grid"])


def test_members_are_those_of_the_record(page, blend) -> None:
    assert page.tables["members"].keys() == {member["candidate"] for member in blend["members"]}
    for member in blend["members"]:
        row, spread = page.tables["members"][member["candidate"]], member["resampled"]
        cost = member["drop_cost"] or {"difference": None, "standard_error": None}
        wanted = {
            "weight": member["weight"],
            "nested-low": min(member["nested_weights"]),
            "nested-high": max(member["nested_weights"]),
            "low": spread["low"],
            "high": spread["high"],
            "present": spread["present"],
            "alone": member["pooled"],
            "alone-mean": member["fold_mean"],
            "cost": cost["difference"],
            "cost-error": cost["standard_error"],
        }
        assert [key for key, value in wanted.items() if not close(row[key].value, value)] == []


def test_scores_and_ways_to_blend_are_those_of_the_record(page, blend) -> None:
    assert list(page.tables["scores"]) == ["blend", "best_single", "mean"]
    for key, evidence in blend["scores"].items():
        row, test = page.tables["scores"][key], evidence["expected"] or {}
        wanted = {
            "in-sample-mean": evidence["in_sample"]["fold_mean"],
            "in-sample": evidence["in_sample"]["pooled"],
            "nested-mean": evidence["nested"]["fold_mean"],
            "nested": evidence["nested"]["pooled"],
            "expected": test.get("value"),
            "expected-error": test.get("standard_error"),
            "expected-low": test.get("low"),
            "expected-high": test.get("high"),
            "holdout": evidence["holdout"],
        }
        assert [name for name, value in wanted.items() if not close(row[name].value, value)] == []
    makings = page.tables["makings"]
    assert makings.keys() == blend["makings"].keys()
    for name, making in blend["makings"].items():
        row = makings[name]
        assert close(row["nested"].value, making["nested"])
        assert close(row["in-sample"].value, making["in_sample"])
        assert close(row["members"].value, making["members"])
        assert close(row["share"].value, making["share"])
        assert row["behind"].value == pytest.approx(-making["behind"]["difference"])
    nested = list(page.values("makings", "nested").values())
    assert nested == sorted(nested, reverse=True), "best first, though the file has them by name"
    assert next(iter(makings.values()))["tie"].text == "best"


def test_key_numbers_are_those_of_the_files(page, blend) -> None:
    nested = blend["scores"]["blend"]["nested"]["pooled"]
    assert page.tiles["nested"] == pytest.approx(nested)
    assert page.tiles["best"] == max(value for value in page.values("leaderboard", "mean").values() if value)
    assert f"{nested:.4f} nested" in page.source


def test_rows_of_the_errors_are_those_of_the_tables(reported, page, train) -> None:
    nested = arrow(reported.run / "blends/new/oof.arrow").set_index("id")
    worst = page.tables["worst"]
    for identity, row in worst.items():
        predicted, score = float(nested.loc[identity, "prediction"]), float(train.loc[identity, "score"])
        assert row["prediction"].value == pytest.approx(predicted)
        assert row["score"].value == pytest.approx(score)
        assert row["error"].value == pytest.approx(predicted - score)
        assert row["anchor"].text == train.loc[identity, "anchor"]
        assert row["fold"].value == train.loc[identity, "fold"]
    errors = (nested["prediction"] - train.loc[nested.index, "score"]).abs().sort_values(ascending=False)
    assert len(worst) == 50
    assert [abs(row["error"].value) for row in worst.values()] == pytest.approx(errors.head(50).tolist())
    members = [key for key in next(iter(worst.values())) if key.startswith("member-")]
    for key in members:
        folder = reported.run / "oof" / key.removeprefix("member-")
        own = pd.concat([arrow(path) for path in folder.glob("*.arrow")]).set_index("id")["prediction"]
        for identity, row in worst.items():
            assert row[key].value == pytest.approx(float(own[identity]))


def test_confusion_and_slices_count_every_row(reported, page, train) -> None:
    nested = arrow(reported.run / "blends/new/oof.arrow")
    for level, cells in page.tables["confusion-counts"].items():
        counted = sum(cell.value for key, cell in cells.items() if key.startswith("level-"))
        assert counted == np.isclose(train["score"], float(level)).sum()
    slices = page.tables["slices-table"].values()
    for column in {cells["column"].text for cells in slices}:
        assert sum(cells["n"].value for cells in slices if cells["column"].text == column) == len(nested)
    few = [cells for cells in slices if cells["n"].value < 30]
    assert few
    assert all(cells["few"].text == "few" for cells in few)


def test_folds_and_drift_are_counted_in_the_prepared_tables(reported, page, train) -> None:
    for fold, rows in train.groupby("fold"):
        row = page.tables["folds"][str(fold)]
        assert row["rows"].value == len(rows)
        assert row["groups"].value == rows["group"].nunique()
        assert row["mean"].value == pytest.approx(rows["score"].astype(float).mean())
    test = arrow(reported.prepared / "test.arrow")
    for column in ("anchor", "target", "context"):
        row = page.tables["drift"][column]
        assert row["train-texts"].value == train[column].nunique()
        assert row["test-texts"].value == test[column].nunique()
        assert row["seen-texts"].value == pytest.approx(test[column].isin(set(train[column])).mean())


def test_the_ledger_is_that_of_the_file(page) -> None:
    rows = page.tables["submissions"]
    assert [row["cv"].value for row in rows.values()] == [0.41, 0.45, 0.60, 0.47]
    assert [row["public"].value for row in rows.values()] == [0.43, 0.46, 0.44, 0.49]
    assert "leaking" in rows["2"]["flags"].text
    assert page.tables["schemes"]["group"]["points"].value == 3


def test_hashes_are_those_of_the_manifest(reported, page) -> None:
    manifest = json.loads((reported.prepared / "manifest.json").read_text())
    for name in ("data_hash", "split_hash"):
        assert page.tables["hashes"][name]["hash"].text == manifest[name]


def test_the_tabs_are_the_parts_that_the_docs_explain(page) -> None:
    tabs = re.findall(r'<button type="button" role="tab"[^>]*>([^<]+)<', page.source)
    docs = (Path(__file__).parents[3] / "docs" / "report.md").read_text().split("| part |")[1].split("\n\n")[0]
    assert tabs == re.findall(r"^\| ([A-Z]\w+) \|", docs, re.MULTILINE)
