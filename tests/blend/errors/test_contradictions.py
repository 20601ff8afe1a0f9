import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from blend.errors.contradictions import contradictions
from data_prep.task import PPPM, Task

ROWS = (
    ("a1", "heat pipe", "pipes", "F28", 0.5),
    ("a2", "heat pipe", "Pipe", "F28", 1.0),
    ("a3", "heat pipe", "pipe", "H01", 0.0),  # another context
    ("b1", "pump", "water-pump", "F28", 0.25),
    ("b2", "pumps water", "pump", "F28", 0.5),
    ("c1", "valve", "tap", "F28", 0.75),
    ("c2", "valve", "tap", "F28", 0.5),
    ("e1", "arm roller", "arm roller", "F28", 1.0),
    ("e2", "arm roller", "roller arm", "F28", 0.25),
    ("d1", "gear", "gears", "F28", 0.75),
    ("d2", "gears", "gear", "F28", 0.75),  # agrees
)


@pytest.fixture
def data(prepared):
    return _with_rows(prepared, PPPM, ROWS)


def _with_rows(prepared, task, rows):
    names = ["id", *task.text_columns]
    table = pa.table({name: [row[k] for row in rows] for k, name in enumerate(names)})
    score = pa.array([row[-1] for row in rows], pa.float32())
    table = table.append_column("score", score).append_column("fold", pa.array([0] * len(rows), pa.int8()))
    return replace(prepared, train=table, manifest=prepared.manifest.model_copy(update={"task": task}))


def test_rows_alike_with_other_scores_are_found_by_kind_the_plainest_first(data):
    found = contradictions(data)
    assert list(zip(found["set"], found["kind"], found["spread"], found["id"], strict=True)) == [
        (1, "same texts", 0.25, "c2"),
        (1, "same texts", 0.25, "c1"),
        (2, "alike", 0.5, "a1"),
        (2, "alike", 0.5, "a2"),
        (3, "reordered", 0.75, "e2"),
        (3, "reordered", 0.75, "e1"),
        (4, "swapped", 0.25, "b1"),
        (4, "swapped", 0.25, "b2"),
    ]
    assert list(found.columns) == ["set", "kind", "spread", "id", "anchor", "target", "context", "fold", "score"]


def test_a_task_of_one_text_with_a_name_of_ours(prepared):
    task = Task(name="toy", text_columns=("kind",), score_range=(0, 1))
    found = contradictions(_with_rows(prepared, task, [("1", "A gear", 0.0), ("2", "gear, a", 1.0), ("3", "cog", 1.0)]))
    assert list(found["kind (given)"]) == ["A gear", "gear, a"]


def test_data_without_contradictions_gives_no_row(prepared):
    assert contradictions(prepared).empty


def test_36_000_rows_take_a_few_seconds(prepared):
    random = np.random.default_rng(0)
    texts = [f"word{one} word{two}" for one, two in random.integers(0, 300, (72_000, 2)).tolist()]
    rows = [(str(k), texts[2 * k], texts[2 * k + 1], "F28", k % 5 / 4) for k in range(36_000)]
    started = time.process_time()
    assert len(contradictions(_with_rows(prepared, PPPM, rows))) > 0
    assert time.process_time() - started < 3
