"""`OofStore`: the prediction tables of a run directory, one per candidate and fold.

A fold run is finished when its out-of-fold file is there and verifies; that file is written last and never rewritten.
"""

import importlib.metadata
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from data_prep.errors import InputError
from data_prep.store.files import PARTIAL, exists, join, list_names, move, remove
from data_prep.store.tables import (
    CHECKSUM_KEY,
    DamagedTableError,
    check_schema,
    metadata_of,
    oof_schema,
    predicted_names,
    prediction_schema,
    read_metadata,
    read_table,
    write_table,
)

FOLD_FILE = re.compile(r"fold-(0|[1-9]\d*)\.arrow")
UNKNOWN_SPLIT = "unknown"
"""The split hash of predictions whose models were trained on unknown folds."""


@dataclass(frozen=True)
class Provenance:
    """Where a prediction table comes from; kept in its schema metadata."""

    candidate: str
    """Candidate id, 12 hex digits."""
    fold: int
    data_hash: str
    split_hash: str
    seed: int
    """The seed that the fold run used; a retry has another."""
    epoch: float
    """Epochs trained when the predictions were made."""
    attempt: int = 0
    """0, or 1 for the retry of a dead fold run."""
    micro_batches: int = 1
    """Number of parts that each batch was split into at the end, because memory ran out."""

    def to_metadata(self) -> dict[str, str]:
        """Return the provenance as strings, with the version that wrote it."""
        fields = {name: str(value) for name, value in vars(self).items()}
        return {**fields, "version": importlib.metadata.version("blendfold")}

    @classmethod
    def of(cls, table: pa.Table) -> "Provenance":
        """Read the provenance of a table back."""
        return cls.from_metadata(metadata_of(table))

    @classmethod
    def from_metadata(cls, data: Mapping[str, str]) -> "Provenance":
        """Read what `to_metadata` returned."""
        return cls(
            candidate=data["candidate"],
            fold=int(data["fold"]),
            data_hash=data["data_hash"],
            split_hash=data["split_hash"],
            seed=int(data["seed"]),
            epoch=float(data["epoch"]),
            attempt=int(data["attempt"]),
            micro_batches=int(data.get("micro_batches", "1")),
        )


def _origin(metadata: dict[str, str]) -> dict[str, str]:
    """Return what the tables of one fold run have in common."""
    return {key: value for key, value in metadata.items() if key != CHECKSUM_KEY}


def retried_note(folds: Sequence[int]) -> str:
    """Return a suffix for a candidate's name that says which of its folds died once; empty when none did."""
    return f" (fold {', '.join(map(str, folds))} died once, retried)" if folds else ""


