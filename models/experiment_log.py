"""Candidates by name from a log of experiments: YAML with `experiments:`, each with its `candidate:` beside notes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.errors import InputError
from data_prep.store.files import is_file
from data_prep.store.yaml_documents import check_document, read_document, read_yaml
from models.candidate import Candidate

LOGS = Path("studies")
"""Where the command line looks for logs, from the working directory: the root of a clone has one."""


@dataclass(frozen=True)
class Experiment:
    """One experiment of a log."""

    candidate: Candidate
    record: dict[str, Any]
    """What its author noted."""

    @property
    def note(self) -> str:
        """The record in one line."""
        return "Recorded: " + ", ".join(f"{key} {value}" for key, value in self.record.items())


def read_experiments(path: str | Path) -> dict[str, Experiment]:
    """Return the experiments of a log by name; none where the file holds no `experiments:`.

    Raises:
        InputError: the file cannot be read, or settings do not fit; names every fault of the first that do not.
    """
    experiments = read_yaml(path).get("experiments", {})
    if not isinstance(experiments, dict):
        raise InputError(f"{path}: experiments: must be `name: {{candidate: ...}}`, found {experiments!r}")
    return {name: _experiment(entry, where=f"{path}: experiments.{name}") for name, entry in experiments.items()}


def _experiment(entry: Any, *, where: str) -> Experiment:
    if not isinstance(entry, dict) or not isinstance(entry.get("candidate"), dict):
        raise InputError(f"{where}: needs `candidate:` with settings, found {entry!r}")
    candidate = check_document(entry["candidate"], Candidate, where=f"{where}.candidate")
    return Experiment(candidate, {key: value for key, value in entry.items() if key != "candidate"})


def find_candidate(text: str) -> tuple[Candidate, str | None]:
    """Return the candidate in a file, or that of an experiment in one of the `LOGS` with the note on it.

    Raises:
        InputError: neither a file nor a name, or the file does not fit.
    """
    if is_file(text):
        return read_document(text, Candidate), None
    known: dict[str, Experiment] = {}
    for path in sorted(LOGS.glob("*.yaml")):
        found = read_experiments(path)
        if text in found and text in known:
            raise InputError(f"--candidate {text}: {path} and another log in {LOGS} both have it; rename one")
        known |= found
    if text not in known:
        names = ", ".join(known) or "none"
        raise InputError(f"--candidate {text}: no such file, and no experiment in {LOGS}/*.yaml; known: {names}")
    return known[text].candidate, known[text].note
