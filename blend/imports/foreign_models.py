"""From files of others' predictions to models to blend; logits, ranks and scores stay unchanged until calibration."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from blend.imports.foreign_files import ForeignColumns, ForeignTable, FoundFiles, find_files, join_tables, read_foreign
from blend.imports.foreign_rows import MatchedPredictions, PreparedRows, match_rows
from blend.imports.imported_models import ForeignModel, ImportedModels
from data_prep.errors import InputError, quote
from data_prep.given_name import name_fault
from data_prep.prepared import Prepared, load_prepared
from data_prep.store.oof_store import UNKNOWN_SPLIT

FilePair = tuple[str, tuple[str, ...], tuple[str, ...]]
"""Name of a model, its files of out-of-fold predictions and of test predictions."""
SHOWN = 3


@dataclass(frozen=True)
class ImportRequest:
    """What to import, as given on the command line."""

    oof: str
    test: str
    name: str | None
    """The model's name; with many models, a prefix for each name; None: no prefix."""
    family: str | None = None
    """None: every model is its own family."""
    split: str = UNKNOWN_SPLIT
    """The prepared folder whose folds the models were trained on."""
    trust_row_order: bool = False
    id_column: str | None = None
    prediction_columns: tuple[str, ...] = ()


def read_request(request: ImportRequest, data: Prepared) -> ImportedModels:
    """Read, align and check everything in a request; nothing is written.

    Raises:
        InputError: files without a partner, or faults as in `match_rows`; all faults of all files.
    """
    base = _base(request.split, data)
    oof_files, test_files = find_files(request.oof, "--oof"), find_files(request.test, "--test")
    notes: dict[str, list[str]] = {}
    if others := [*oof_files.passed_over, *test_files.passed_over]:
        notes["ignored, because the format is unknown"] = others
    faults: list[str] = []
    models: list[ForeignModel] = []
    for pair in _pairs(oof_files, test_files, request, faults):
        try:
            models.extend(_read_pair(pair, request, base, notes))
        except InputError as error:
            faults.extend(error.faults)
    names = [model.name for model in models]
    repeated = sorted({name for name in names if names.count(name) > 1})
    faults.extend(f"two models would be named {name!r}; choose another --name" for name in repeated)
    faults.extend(f"{name!r}: the name of a model may not contain a comma; rename it" for name in names if "," in name)
    faults.extend(f"{quote(name)}: {fault}; choose another --name" for name in names if (fault := name_fault(name)))
    if faults:
        raise InputError(*faults)
    known = request.split != UNKNOWN_SPLIT
    return ImportedModels(
        models=tuple(models),
        data=base,
        named_data=data.path,
        split_hash=base.manifest.split_hash if known else UNKNOWN_SPLIT,
        notes=_sentences(notes),
    )


def _base(split: str, data: Prepared) -> Prepared:
    """Return the prepared folder with the folds that the models were trained on."""
    if split == UNKNOWN_SPLIT:
        return data
    base = load_prepared(split)
    if base.manifest.data_hash != data.manifest.data_hash:
        raise InputError(
            f"--split {split}: was made from other data than {data.path} (data_hash {base.manifest.data_hash[:12]}, "
            f"expected {data.manifest.data_hash[:12]}); prepare the same files with the folds that the models used"
        )
    return base


def _pairs(oof: FoundFiles, test: FoundFiles, request: ImportRequest, faults: list[str]) -> list[FilePair]:
    """Return name and files of each model; adds a fault for files without a partner."""
    if oof.is_single != test.is_single:
        raise InputError("--oof and --test must both be a file, or both a folder or a pattern with a *")
    if oof.is_single:
        if request.name is None:
            raise InputError("name the model with --name")
        return [(request.name, next(iter(oof.paths.values())), next(iter(test.paths.values())))]
    for ours, others, kind in ((oof, test, "test"), (test, oof, "out-of-fold")):
        faults.extend(
            f"{files[0]}: there is no file with {kind} predictions named {name!r}"
            for name, files in ours.paths.items()
            if name not in others.paths
        )
    front = "" if request.name is None else f"{request.name}-"
    return [(front + name, oof.paths[name], test.paths[name]) for name in oof.paths if name in test.paths]


