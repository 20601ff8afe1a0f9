import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from blendfold.command_line import PANELS, load
from data_prep.prepared import Prepared
from loaded_libraries import loaded_libraries

SAMPLE = Path(__file__).parents[2] / "data_prep" / "sample"
VERBS = {verb.name: verb for verbs in PANELS.values() for verb in verbs}


def blendfold(*arguments: object, cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the command line as a user does, in a folder of the user's."""
    return subprocess.run(
        [sys.executable, "-m", "blendfold", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(SAMPLE.parents[1]), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def hiding(tmp_path: Path) -> Path:
    """Return a user's folder whose files have the names of our packages."""
    for name in ("models", "search", "blend", "data_prep"):
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('the {name}.py of the user ran')\n")
    return tmp_path


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_is_that_of_its_package(name: str) -> None:
    command = load(VERBS[name])
    assert command.help or command.commands


def test_every_verb_of_the_packages_is_there() -> None:
    """No verb is known to `python -m PACKAGE` alone."""
    for package in ("data_prep", "search", "blend"):
        module = f"{package}.__main__"
        there = {verb.source or verb.name for verb in VERBS.values() if verb.app == module}
        assert there == set(load(type(VERBS["models"])("all", "", module, "*")).commands)
    assert set(load(VERBS["models"]).commands) == {"list", "explain", "tokens", "tiny", "train"}


@pytest.mark.parametrize("verb", [[], ["run"], ["blend"], ["models"], ["ledger"]])
def test_help_loads_no_slow_library(verb: list[str]) -> None:
    assert loaded_libraries("blendfold", *verb, "--help") == set()


def test_help_groups_the_verbs_by_what_users_do(tmp_path: Path) -> None:
    shown = blendfold("--help", cwd=tmp_path).stdout
    places = [shown.index(f"─ {panel} ─") for panel in ("Prepare", "Search", "Look", "Blend", "Submit")]
    assert places == sorted(places)
    assert shown.index("─ Look ─") < shown.index("leaderboard") < shown.index("─ Blend ─") < shown.index("import")


def test_the_version_is_that_of_the_package(tmp_path: Path) -> None:
    from importlib.metadata import version

    assert blendfold("--version", cwd=tmp_path).stdout == f"blendfold {version('blendfold')}\n"


def test_a_wrong_verb_is_the_users_fault_and_close_ones_are_named(tmp_path: Path) -> None:
    done = blendfold("leaderbord", "runs/x", cwd=tmp_path)
    assert done.returncode == 2
    assert "No such command 'leaderbord'. Did you mean 'leaderboard'" in done.stderr
    done = blendfold("leaderboard", "runs/x", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "runs/x: not a run directory" in done.stderr


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("blendfold lea", {"leaderboard"}),
        ("blendfold ledger ", {"add", "show", "plot"}),
        ("blendfold run --bac", {"--backbones"}),
    ],
)
def test_a_shell_completes_verbs_and_options(words: str, found: set[str], tmp_path: Path) -> None:
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    program = "import sys; sys.argv[0] = 'blendfold'; from blendfold.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(SAMPLE.parents[1]), "_BLENDFOLD_COMPLETE": "complete_bash", **asked},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) == found


def test_completion_installs_itself(tmp_path: Path) -> None:
    done = blendfold(
        "--install-completion",
        "bash",
        cwd=tmp_path,
        HOME=str(tmp_path),
        _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1",
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / ".bashrc").exists()


def test_a_users_files_do_not_hide_our_packages(hiding: Path) -> None:
    options = ["--train", SAMPLE / "train.csv", "--test", SAMPLE / "test.csv", "--out", "prepared"]
    done = blendfold("prepare", *options, cwd=hiding)
    assert done.returncode == 0, done.stderr
    assert blendfold("models", "tiny", "--family", "minilm-l6", "--out", "tiny", cwd=hiding).returncode == 0
    audited = blendfold("audit", "prepared", "--backbone", "tiny", cwd=hiding)
    assert audited.returncode == 0, audited.stderr
    assert "max_length" in audited.stdout
    assert "not a run directory" in blendfold("leaderboard", "runs", cwd=hiding).stderr


def test_without_the_command_the_file_that_hides_a_package_is_named(tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text("")
    (tmp_path / "study.yaml").write_text("{name: s, data: d, candidates: {a: }}")
    done = subprocess.run(
        [sys.executable, "-m", "search", "plan", "study.yaml"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SAMPLE.parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"{tmp_path / 'models.py'} hides blendfold's own package `models`" in " ".join(done.stderr.split())


@pytest.mark.ray
def test_a_search_trains_in_a_folder_that_hides_our_packages(
    hiding: Path, prepared_tiny: Prepared, tiny_bert: str
) -> None:
    settings = {"backbone": tiny_bert, "epochs": 1, "batch_size": 16, "precision": "fp32"}
    study = {"name": "s", "data": prepared_tiny.path, "resources": {"cpu": 1}, "candidates": {"mean": settings}}
    (hiding / "study.yaml").write_text(yaml.safe_dump(study))
    done = blendfold("run", "study.yaml", "--no-dashboard", cwd=hiding, BLENDFOLD_CACHE=str(hiding / "cache"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 complete, 0 stopped early, 0 failed" in done.stdout
    assert len(list((hiding / "runs" / "s" / "oof").rglob("fold-*.arrow"))) == 4
