"""Whether a node runs the driver's code: every file of every package counts, however deep it lies."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from search.worker.node_check import PACKAGES, code_digest, digest_of_code

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a copy of the packages."""
    folder = tmp_path_factory.mktemp("clone")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def digest_in(clone: Path) -> str:
    return digest_of_code({package: clone / package for package in PACKAGES})


def test_a_copy_of_the_code_is_the_same_code(clone: Path) -> None:
    assert digest_in(clone) == digest_in(ROOT)
    (clone / "models" / "notes.txt").write_text("no code")
    assert digest_in(clone) == code_digest()


def edit(file: Path) -> None:
    file.write_text(file.read_text() + "\n")


def rename(file: Path) -> None:
    file.rename(file.with_stem("renamed"))


def add(file: Path) -> None:
    shutil.copy(file, file.with_stem("added"))


@pytest.mark.parametrize("change", [edit, rename, add, Path.unlink])
@pytest.mark.parametrize("package", PACKAGES)
def test_changing_one_nested_file_changes_the_digest(
    package: str, change: Callable[[Path], None], clone: Path, tmp_path: Path
) -> None:
    shutil.copytree(clone / package, tmp_path / package)
    before = digest_of_code({package: tmp_path / package})
    nested = sorted((tmp_path / package).glob("*/*.py"))
    assert len(nested) > 5
    change(nested[-1])
    assert digest_of_code({package: tmp_path / package}) != before