class OofStore:
    """Reads and writes `oof/`, `test/` and `holdout/` of a run directory (a local path or `pyarrow.fs` URI)."""

    def __init__(self, root: str | Path) -> None:
        self.root = str(root)

    def path(self, kind: str, candidate: str, fold: int) -> str:
        """Return the path of a table; `kind` is `oof`, `test` or `holdout`."""
        return join(self.root, kind, candidate, f"fold-{fold}.arrow")

    def write(
        self, provenance: Provenance, *, oof: pa.Table, test: pa.Table | None, holdout: pa.Table | None = None
    ) -> None:
        """Keep the predictions of one finished fold run.

        `oof` has the fold's rows, `test` and `holdout` all of theirs, with the fold of the model; in prepared order.
        Where there are no test rows, and for some models that others trained, there are no predictions for them.

        Raises:
            FileExistsError: the fold run is already finished.
        """
        where = (provenance.candidate, provenance.fold)
        if exists(self.path("oof", *where)):
            raise FileExistsError(f"{self.path('oof', *where)}: a finished fold run is never rewritten")
        metadata = provenance.to_metadata()
        names = predicted_names(oof.column_names)
        if test is not None:
            write_table(test, self.path("test", *where), schema=prediction_schema(names), metadata=metadata)
        if holdout is not None:
            write_table(holdout, self.path("holdout", *where), schema=oof_schema(names), metadata=metadata)
        write_table(oof, self.path("oof", *where), schema=oof_schema(names), metadata=metadata)

    def read(self, kind: str, candidate: str, fold: int) -> pa.Table:
        """Read and verify one table; `kind` is `oof`, `test` or `holdout`.

        Raises:
            InputError: no such table.
            DamagedTableError: truncated, altered, written for another candidate or fold, or of another provenance
                than the other tables of its fold run.
        """
        path = self.path(kind, candidate, fold)
        table = read_table(path)
        names = predicted_names(table.column_names)
        check_schema(table, path, prediction_schema(names) if kind == "test" else oof_schema(names))
        try:
            provenance = Provenance.of(table)
        except (KeyError, ValueError) as error:
            raise DamagedTableError(f"{path}: has no provenance ({error}); it was not written by this store") from error
        if (provenance.candidate, provenance.fold) != (candidate, fold):
            raise DamagedTableError(f"{path}: was written for candidate {provenance.candidate} fold {provenance.fold}")
        twin = self.path("test" if kind == "oof" else "oof", candidate, fold)
        if (other := read_metadata(twin)) is not None and _origin(other) != _origin(metadata_of(table)):
            raise DamagedTableError(
                f"{path}: its provenance is not that of {twin}, which was written with it; one of them was altered, "
                f"or belongs to another run: put back copies, or run the search again, which trains this fold again"
            )
        return table

    def is_finished(self, candidate: str, fold: int) -> bool:
        """Tell whether a fold run's OOF file is there (whether it verifies shows when it is read)."""
        return exists(self.path("oof", candidate, fold))

    def candidates(self) -> list[str]:
        """Return the ids that have at least one OOF file, sorted."""
        return list(dict.fromkeys(name for name, _ in self.fold_runs()))

    def folds(self, candidate: str) -> list[int]:
        """Return the finished folds of a candidate, ascending."""
        names = list_names(join(self.root, "oof", candidate))
        return sorted(int(found[1]) for name in names if (found := FOLD_FILE.fullmatch(name)))

    def fold_runs(self) -> Iterator[tuple[str, int]]:
        """Yield every finished (candidate, fold)."""
        for candidate in list_names(join(self.root, "oof")):
            for fold in self.folds(candidate):
                yield candidate, fold

    def set_aside_damaged(self, *, has_test: bool = True) -> list[str]:
        """Verify finished fold runs, move damaged files out of the way, and return one sentence for each damaged run.

        Where `has_test`, a run without a test table is damaged.

        Also removes files that a killed process left half-written; nothing may write to the directory meanwhile.
        """
        self._clear_unfinished()
        reports = []
        for candidate, fold in list(self.fold_runs()):
            kinds = [kind for kind in ("oof", "test", "holdout") if exists(self.path(kind, candidate, fold))]
            try:
                for kind in {*(["test"] if has_test else []), *kinds}:
                    self.read(kind, candidate, fold)
            except InputError as error:
                for kind in kinds:
                    self._set_aside(kind, candidate, fold)
                reports.append(f"{error}; set aside in {join(self.root, 'damaged')}, fold run repeated")
        return reports

    def _clear_unfinished(self) -> None:
        for kind in ("oof", "test", "holdout"):
            for folder in (join(self.root, kind, candidate) for candidate in list_names(join(self.root, kind))):
                for name in list_names(folder):
                    if name.endswith(PARTIAL):
                        remove(join(folder, name))

    def _set_aside(self, kind: str, candidate: str, fold: int) -> None:
        stem = f"{kind}-{candidate}-fold-{fold}"
        places = (join(self.root, "damaged", f"{stem}-{number}.arrow") for number in range(1_000_000))
        move(self.path(kind, candidate, fold), next(place for place in places if not exists(place)))


def home_of(candidate: str, *run_dirs: str) -> str:
    """Return the run directory with the most finished folds of a candidate, the first of those with equally many."""
    return max(run_dirs, key=lambda run_dir: len(OofStore(run_dir).folds(candidate)))
