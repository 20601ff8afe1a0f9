import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.tables import read_table

ROOT = Path(__file__).parents[2]


def blend(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "blend", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "200", "OMP_NUM_THREADS": "1"},
    )


def test_fit_writes_record_and_submission_and_says_where(full_run: Any) -> None:
    done = blend("fit", full_run.path, "--name", "first")

    assert done.returncode == 0, done.stderr
    folder = full_run.root / "blends" / "first"
    with (folder / "submission.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["id", "worth"]
    assert [row[0] for row in rows[1:]] == full_run.data.test["id"].to_pylist()
    record = json.loads((folder / "blend.json").read_text())
    assert sum(member["weight"] for member in record["members"]) == pytest.approx(1.0)
    assert set(record["scores"]) == {"blend", "best_single", "mean"}
    assert str(folder / "submission.csv") in done.stdout.splitlines()[-1]
    assert "aaa-k2-pair-mean-mse" in done.stdout


def test_the_submission_is_what_the_record_says(full_run: Any) -> None:
    assert blend("fit", full_run.path).returncode == 0
    folder = full_run.root / "blends" / "nelder-mead"
    record = json.loads((folder / "blend.json").read_text())
    expected = np.full(36, record["intercept"])
    for member in record["members"]:
        folds = [
            read_table(full_run.root / "test" / member["candidate"] / f"fold-{fold}.arrow")["prediction"].to_numpy()
            for fold in range(4)
        ]
        column = np.mean(np.array(folds, dtype=np.float64), axis=0)
        expected += record["slope"] * member["weight"] * (column - member["center"]) / member["scale"]
    written = np.loadtxt(folder / "submission.csv", delimiter=",", skiprows=1, usecols=1)
    np.testing.assert_allclose(written, np.clip(expected, 0, 1), atol=1e-7)


def test_same_blend_again_is_fine_and_another_needs_force(full_run: Any) -> None:
    assert blend("fit", full_run.path, "--name", "one").returncode == 0
    path = full_run.root / "blends" / "one" / "blend.json"
    before = path.read_bytes()
    assert blend("fit", full_run.path, "--name", "one").returncode == 0
    assert path.read_bytes() == before

    refused = blend("fit", full_run.path, "--name", "one", "--method", "mean")
    assert refused.returncode == 2
    assert "holds another blend" in refused.stderr
    assert path.read_bytes() == before
    assert blend("fit", full_run.path, "--name", "one", "--method", "mean", "--force").returncode == 0
    assert path.read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "magic"], "known: nelder-mead, nnls, greedy, mean"),
        (["--name", "../up"], "it names a folder"),
        (["--exclude", "nobody"], "known: aaa, bbb, ccc"),
        (["--data", "/nowhere"], "not a prepared folder"),
    ],
)
def test_a_fault_of_the_user_is_one_message(full_run: Any, arguments: list[str], message: str) -> None:
    done = blend("fit", full_run.path, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    done = blend("fit", tmp_path)
    assert done.returncode == 2
    assert "not a run directory (no study.yaml)" in done.stderr


def test_help_shows_an_example() -> None:
    assert "python -m blend fit runs/demo" in blend("fit", "--help").stdout