def _read_pair(
    pair: FilePair, request: ImportRequest, data: Prepared, notes: dict[str, list[str]]
) -> list[ForeignModel]:
    """Return the models in one pair of files; adds notes about what was ignored."""
    name, oof_files, test_files = pair
    found: list[tuple[ForeignTable, MatchedPredictions]] = []
    faults: list[str] = []
    if len(test_files) not in (1, len(oof_files)):
        faults.append(f"{name!r}: has {len(test_files)} files of test predictions, but {len(oof_files)} of out-of-fold")
    for files, is_test in ((oof_files, False), (test_files, True)):
        try:
            table, placed = _read_files(files, request, data, is_test=is_test)
        except InputError as error:
            faults.extend(error.faults)
            continue
        found.append((table, placed))
        for remark in _remarks(table, placed, request, data):
            notes.setdefault(remark, []).append(table.path)
        if is_test and len(files) > 1:
            notes.setdefault(f"mean of {len(files)} files of test predictions", []).append(table.path)
    if faults:
        raise InputError(*faults)
    (oof_table, oof), (test_table, test) = found
    return [
        ForeignModel(
            name=name if len(oof.columns) == 1 else f"{name}-{ours}",
            family=request.family or (name if len(oof.columns) == 1 else f"{name}-{ours}"),
            oof=oof.columns[ours],
            test=test.columns[theirs],
            column=ours,
            sources=tuple((table.path, hashlib.sha256(table.content).hexdigest()) for table in (oof_table, test_table)),
        )
        for ours, theirs in _column_pairs(oof_table.path, oof, test_table.path, test)
    ]


def _read_files(
    paths: Sequence[str], request: ImportRequest, data: Prepared, *, is_test: bool
) -> tuple[ForeignTable, MatchedPredictions]:
    """Return a file, or the files of the folds of one model: rows of out-of-fold predictions, one after the other.

    Every file of test predictions has all test rows; the mean over the files is what counts.
    """
    columns = ForeignColumns(data.task, request.id_column, request.prediction_columns)
    tables: list[ForeignTable] = []
    faults: list[str] = []
    for path in paths:
        try:
            tables.append(read_foreign(path, columns, is_test=is_test))
        except InputError as error:
            faults.extend(error.faults)
    if faults:
        raise InputError(*faults)
    if not is_test:
        tables = [join_tables(tables)]
    placed = [
        match_rows(
            part,
            PreparedRows.of_test(data) if is_test else PreparedRows.of_train(data),
            metric=data.task.measure,
            trust_row_order=request.trust_row_order,
            check_fold=request.split != UNKNOWN_SPLIT,
        )
        for part in tables
    ]
    if other := next((part for part in tables if part.predictions.keys() != tables[0].predictions.keys()), None):
        raise InputError(f"{other.path}: has other prediction columns than {tables[0].path}; use the same names")
    means = {name: np.mean([part.columns[name] for part in placed], axis=0) for name in placed[0].columns}
    content = b"".join(part.content for part in tables)
    return replace(tables[0], content=content), replace(placed[0], columns=means)


def _remarks(table: ForeignTable, placed: MatchedPredictions, request: ImportRequest, data: Prepared) -> list[str]:
    remarks = []
    if table.ids is None and not placed.order_checked:
        remarks.append("rows matched by order, which cannot be checked without targets")
    if placed.has_own_folds and request.split == UNKNOWN_SPLIT:
        remarks.append(f"folds are those of {data.path}; if the models used them, add --split {data.path}")
    if others := [*table.passed_over, *placed.truths]:
        remarks.append(f"columns not used as predictions ({', '.join(map(repr, others))})")
    return remarks


def _sentences(notes: dict[str, list[str]]) -> tuple[str, ...]:
    """Return each remark with its files."""
    return tuple(
        f"{remark}: {', '.join(paths[:SHOWN])}" + (f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else "")
        for remark, paths in notes.items()
    )


def _column_pairs(
    oof_path: str, oof: MatchedPredictions, test_path: str, test: MatchedPredictions
) -> list[tuple[str, str]]:
    """Return the names of both columns of each model: the same, unless there is only one of each."""
    if len(oof.columns) == len(test.columns) == 1:
        return [(next(iter(oof.columns)), next(iter(test.columns)))]
    faults = [
        f"{path}, column {name}: there is no column of that name in {other_path}"
        for path, columns, other_path, others in (
            (oof_path, oof.columns, test_path, test.columns),
            (test_path, test.columns, oof_path, oof.columns),
        )
        for name in columns
        if name not in others
    ]
    if faults:
        raise InputError(*faults)
    return [(name, name) for name in oof.columns]
