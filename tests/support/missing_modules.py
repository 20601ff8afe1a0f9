"""Python processes in which libraries are not installed."""

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from data_prep.extras import EXTRAS

OF_EXTRAS = tuple(chain.from_iterable(EXTRAS.values()))
"""All that an environment with the base dependencies alone does not have."""
START = """
from importlib.machinery import PathFinder
found, missing = PathFinder.find_spec, {}
PathFinder.find_spec = lambda name, *rest: None if name.partition(".")[0] in missing else found(name, *rest)
"""


def hide(modules: Iterable[str], folder: Path, more: str = "") -> Path:
    """Return a new folder: processes that have it on PYTHONPATH do not find these modules, and run `more` first."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(START.format(set(modules)) + more)
    return folder
