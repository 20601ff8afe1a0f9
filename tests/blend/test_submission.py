from typing import Any

import numpy as np
import pandas as pd
import pytest

from blend.fitting import fit_blend, write_blend
from blend.predictions import load_predictions
from blend.submission import check_submission, render_submission
from data_prep.errors import InputError


@pytest.fixture
def ids(prepared: Any) -> list[str]:
    return prepared.test["id"].to_pylist()


def test_a_fitting_submission_passes_and_reads_back(prepared: Any, ids: list[str], tmp_path: Any) -> None:
    prediction = np.linspace(0, 1, 36)
    path = tmp_path / "submission.csv"
    path.write_bytes(render_submission(ids, prediction, prepared))
    table = pd.read_csv(path)
    assert list(table.columns) == ["id", "worth"]
    assert table["id"].tolist() == ids
    np.testing.assert_allclose(table["worth"], prediction, atol=1e-8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ids, p: (ids[1:], p[1:]), r"1 of 36 test ids are missing \(t000\)"),
        (lambda ids, p: (["new", *ids[1:]], p), r"1 ids are not in the test table \(new\)"),
        (lambda ids, p: ([*ids, ids[3]], [*p, 0.5]), r"1 ids stand more than once \(t003\)"),
        (lambda ids, p: (ids[::-1], p), r"another order"),
        (lambda ids, p: (ids, p[1:]), r"35 predictions for 36 ids"),
        (lambda ids, p: (ids, [float("nan"), *p[1:]]), r"1 predictions are NaN or infinite \(t000\)"),
        (lambda ids, p: (ids, [*p[:-1], float("inf")]), r"1 predictions are NaN or infinite \(t035\)"),
        (lambda ids, p: (ids, [1.5, *p[1:]]), r"1 predictions are outside \[0, 1\], the range of task 'toy' \(t000\)"),
        (lambda ids, p: (ids, [0.25 + 0 * value for value in p]), r"all 36 predictions are 0.25"),
    ],
)
def test_the_gate_refuses(prepared: Any, ids: list[str], change: Any, message: str) -> None:
    changed_ids, prediction = change(ids, np.linspace(0, 1, 36).tolist())
    with pytest.raises(InputError, match=message):
        check_submission(changed_ids, np.array(prediction), prepared)


def test_all_faults_at_once(prepared: Any, ids: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        check_submission([*ids[:-1], ids[0]], np.full(36, 7.0), prepared)
    assert len(caught.value.faults) == 4


def test_predictions_beyond_the_range_are_clipped_and_counted(full_run: Any) -> None:
    predictions = load_predictions([full_run.path], full_run.data)
    predictions.test[:2] = [[9.0] * 3, [-9.0] * 3]
    fitted = fit_blend(predictions, full_run.data, method="nnls", name="wide")
    lines = fitted.submission.decode().splitlines()
    assert lines[1:3] == ["t000,1", "t001,0"]
    assert fitted.record.submission.clipped >= 2


def test_a_failed_gate_leaves_the_old_files_untouched(full_run: Any) -> None:
    predictions = load_predictions([full_run.path], full_run.data)
    folder = str(full_run.root / "blends" / "x")
    write_blend(fit_blend(predictions, full_run.data, method="mean", name="x"), folder)
    before = {path.name: path.read_bytes() for path in (full_run.root / "blends" / "x").iterdir()}
    predictions.test[:] = 0.5
    with pytest.raises(InputError, match="submission refused: all 36 predictions are"):
        write_blend(fit_blend(predictions, full_run.data, method="mean", name="x"), folder, force=True)
    after = {path.name: path.read_bytes() for path in (full_run.root / "blends" / "x").iterdir()}
    assert before == after
    assert sorted(after) == ["blend.json", "submission.csv"]
