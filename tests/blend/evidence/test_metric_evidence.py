from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from blend.blend_record import BlendRecord
from blend.evidence.expected_test import variance_removed
from blend.fit.blend_settings import BlendSettings
from blend.make_blend import make_blend
from blend.members.load_predictions import load_predictions
from data_prep.store.oof_store import UNKNOWN_SPLIT


def one_test_column(toolbox: Any, *, split: str | None = None) -> Any:
    """Return a change after which all fold runs share one column of test predictions, as those of an import do."""

    def share(fold: int, tables: Any, origin: Any) -> Any:
        values = np.random.default_rng(7).uniform(0.2, 0.8, len(tables.test))
        test = tables.test.drop_columns(["prediction"]).append_column("prediction", pa.array(values, pa.float32()))
        return toolbox.replace(tables, test=test), toolbox.replace(origin, split_hash=split or origin.split_hash)

    return share


def fit(*runs: Any, method: str) -> BlendRecord:
    data = runs[0].data
    predictions = load_predictions([run.path for run in runs], data, allow_mixed_splits=True)
    return make_blend(predictions, data, BlendSettings(method=method, clip=True), name="x").record


@pytest.mark.parametrize("method", ["mean+line", "isotonic:ridge+line", "nelder-mead+line"])
@pytest.mark.parametrize("split", [None, UNKNOWN_SPLIT])
def test_one_test_column_averages_nothing_out(run: Any, toolbox: Any, method: str, split: str | None) -> None:
    """Also not where the split of its folds is that of the prepared data."""
    shared = one_test_column(toolbox, split=split)
    run.add("aaa", noise=0.2, change=shared).add("bbb", noise=0.3, change=shared)
    columns = load_predictions([run.path], run.data).columns
    assert [len(column.test) for column in columns] == [1, 1], "one column is one model, however many folds share it"
    scores = fit(run, method=method).scores
    for name, evidence in scores.items():
        assert evidence.expected is not None
        assert evidence.expected.averaged_out == 0.0, name
        assert evidence.expected.value == pytest.approx(evidence.nested.pooled, abs=1e-12), name


@pytest.mark.parametrize("split", [None, UNKNOWN_SPLIT])
def test_beside_fold_models_an_import_adds_nothing(run: Any, toolbox: Any, split: str | None) -> None:
    """What averages out is what the trained member's real fold columns show, times its weight."""
    run.add("aaa", noise=0.2).add("bbb", noise=0.3, change=one_test_column(toolbox, split=split))
    record = fit(run, method="mean+line")
    trained = next(part for part in record.combination.parts if part.candidate == "aaa")
    predictions = load_predictions([run.path], run.data)
    columns = np.stack(predictions.columns[0].test).astype(np.float64)
    expected = record.scores["blend"].expected
    assert expected is not None
    removed = variance_removed([record.combination.slope * trained.weight * columns])
    assert expected.averaged_out == pytest.approx(np.sqrt(removed), rel=1e-9)
    assert removed > 0.0


def test_members_of_two_splits_average_out_apart(run: Any, tmp_path: Path, toolbox: Any) -> None:
    other = toolbox.Run(tmp_path / "other", toolbox.make_prepared(tmp_path / "shifted", shift=1))
    run.add("aaa", noise=0.2)
    other.add("bbb", noise=0.3)
    record = fit(run, other, method="mean+line")
    predictions = load_predictions([run.path, other.path], run.data, allow_mixed_splits=True)
    parts = [
        record.combination.slope * part.weight * np.stack(column.test).astype(np.float64)
        for part, column in zip(record.combination.parts, predictions.columns, strict=True)
    ]
    expected = record.scores["blend"].expected
    assert expected is not None
    assert expected.averaged_out == pytest.approx(np.sqrt(variance_removed(parts)), rel=1e-9)
    assert expected.averaged_out != pytest.approx(np.sqrt(variance_removed([parts[0] + parts[1]])), rel=1e-3)
