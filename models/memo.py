"""The memo: 48 experiments of one PPPM participant as candidates by name (`memo.yaml`)."""

from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from data_prep.errors import InputError
from data_prep.store.files import is_file
from data_prep.store.yaml_documents import read_document
from models.candidate import Candidate

MEMO = Path(__file__).with_name("memo.yaml")


class Entry(BaseModel):
    """Base of every entry of the memo: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Experiment(Entry):
    """One experiment: what it trained, and what came of it."""

    candidate: Candidate
    split: str | None = None
    """A name in `Memo.splits`; None: not known. It is no part of the candidate, so experiments that differ by split
    alone share a candidate id."""
    cv: float | None = None
    """Pooled out-of-fold Pearson as its author noted it."""
    lb: float | None = None
    """Pearson on the public leaderboard as its author noted it."""
    notebook_cv: float | None = None
    """Pooled out-of-fold Pearson as the notebook printed it."""
    unknown: str | None = None
    """Which settings are not known; the candidate's are then stand-ins."""
    remark: str | None = None
    """Where notes and notebook disagree, or a setting could not be carried over."""

    @property
    def record(self) -> str:
        """What came of it and what to know, in a few words."""
        scores = {"CV": self.cv, "notebook's CV": self.notebook_cv, "leaderboard": self.lb}
        told = [f"split {self.split or 'unknown'}", *(f"{name} {score}" for name, score in scores.items() if score)]
        notes = [f"Unknown: {self.unknown}." if self.unknown else "", self.remark or ""]
        return " ".join(["Recorded: " + ", ".join(told) + ".", *filter(None, notes)])


class Split(Entry):
    """Who was in which fold, and what `python -m data_prep prepare` offers that comes nearest."""

    notebook: str
    scheme: str
    folds: int
    seed: int

    @property
    def arguments(self) -> str:
        """The split as options of `python -m data_prep prepare`."""
        return f"--scheme {self.scheme} --folds {self.folds} --seed {self.seed}"


class Ensemble(Entry):
    """A blend of the memo; its weights were never noted."""

    members: tuple[str, ...]
    cv: float | None = None
    lb: float | None = None
    remark: str | None = None


class Memo(Entry):
    """Everything that `memo.yaml` holds."""

    splits: dict[str, Split]
    ensembles: dict[str, Ensemble]
    shared: list[dict[str, Any]]
    """Settings that experiments refer to; each is merged where it is used."""
    experiments: dict[str, Experiment]


@cache
def read_memo() -> Memo:
    """Read and check `memo.yaml`."""
    return read_document(MEMO, Memo)


def load_memo() -> dict[str, Experiment]:
    """Return every experiment by name: `baseline`, `exp001` to `exp047` (there is no 045), `baseline_ernie`."""
    return dict(read_memo().experiments)


def read_candidate(text: str) -> tuple[Candidate, str | None]:
    """Return the candidate in a file, or the memo's candidate of that name with its record.

    Raises:
        InputError: neither a file nor a name, or the file does not fit.
    """
    if is_file(text):
        return read_document(text, Candidate), None
    experiments = load_memo()
    if text not in experiments:
        raise InputError(f"--candidate {text}: no such file, and no memo name ({', '.join(experiments)})")
    return experiments[text].candidate, experiments[text].record
