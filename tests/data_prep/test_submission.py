from typing import Any

import numpy as np
import pandas as pd
import pytest

from data_prep.errors import InputError
from data_prep.submission import check_submission, render_submission
from data_prep.task import Task

TASK = Task(name="toy", text_columns=("left",), score_range=(0.0, 1.0), score_column="worth")


@pytest.fixture
def ids() -> list[str]:
    return [f"t{row:03d}" for row in range(36)]


def test_a_fitting_submission_passes_and_reads_back(ids: list[str], tmp_path: Any) -> None:
    prediction = np.linspace(0, 1, 36)
    path = tmp_path / "submission.csv"
    path.write_bytes(render_submission(ids, prediction, expected=ids, task=TASK))
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
def test_the_gate_refuses(ids: list[str], change: Any, message: str) -> None:
    changed_ids, prediction = change(ids, np.linspace(0, 1, 36).tolist())
    with pytest.raises(InputError, match=message):
        check_submission(changed_ids, np.array(prediction), expected=ids, task=TASK)


def test_all_faults_at_once(ids: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        check_submission([*ids[:-1], ids[0]], np.full(36, 7.0), expected=ids, task=TASK)
    assert len(caught.value.faults) == 4
