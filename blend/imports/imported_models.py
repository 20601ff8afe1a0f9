"""`ImportedModels`: models that others trained, aligned and checked, and how a run directory keeps them."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from blend.members.run_dirs import read_study
from data_prep.errors import InputError
from data_prep.prepared import Prepared
from data_prep.scoring.combination import Floats
from data_prep.scoring.metrics import pearson
from data_prep.store.candidate_records import candidate_path, write_settings
from data_prep.store.files import base_name, exists, join
from data_prep.store.oof_store import OofStore, Provenance
from data_prep.store.run_readme import write_run_readme
from data_prep.store.study_record import STUDY_FILE, write_study_record
from data_prep.store.tables import HOLDOUT_FOLD, checksum


@dataclass(frozen=True)
class ForeignModel:
    """One model's predictions, checked and aligned with the prepared tables."""

    name: str
    family: str
    oof: Floats
    """[train rows, including holdout]; NaN on holdout rows that the file does not have."""
    test: Floats | None
    """[test rows]; None if there are no predictions for them."""
    column: str
    sources: tuple[tuple[str, str], ...]
    """Path and sha256 of the file of out-of-fold predictions, and of the file of test predictions, if there is one."""
    data: Prepared
    """The prepared folder, with the folds of the model's tables: those it was trained on, if they are known."""
    split_hash: str

    @property
    def identity(self) -> str:
        """The candidate id: 12 hex digits of a hash of name, family, data and predictions."""
        parts = (self.name, self.family, self.split_hash, self.data.manifest.data_hash)
        predictions = self.oof if self.test is None else np.append(self.oof, self.test)
        values = pa.table({"oof": pa.array(predictions, pa.float32())})
        return hashlib.sha256("\0".join([*parts, checksum(values)]).encode()).hexdigest()[:12]

    @property
    def trained(self) -> NDArray[np.bool_]:
        """[train rows]: not holdout."""
        return np.asarray(self.data.train["fold"].to_numpy() != HOLDOUT_FOLD)

    @property
    def _target(self) -> Floats:
        return np.asarray(self.data.train["score"].to_numpy(), dtype=np.float64)

    @property
    def _fold_masks(self) -> list[NDArray[np.bool_]]:
        fold = self.data.train["fold"].to_numpy()
        return [fold == number for number in range(self.data.manifest.n_folds)]

    def fold_metrics(self) -> list[float]:
        """Return the task's metric on each fold."""
        return [self.data.task.measure(self._target[mask], self.oof[mask]) for mask in self._fold_masks]

    def least_pearson(self) -> float:
        """Return the lowest Pearson of any fold; NaN if the model is constant in a fold."""
        return float(np.min([pearson(self._target[mask], self.oof[mask]) for mask in self._fold_masks]))

    def pooled(self) -> float:
        """Return the task's metric on all rows outside the holdout."""
        return self.data.task.measure(self._target[self.trained], self.oof[self.trained])


@dataclass(frozen=True)
class ImportedModels:
    """All models of a request, not yet written."""

    models: tuple[ForeignModel, ...]
    data: Prepared
    """The prepared folder on the command line."""
    notes: tuple[str, ...]
    """What a person should know: ignored columns and files, and what could not be checked."""


def write_imported(imported: ImportedModels, out: str) -> dict[str, str]:
    """Store the models in a run directory for them; return ids by name. Doing it again completes it.

    Raises:
        InputError: `out` belongs to a search or to other data, or has another model of the same name.
    """
    study = read_study(out)
    ids = {model.name: model.identity for model in imported.models}
    _check_room(study, out, ids, imported.data)
    for model in imported.models:
        if not exists(candidate_path(out, ids[model.name])):
            write_settings(_settings(model), out, ids[model.name])
    content = {
        "name": base_name(out),
        "data": imported.data.path,
        **study,
        "imported": True,
        "data_hash": imported.data.manifest.data_hash,
        "names": {**study.get("names", {}), **ids},
    }
    if content != study:
        write_study_record(content, out)
    write_run_readme(out)
    for model in imported.models:
        _write_tables(model, ids[model.name], OofStore(out))
    return ids


def _check_room(study: dict[str, object], out: str, ids: dict[str, str], data: Prepared) -> None:
    path = join(out, STUDY_FILE)
    if study and not study.get("imported"):
        raise InputError(f"{path}: is the study of a search; import into a separate directory: choose another --out")
    if study and study.get("data_hash") != data.manifest.data_hash:
        raise InputError(f"{path}: holds models of other data than {data.path}; choose another --out")
    names = study.get("names")
    taken = names if isinstance(names, dict) else {}
    faults = [
        f"{path}: {name!r} already names other predictions, another family or another split (id {taken[name]}); "
        "choose another --name or another --out"
        for name, identity in ids.items()
        if taken.get(name, identity) != identity
    ]
    if faults:
        raise InputError(*faults)


def _settings(model: ForeignModel) -> dict[str, object]:
    sources = zip(("oof", "test"), model.sources, strict=False)
    return {
        "imported": True,
        "name": model.name,
        "family": model.family,
        "column": model.column,
        **{kind: {"file": path, "sha256": digest} for kind, (path, digest) in sources},
        "split_hash": model.split_hash,
    }


def _write_tables(model: ForeignModel, candidate: str, store: OofStore) -> None:
    """Write the tables of every fold; all folds share the one column of test predictions."""
    data = model.data
    train, fold_of = data.train, data.train["fold"].to_numpy()
    held = fold_of == HOLDOUT_FOLD
    has_holdout = bool(held.any()) and bool(np.isfinite(model.oof[held]).all())
    for fold in range(data.manifest.n_folds):
        if store.is_finished(candidate, fold):
            continue
        origin = Provenance(candidate, fold, data.manifest.data_hash, model.split_hash, seed=0, epoch=0.0)
        store.write(
            origin,
            oof=_table(
                train.filter(pa.array(fold_of == fold)).select(["id", "score"]), fold, model.oof[fold_of == fold]
            ),
            test=None if model.test is None else _table(data.test.select(["id"]), fold, model.test),
            holdout=_table(train.filter(pa.array(held)).select(["id", "score"]), fold, model.oof[held])
            if has_holdout
            else None,
        )


def _table(rows: pa.Table, fold: int, prediction: Floats) -> pa.Table:
    table = rows.append_column("fold", pa.array(np.full(len(rows), fold), pa.int8()))
    return table.append_column("prediction", pa.array(prediction, pa.float32()))
