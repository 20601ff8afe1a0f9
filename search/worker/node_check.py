"""Checks that a node has what a fold run needs, from the code to a run directory that it can write."""

import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from data_prep.errors import InputError, StoreError
from data_prep.store.files import is_folder, join, read_bytes, remove, write_bytes

PACKAGES = ("data_prep", "models", "search", "blend")


@dataclass(frozen=True)
class Requirements:
    """What a node must have, the same as the driver; plain values that travel to every worker."""

    version: str
    code: str
    """Digest of the code that the driver runs."""
    run_dir: str
    files: tuple[tuple[str, str], ...]
    """Path and digest of each file that the driver read."""
    folders: tuple[str, ...]


def requirements_of(run_dir: str, *, data: str, backbones: str | None) -> Requirements:
    """Return what nodes need for the fold runs of a run directory, as this process has it."""
    files = [join(data, "manifest.json"), join(run_dir, "study.yaml")]
    return Requirements(
        version=importlib.metadata.version("blendfold"),
        code=code_digest(),
        run_dir=run_dir,
        files=tuple((path, _digest(path)) for path in files),
        folders=(backbones,) if backbones else (),
    )


class NodeChecker:
    """Checks the node that it runs on. An actor, like a fold run: where it starts, fold runs start too."""

    def check(self, requirements: Requirements) -> list[str]:
        """Return what this node lacks."""
        return list(missing_here(requirements))


@functools.lru_cache(maxsize=1)
def missing_here(requirements: Requirements) -> tuple[str, ...]:
    """Return what this node lacks for a fold run, a sentence each; each process checks once."""
    faults = []
    here = importlib.metadata.version("blendfold")
    if here != requirements.version:
        faults.append(f"blendfold {here} is installed, the driver runs {requirements.version}")
    elif code_digest() != requirements.code:
        faults.append("its code differs from the driver's; `ray up` copies the changes to every node")
    for path, digest in requirements.files:
        try:
            found = _digest(path)
        except StoreError as error:
            faults.append(str(error))
            continue
        if found != digest:
            faults.append(f"{path}: " + ("no such file" if not found else "is not the driver's file"))
    faults.extend(f"{folder}: no such folder" for folder in requirements.folders if not is_folder(folder))
    if not faults:
        faults.extend(_cannot_write(requirements.run_dir))
    return tuple(faults)


def node_name() -> str:
    """Return the name of this node in messages."""
    return f"node {socket.gethostname()}"


@functools.cache
def code_digest() -> str:
    """Return the sha256 (hex) of all Python files of blendfold that this process would import."""
    specs = {package: importlib.util.find_spec(package) for package in PACKAGES}
    return digest_of_code({name: Path((spec.origin if spec else None) or "").parent for name, spec in specs.items()})


def digest_of_code(folders: Mapping[str, Path]) -> str:
    """Return the sha256 (hex) of the Python files of packages, those of sub-packages included."""
    digest = hashlib.sha256()
    for package, folder in folders.items():
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{package}/{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _digest(path: str) -> str:
    """Return the sha256 of a file; empty if there is no such file."""
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest()
    except InputError:
        return ""


def _cannot_write(run_dir: str) -> list[str]:
    """Return a fault if a file cannot be written and removed in the run directory."""
    path = join(run_dir, f".written-by-{socket.gethostname()}-{os.getpid()}")
    try:
        write_bytes(b"", path)
        remove(path)
    except (InputError, OSError) as error:
        return [f"{run_dir}: cannot be written ({error})"]
    return []
