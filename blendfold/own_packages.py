"""Where our packages lie, so that a module of the user's with the name of one of them does not take its place."""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

HOME = Path(__file__).parents[1]
PACKAGES = ("data_prep", "models", "search", "blend", "blendfold")


class OwnPackagesFirst:
    """Finds our packages in `HOME`, whatever lies in the folders of `sys.path`."""

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a package of ours is; None for all other modules."""
        return PathFinder.find_spec(fullname, [str(HOME)]) if fullname in PACKAGES else None


def put_first() -> None:
    """Let this process import our packages only; `python -m` puts the user's folder before them."""
    sys.meta_path.insert(0, OwnPackagesFirst())


def require_own() -> None:
    """Refuse to work where a module of the user's hides a package of ours.

    Raises:
        ImportError: names the file and what to do.
    """
    for name in PACKAGES:
        found = sys.modules[name].__spec__ if name in sys.modules else importlib.util.find_spec(name)
        places = [] if found is None else found.submodule_search_locations or []
        if found is not None and str(HOME / name) not in map(str, places):
            where = found.origin or next(iter(places), "another folder")
            raise ImportError(
                f"{where} hides blendfold's own package `{name}`: rename it, or start Python from another folder. (The "
                f"command `blendfold` works beside it.)",
                name=name,
            )
