"""Verbs that only read or explain must not wait for libraries that train: each is run, and asked what it has loaded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from data_prep.prepared import Prepared
from written_run import WrittenRun

SLOW = set(
    "torch ray optuna transformers tokenizers sentencepiece pandas sklearn scipy.stats scipy.optimize scipy.sparse "
    "matplotlib boto3 mlflow sqlalchemy tensorboardX".split()
)
"""Each takes between .2 and 6 seconds to import."""
NEEDED_TO_READ = {"numpy", "pyarrow", "yaml"}
PROGRAM = """
import json, sys
from search.__main__ import app
try:
    app(sys.argv[1:], standalone_mode=False)
finally:
    print(json.dumps(list(sys.modules)))
"""


def loaded(*arguments: str) -> set[str]:
    """Return the libraries that a command line has loaded when it ends."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory, prepared_tiny: Prepared) -> str:
    """Return a run directory with a complete candidate and one that waits."""
    path = tmp_path_factory.mktemp("run")
    (path / "study.yaml").write_text(yaml.safe_dump({"name": "s", "data": prepared_tiny.path}))
    run = WrittenRun(str(path), prepared_tiny)
    complete, waiting = run.add(1), run.add(2)
    for fold in range(prepared_tiny.manifest.n_folds):
        run.point(complete, fold, 1.0, 0.7)
    run.point(waiting, 0, 1.0, 0.6)
    return str(path)


@pytest.mark.parametrize("verb", [None, "run", "plan", "status", "leaderboard", "launch", "aws", "refit"])
def test_help_loads_no_more_than_the_command_line(verb: str | None) -> None:
    assert not loaded(*([verb] if verb else []), "--help") & (SLOW | NEEDED_TO_READ)


@pytest.mark.parametrize(
    ("verb", "options", "also"),
    [
        ("leaderboard", [], {"scipy.sparse"}),  # the bootstrap sums over groups
        ("status", [], set()),
        ("explain", [], set()),
        ("track", ["--tensorboard", "TB"], {"tensorboardX", "torch", "boto3"}),  # tensorboardX loads both
        ("replay", ["--orders", "1"], {"optuna", "scipy.optimize", "scipy.sparse"}),  # one scheduler is Optuna's
    ],
)
def test_a_verb_loads_only_what_it_uses(
    verb: str, options: list[str], also: set[str], run_dir: str, tmp_path: Path
) -> None:
    found = loaded(verb, run_dir, *(option.replace("TB", str(tmp_path)) for option in options))
    assert found & SLOW <= also | {"pandas"}, "pyarrow loads pandas when it converts an array"
    assert found >= NEEDED_TO_READ, "it has read the run directory"
