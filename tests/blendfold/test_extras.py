"""Where an extra is not installed, one sentence says how to install it."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from data_prep.extras import EXTRAS, how_to_install, require
from data_prep.prepared import Prepared
from missing_modules import OF_EXTRAS, hide
from written_run import WrittenRun

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "data_prep" / "sample"
VERBS = {
    "blend": f"prepare --train {SAMPLE}/train.csv --test {SAMPLE}/test.csv --out prepared",
    "search": "run new.yaml",
    "report": "report run",
    "aws": "aws --bucket bucket --region eu-west-1 --ssh-from 1.2.3.4/32 --cluster cluster.yaml",
    "track": "track run --tensorboard events",
}
NAMES = {"blend": "bf.prepare", "search": "bf.search", "report": "bf.Run('run').report()"}


def python(folder: Path, missing: tuple[str, ...], *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run Python in a folder, without some modules."""
    site = hide(missing, folder / "site")
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{site}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path, prepared_tiny: Prepared) -> Path:
    """Return a folder with a run directory, a study and a cluster file."""
    (tmp_path / "run").mkdir()
    study = {"name": "s", "data": prepared_tiny.path, "candidates": {"a": {"backbone": "tiny"}}}
    for file in ("run/study.yaml", "new.yaml"):
        (tmp_path / file).write_text(yaml.safe_dump(study))
    run = WrittenRun(str(tmp_path / "run"), prepared_tiny)
    run.point(run.add(1), 0, 1.0, 0.7)
    shutil.copy(ROOT / "cluster.yaml", tmp_path)
    return tmp_path


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_verb_names_the_extra_that_it_needs_and_writes_nothing(extra: str, folder: Path) -> None:
    before = sorted(path for path in folder.rglob("*") if path.is_file())
    done = python(folder, EXTRAS[extra], "-m", "blendfold", *VERBS[extra].split())
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert re.fullmatch(rf"error: .+ needed and not installed: pip install 'blendfold\[{extra}\]'\n", done.stderr)
    written = {path for path in folder.rglob("*") if path.is_file() and path.parent.name != "site"}
    assert sorted(written) == before


@pytest.mark.parametrize("extra", NAMES)
def test_python_names_the_extra_that_it_needs(extra: str, folder: Path) -> None:
    done = python(folder, EXTRAS[extra], "-c", f"import blendfold as bf; {NAMES[extra]}")
    last = done.stderr.splitlines()[-1]
    assert re.fullmatch(rf"data_prep.errors.InputError: .+: pip install 'blendfold\[{extra}\]'", last), done.stderr


def test_python_predicts_with_pandas_and_none_of_the_other_libraries(folder: Path) -> None:
    missing = tuple(name for name in OF_EXTRAS if name != "pandas")
    done = python(folder, missing, "-c", "import blendfold as bf; bf.predict('no-bundle', 'test.csv')")
    assert "InputError: no-bundle: not a bundle" in done.stderr, done.stderr


def test_one_sentence_lists_all_that_is_missing() -> None:
    assert how_to_install("json") is None
    assert how_to_install("optuna", "jinja2") == (
        "optuna, jinja2 are needed and not installed: pip install 'blendfold[search,report]'"
    )
    require("pandas", "optuna")


def test_the_lowest_versions_admitted_are_those_that_are_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "requirements-floor.lock").read_text()
    pins = dict(line.lower().split("==") for line in lock.splitlines() if not line.startswith("#"))
    for floor in (*project["dependencies"], *project["optional-dependencies"]["blend"]):
        name, version = floor.split(">=")
        assert f"{pins[name]}.".startswith(f"{version}."), floor


def test_an_extra_brings_the_modules_that_its_sentence_promises() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bring = {
        extra: {re.split(r"[\[<>=]", line)[0].replace("_", "-").lower() for line in lines}
        for extra, lines in project["optional-dependencies"].items()
    }
    distributions = packages_distributions()
    base = {re.split(r"[<>=]", line)[0] for line in project["dependencies"]}
    for extra, modules in EXTRAS.items():
        for module in modules:
            assert set(map(str.lower, distributions[module])) & bring[extra], module
            assert not set(map(str.lower, distributions[module])) & base, module
    assert set(project["optional-dependencies"]["all"]) == {f"blendfold[{','.join(sorted(EXTRAS))}]"}
