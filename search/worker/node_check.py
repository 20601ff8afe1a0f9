"""`Requirements`: what a node must have for a fold run, from the code to a run directory that it can write."""

import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from data_prep.errors import InputError, StoreError
from data_prep.store.files import is_folder, join, read_bytes, remove, write_bytes

PACKAGES = ("data_prep", "models", "search", "blend")


@dataclass(frozen=True)
class Requirements:
    """What every node that trains must find as the driver did; plain values, as it travels to every worker."""

    version: str
    code: str
    """Digest of the code that the driver runs."""
    run_dir: str
    files: tuple[tuple[str, str], ...]
    """Path -> digest of files that the driver read."""
    folders: tuple[str, ...]


def requirements_of(run_dir: str, *, data: str, backbones: str | None) -> Requirements:
    """Return what nodes need for fold runs of a run directory, as this process finds it."""
    files = [join(data, "manifest.json"), join(run_dir, "study.yaml")]
    return Requirements(
        version=importlib.metadata.version("blendfold"),
        code=code_digest(),
        run_dir=run_dir,
        files=tuple((path, _digest(path)) for path in files),
        folders=(backbones,) if backbones else (),
    )


class Scout:
    """Looks around on a node. An actor, as a fold run is: where it starts, fold runs start too."""

    def look_around(self, requirements: Requirements) -> list[str]:
        """Return what the machine that runs this lacks for a fold run."""
        return list(missing_here(requirements))


@functools.lru_cache(maxsize=1)
def missing_here(requirements: Requirements) -> tuple[str, ...]:
    """Return what this machine lacks for a fold run, a sentence each; a process looks once."""
    faults = []
    here = importlib.metadata.version("blendfold")
    if here != requirements.version:
        faults.append(f"blendfold {here} is installed, the driver runs {requirements.version}")
    elif code_digest() != requirements.code:
        faults.append("its code is not the driver's; `ray up` carries what was changed to every node")
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
    """Return how messages call the machine that runs this."""
    return f"node {socket.gethostname()}"


@functools.cache
def code_digest() -> str:
    """Return the sha256 (hex) of all our Python files as this process would import them."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        folder = Path((spec.origin if spec else None) or "").parent
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{package}/{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _digest(path: str) -> str:
    """Return the sha256 of a file, empty where it cannot be read."""
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest()
    except InputError:
        return ""


def _cannot_write(run_dir: str) -> list[str]:
    """Write and remove a file in the run directory; return the fault if there is one."""
    path = join(run_dir, f".written-by-{socket.gethostname()}-{os.getpid()}")
    try:
        write_bytes(b"", path)
        remove(path)
    except (InputError, OSError) as error:
        return [f"{run_dir}: cannot be written ({error})"]
    return []
