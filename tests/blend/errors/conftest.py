"""Rows with errors that tests know: two members, contexts of unlike quality, groups of five rows."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from blend.errors.error_rows import ErrorRows
from data_prep.prepared import Prepared
from data_prep.task import PPPM

N_ROWS = 400


@pytest.fixture
def rows(prepared: Prepared) -> ErrorRows:
    data = replace(prepared, manifest=prepared.manifest.model_copy(update={"task": PPPM}))
    random = np.random.default_rng(0)
    score = random.integers(0, 5, N_ROWS) / 4
    context = np.where(np.arange(N_ROWS) < 10, "Y10", random.choice(["A01", "B23", "B60"], N_ROWS))
    members = {name: score + noise * random.normal(size=N_ROWS) for name, noise in (("one", 0.2), ("two", 0.3))}
    prediction = (members["one"] + 2 * members["two"]) / 3 + np.where(context == "B60", 0.2, 0.0)
    frame = pd.DataFrame(
        {
            "id": [f"r{row}" for row in range(N_ROWS)],
            "anchor": "heat pipe",
            "target": [f"pipe {row}" for row in range(N_ROWS)],
            "context": context,
            "context_text": "A TITLE",
            "year": 2000 + np.arange(N_ROWS) % 3,
            "section": [code[0] for code in context],
            "length": random.integers(10, 90, N_ROWS),
            "group": np.arange(N_ROWS) // 5,
            "fold": np.arange(N_ROWS) // 5 % 4,
            "score": score,
            "prediction": prediction,
            "error": prediction - score,
            **members,
        }
    )
    return ErrorRows(frame, data, source="blend best", kind="nested", members={"one": "first", "two": "second"})
