"""A wheel is the same bytes whenever and wherever it is built of the same sources; images copy all of them."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("data_prep", "models", "search", "blend", "blendfold")
FILES = ("pyproject.toml", "README.md", "LICENSE")
NOT_SOURCES = shutil.ignore_patterns("__pycache__", "*.egg-info")


def build(folder: Path, *, mtime: float) -> Path:
    """Copy the sources into a folder, with another time of change, and build them."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=NOT_SOURCES)
    for file in FILES:
        shutil.copy(ROOT / file, folder)
    for path in folder.rglob("*"):
        os.utime(path, (mtime, mtime))
    command = "-m pip wheel --quiet --no-deps --no-build-isolation --no-index --wheel-dir dist ."
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    subprocess.run([sys.executable, *command.split()], cwd=folder, env=environment, check=True, capture_output=True)
    (wheel,) = (folder / "dist").glob("blendfold-*.whl")
    return wheel


@pytest.mark.parametrize("file", ["Dockerfile", "clusters/Dockerfile"])
def test_an_image_copies_all_that_is_installed(file: str) -> None:
    copies = re.findall(r"^COPY (?:--\S+ )?(.+) \S+$", (ROOT / file).read_text(), re.MULTILINE)
    copied = set(" ".join(copies).split())
    assert copied >= {*PACKAGES, *FILES, "requirements.lock"}
    assert all((ROOT / name).exists() for name in copied)


def test_two_builds_of_the_same_sources_are_the_same_bytes(tmp_path: Path) -> None:
    wheels = [build(tmp_path / name, mtime=mtime) for name, mtime in (("first", 1.6e9), ("second", 1.65e9))]
    names = zipfile.ZipFile(wheels[0]).namelist()
    assert {"models/bundle/predict.py", "data_prep/cpc_titles.csv", "blendfold/report/page/report.css"} <= set(names)
    assert len({hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels}) == 1
