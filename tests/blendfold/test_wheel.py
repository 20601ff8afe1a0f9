"""A wheel is the same bytes whenever and wherever it is built of the same sources."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOT_SOURCES = shutil.ignore_patterns("__pycache__", "*.egg-info")


def build(folder: Path, *, mtime: float) -> Path:
    """Copy the sources into a folder, with another time of change, and build them."""
    for package in ("data_prep", "models", "search", "blend", "blendfold"):
        shutil.copytree(ROOT / package, folder / package, ignore=NOT_SOURCES)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, folder)
    for path in folder.rglob("*"):
        os.utime(path, (mtime, mtime))
    command = "-m pip wheel --quiet --no-deps --no-build-isolation --no-index --wheel-dir dist ."
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    subprocess.run([sys.executable, *command.split()], cwd=folder, env=environment, check=True, capture_output=True)
    (wheel,) = (folder / "dist").glob("blendfold-*.whl")
    return wheel


def test_two_builds_of_the_same_sources_are_the_same_bytes(tmp_path: Path) -> None:
    wheels = [build(tmp_path / name, mtime=mtime) for name, mtime in (("first", 1.6e9), ("second", 1.65e9))]
    names = zipfile.ZipFile(wheels[0]).namelist()
    assert {"models/bundle/predict.py", "data_prep/cpc_titles.csv", "blendfold/report/page/report.css"} <= set(names)
    assert len({hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels}) == 1
