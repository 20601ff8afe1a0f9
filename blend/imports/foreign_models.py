"""From files of others' predictions to models to blend; logits, ranks and scores stay unchanged until calibration."""

import hashlib
from dataclasses import dataclass

from blend.imports.foreign_files import ForeignColumns, ForeignTable, FoundFiles, find_files, read_foreign
from blend.imports.foreign_rows import MatchedPredictions, PreparedRows, match_rows
from blend.imports.imported_models import ForeignModel, ImportedModels
from data_prep.errors import InputError
from data_prep.prepared import Prepared, load_prepared
from data_prep.store.oof_store import UNKNOWN_SPLIT

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


def _pairs(oof: FoundFiles, test: FoundFiles, request: ImportRequest, faults: list[str]) -> list[tuple[str, str, str]]:
    """Return name and both paths of each pair of files; adds a fault for files without a partner."""
    if oof.is_single != test.is_single:
        raise InputError("--oof and --test must both be a file, or both a folder or a pattern with a *")
    if oof.is_single:
        if request.name is None:
            raise InputError("name the model with --name")
        return [(request.name, next(iter(oof.paths.values())), next(iter(test.paths.values())))]
    for ours, others, kind in ((oof, test, "test"), (test, oof, "out-of-fold")):
        faults.extend(
            f"{path}: there is no file with {kind} predictions named {name!r}"
            for name, path in ours.paths.items()
            if name not in others.paths
        )
    front = "" if request.name is None else f"{request.name}-"
    return [(front + name, oof.paths[name], test.paths[name]) for name in oof.paths if name in test.paths]


def _read_pair(
    pair: tuple[str, str, str], request: ImportRequest, data: Prepared, notes: dict[str, list[str]]
) -> list[ForeignModel]:
    """Return the models in one pair of files (name, both paths); adds notes about what was ignored."""
    name, oof_path, test_path = pair
    columns = ForeignColumns(data.task, request.id_column, request.prediction_columns)
    found: list[tuple[ForeignTable, MatchedPredictions]] = []
    faults: list[str] = []
    for path, is_test in ((oof_path, False), (test_path, True)):
        try:
            table = read_foreign(path, columns, is_test=is_test)
            placed = match_rows(
                table,
                PreparedRows.of_test(data) if is_test else PreparedRows.of_train(data),
                metric=data.task.measure,
                trust_row_order=request.trust_row_order,
                check_fold=request.split != UNKNOWN_SPLIT,
            )
        except InputError as error:
            faults.extend(error.faults)
            continue
        found.append((table, placed))
        for remark in _remarks(table, placed, request, data):
            notes.setdefault(remark, []).append(path)
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
