import csv
import json
import subprocess
import sys
from shutil import copytree

import pytest

from data_prep.__main__ import app
from data_prep.console import console
from data_prep.errors import InputError
from loaded_libraries import loaded_libraries
from models.__main__ import app as models_app


def data_prep(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "data_prep", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_prepare_then_audit(inputs, tmp_path):
    train, test = inputs.write()
    arguments = ("prepare", "--train", train, "--test", test, "--folds", 4, "--holdout", 0.1, "--out", tmp_path / "out")
    done = data_prep(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "holdout" in done.stdout
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["split_hash"] in done.stdout
    assert done.stdout.splitlines()[-1] == f"Next: blendfold audit {tmp_path / 'out'}"

    again = data_prep(*arguments)
    assert again.returncode == 0
    assert "already held this preparation; nothing was changed" in again.stdout

    audited = data_prep("audit", tmp_path / "out")
    assert audited.returncode == 0
    assert json.loads((tmp_path / "out/audit.json").read_text())["linked_groups"] == 12
    assert "blendfold run" in audited.stdout.splitlines()[-1]
    report = json.loads((tmp_path / "out/audit.json").read_text())
    assert json.loads(data_prep("audit", tmp_path / "out", "--json").stdout) == report
    data_prep("audit", tmp_path / "out", "--csv", tmp_path / "folds.csv")
    with (tmp_path / "folds.csv").open() as file:
        assert [int(row["rows"]) for row in csv.DictReader(file)] == [fold["rows"] for fold in report["folds"]]


def test_the_users_fault_gives_exit_code_two_and_no_traceback(inputs, tmp_path):
    inputs.train[0][4], inputs.test[3][2] = "[bold]", ""
    train, test = inputs.write()
    failed = data_prep("prepare", "--train", train, "--test", test, "--out", tmp_path / "out")
    assert failed.returncode == 2
    assert "Traceback" not in failed.stderr
    assert f"{train}, column score: must be a number" in failed.stderr
    assert "line 2 '[bold]'" in failed.stderr
    assert f"{test}, column target: may not be empty or blank; found 1: line 5" in failed.stderr
    assert not (tmp_path / "out").exists()


def test_an_audit_shows_how_long_the_texts_are_for_a_backbone(prepared_tiny, tiny_bert, tmp_path):
    folder = copytree(prepared_tiny.path, tmp_path / "prepared")
    shown = data_prep("audit", folder, "--backbone", tiny_bert)
    assert (shown.returncode, shown.stderr) == (0, "")
    with console.capture() as counted:
        models_app(["tokens", str(folder), "--backbone", tiny_bert], standalone_mode=False)
    assert "all, with special tokens" in counted.get()
    assert counted.get().rstrip() in shown.stdout

    with pytest.raises(InputError, match=r"^backbone '/nowhere'"):
        app(["audit", str(folder), "--backbone", "/nowhere"], standalone_mode=False)


def test_auditing_what_is_not_prepared_says_how_to_prepare(tmp_path):
    failed = data_prep("audit", tmp_path)
    assert failed.returncode == 2
    assert "not a prepared folder" in failed.stderr
    assert "blendfold prepare" in failed.stderr


@pytest.mark.parametrize("verb", ["prepare", "audit"])
def test_help_shows_an_example(verb):
    shown = data_prep(verb, "--help")
    assert shown.returncode == 0
    assert f"blendfold {verb}" in " ".join(shown.stdout.split())


@pytest.mark.parametrize("verb", [[], ["prepare"], ["audit"]])
def test_help_loads_no_slow_library(verb):
    assert loaded_libraries("data_prep", *verb, "--help") == set()


def test_prepare_loads_what_splitting_needs_and_no_more(inputs, tmp_path):
    train, test = inputs.write()
    found = loaded_libraries("data_prep", "prepare", "--train", train, "--test", test, "--out", tmp_path / "out")
    assert found <= {"pandas", "scipy", "scipy.optimize", "scipy.stats", "sklearn"}
    assert "sklearn" in found
