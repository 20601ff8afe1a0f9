"""From files of others' predictions to models to blend; logits, ranks and scores stay unchanged until calibration."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from blend.imports.column_roles import TARGET, role_by_name, same_parts
from blend.imports.foreign_columns import AS_ASKED, ForeignColumns, ForeignTable, join_tables, read_foreign
from blend.imports.foreign_rows import MatchedPredictions, PreparedRows, match_rows
from blend.imports.found_files import FoundFiles, find_files
from blend.imports.imported_models import ForeignModel, ImportedModels
from data_prep.errors import InputError, quote
from data_prep.given_name import name_fault
from data_prep.prepare.folds import unmeasurable
from data_prep.prepared import Prepared, load_prepared, refold, split_groups
from data_prep.store.oof_store import UNKNOWN_SPLIT
from data_prep.wording import count

FilePair = tuple[str, tuple[str, ...], tuple[str, ...]]
"""Name of a model, its files of out-of-fold predictions and of test predictions, if there are any."""
SHOWN = 3


@dataclass(frozen=True)
class ImportRequest:
    """What to import, as given on the command line."""

    oof: str
    test: str | None
    """None: a blend of these models has no submission."""
    name: str | None
    """The model's name; with many models, a prefix for each name; None: no prefix."""
    family: str | None = None
    """None: every model is its own family."""
    split: str = UNKNOWN_SPLIT
    """The prepared folder whose folds the models were trained on."""
    trust_row_order: bool = False
    id_column: str | None = None
    prediction_columns: tuple[str, ...] = ()
    fold_column: str | None = None
    """The column with the folds that the models were trained on."""
    exclude: tuple[str, ...] = ()
    """Names of columns and models to leave out."""
    name_from: str | None = None
    """One of `NAME_FROM`; None: what a star stands for, else a file's name, and one file alone needs `name`."""


@dataclass(frozen=True)
class _Findings:
    """What is wrong with a request, and what a person should know about it."""

    faults: list[str] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)
    """Files by remark."""
    excluded: set[str] = field(default_factory=set)
    """The names of `exclude` that were found."""

    def note(self, remark: str, path: str) -> None:
        self.notes.setdefault(remark, []).append(path)


def read_request(request: ImportRequest, data: Prepared) -> ImportedModels:
    """Read, align and check everything in a request; nothing is written.

    Raises:
        InputError: a task with more than one number for a row, files without a partner, or faults as in `match_rows`;
            all faults of all files.
    """
    if targets := data.task.target.names:
        shown = ", ".join(targets[:SHOWN]) + (", ..." if len(targets) > SHOWN else "")
        raise InputError(
            f"predictions are imported for tasks with one number for a row; task {data.task.name!r} has "
            f"{len(targets)} columns ({shown}): train its models with `blendfold run`"
        )
    if request.fold_column and request.split != UNKNOWN_SPLIT:
        raise InputError("give --split or --fold-column, not both: each says which folds the models were trained on")
    base = _base(request.split, data)
    if base.manifest.repeats > 1:
        raise InputError(
            f"{base.path}: is split {base.manifest.repeats} times, and what is imported has one prediction for a row; "
            "prepare the data without --repeats, or train the models with `blendfold run`"
        )
    oof_files = find_files(request.oof, "--oof", request.name_from)
    test_files = None if request.test is None else find_files(request.test, "--test", request.name_from)
    findings = _Findings()
    for path in (*oof_files.passed_over, *(test_files.passed_over if test_files else ())):
        findings.note("ignored, because the format is unknown", path)
    models: list[ForeignModel] = []
    for pair in _pairs(oof_files, test_files, request, findings):
        try:
            models.extend(_read_pair(pair, request, base, findings))
        except InputError as error:
            findings.faults.extend(error.faults)
    faults, names = [*findings.faults], [model.name for model in models]
    if unknown := [name for name in request.exclude if name not in findings.excluded]:
        faults.append(f"--exclude {', '.join(unknown)}: there is no such model or column; models: {', '.join(names)}")
    repeated = sorted({name for name in names if names.count(name) > 1})
    faults.extend(f"two models would be named {name!r}; choose another --name" for name in repeated)
    faults.extend(f"{name!r}: the name of a model may not contain a comma; rename it" for name in names if "," in name)
    faults.extend(f"{quote(name)}: {fault}; choose another --name" for name in names if (fault := name_fault(name)))
    if faults or not models:
        raise InputError(*(faults or ["--exclude: leaves no model to import"]))
    return ImportedModels(models=tuple(models), data=data, notes=_sentences(findings.notes))


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


def _pairs(oof: FoundFiles, test: FoundFiles | None, request: ImportRequest, findings: _Findings) -> list[FilePair]:
    """Return name and files of each model that is not excluded; adds a fault for files without a partner."""
    if test and oof.is_single != test.is_single:
        raise InputError("--oof and --test must both be a file, or both a folder or a pattern with a *")
    if oof.is_single:
        ((name, files),) = oof.paths.items()
        name = request.name or (name if request.name_from else "")
        return [(name, files, next(iter(test.paths.values())) if test else ())]
    front = "" if request.name is None else f"{request.name}-"
    known = {*oof.paths, *(test.paths if test else ())}
    dropped = {name for name in known if {name, front + name} & set(request.exclude)}
    findings.excluded.update({*dropped, *(front + name for name in dropped)} & set(request.exclude))
    for ours, others, kind in ((oof, test, "test"), (test, oof, "out-of-fold")) if test else ():
        findings.faults.extend(
            f"{files[0]}: there is no file with {kind} predictions named {name!r}; rename it, or leave it out with "
            f"--exclude {name}"
            for name, files in ours.paths.items()
            if name not in others.paths and name not in dropped
        )
    return [
        (front + name, files, test.paths[name] if test else ())
        for name, files in oof.paths.items()
        if name not in dropped and (test is None or name in test.paths)
    ]


def _read_pair(pair: FilePair, request: ImportRequest, data: Prepared, findings: _Findings) -> list[ForeignModel]:
    """Return the models in one pair of files; adds remarks about what was ignored."""
    name, front = pair[0], f"{pair[0]}-" if pair[0] else ""
    read = _read_both(pair, front, request, data, findings)
    (oof_table, oof), (test_table, test) = read[0], read[-1]
    if not name and len(oof.columns) == 1:
        raise InputError("name the model with --name, or with --name-from file or folder")
    own, split_hash = _own_folds(oof_table.path, oof, request, data)
    pairs = _column_pairs(oof_table.path, oof, test_table.path, test)
    names = {ours: name if len(pairs) == 1 else front + ours for ours, _ in pairs}
    return [
        ForeignModel(
            name=names[ours],
            family=request.family or names[ours],
            oof=oof.columns[ours],
            test=test.columns[theirs] if pair[2] else None,
            column=ours,
            sources=tuple((table.path, hashlib.sha256(table.content).hexdigest()) for table, _ in read),
            data=own,
            split_hash=split_hash,
        )
        for ours, theirs in pairs
    ]


def _read_both(
    pair: FilePair, front: str, request: ImportRequest, data: Prepared, findings: _Findings
) -> list[tuple[ForeignTable, MatchedPredictions]]:
    """Return what is in the files of out-of-fold predictions, and, if there are any, of test predictions."""
    name, oof_files, test_files = pair
    exclude = {spelled: AS_ASKED for each in request.exclude for spelled in (each, each.removeprefix(front))}
    columns = ForeignColumns(data.task, request.id_column, request.prediction_columns, request.fold_column, exclude)
    read: list[tuple[ForeignTable, MatchedPredictions]] = []
    faults: list[str] = []
    if len(test_files) not in (0, 1, len(oof_files)):
        faults.append(f"{name!r}: has {len(test_files)} files of test predictions, but {len(oof_files)} of out-of-fold")
    for files, is_test in ((oof_files, False), (test_files, True)) if test_files else ((oof_files, False),):
        try:
            table, placed = _read_files(files, columns, request, data, is_test=is_test)
        except InputError as error:
            faults.extend(error.faults)
            continue
        read.append((table, placed))
        if not is_test:  # what is no model here is none in the test files either
            known = {each: role for each, role in placed.others.items() if role_by_name(each) != TARGET}
            columns = replace(columns, exclude={**exclude, **known})
        asked = {each for each, role in placed.others.items() if role == AS_ASKED}
        findings.excluded.update(each for each in request.exclude if {each, each.removeprefix(front)} & asked)
        for remark in _remarks(table, placed, request, data):
            findings.note(remark, table.path)
        if is_test and len(files) > 1:
            findings.note(f"mean of {len(files)} files of test predictions", table.path)
    if faults:
        raise InputError(*faults)
    return read


def _own_folds(path: str, oof: MatchedPredictions, request: ImportRequest, data: Prepared) -> tuple[Prepared, str]:
    """Return the data with the folds that the models of a file were trained on, and their split hash, if known."""
    if request.fold_column is None:
        return data, data.manifest.split_hash if request.split != UNKNOWN_SPLIT else UNKNOWN_SPLIT
    assert oof.fold is not None
    if same_parts(oof.fold, data.train["fold"].to_numpy()):
        return data, data.manifest.split_hash
    if faults := unmeasurable(oof.fold, data.train["score"].to_numpy()):
        raise InputError(f"{path}: {data.task.metric} says nothing on some of its folds: {'; '.join(faults)}")
    own = refold(data, oof.fold)
    return own, own.manifest.split_hash


def _read_files(
    paths: Sequence[str], columns: ForeignColumns, request: ImportRequest, data: Prepared, *, is_test: bool
) -> tuple[ForeignTable, MatchedPredictions]:
    """Return a file, or the files of the folds of one model: rows of out-of-fold predictions, one after the other.

    Every file of test predictions has all test rows; the mean over the files is what counts.
    """
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
        if columns.fold is not None and tables[0].fold is None:
            raise InputError(f"{tables[0].path}: has no column {columns.fold!r}, which --fold-column names")
    placed = [
        match_rows(
            part,
            PreparedRows.of_test(data) if is_test else PreparedRows.of_train(data),
            metric=data.task.measure,
            trust_row_order=request.trust_row_order,
            check_fold=request.split != UNKNOWN_SPLIT,
            needs_fold=columns.fold is not None,
            all_models=bool(columns.predictions),
        )
        for part in tables
    ]
    if other := next((part for part in tables if part.predictions.keys() != tables[0].predictions.keys()), None):
        raise InputError(f"{other.path}: has other prediction columns than {tables[0].path}; use the same names")
    means = {name: np.mean([part.columns[name] for part in placed], axis=0) for name in placed[0].columns}
    content = b"".join(part.content for part in tables)
    return replace(tables[0], content=content), replace(placed[0], columns=means)


def _remarks(table: ForeignTable, placed: MatchedPredictions, request: ImportRequest, data: Prepared) -> list[str]:
    remarks = [f"no model: column {name!r} ({role})" for name, role in placed.others.items()]
    if placed.as_numbers:
        remarks.append("ids matched as numbers (7.0 and 007 are 7)")
    if table.ids is None and not placed.order_checked:
        remarks.append("rows matched by order, which cannot be checked without targets")
    if placed.fold is None or request.split != UNKNOWN_SPLIT:
        return remarks
    are_ours = same_parts(placed.fold, data.train["fold"].to_numpy())
    whose = f"the folds of {data.path}" if are_ours else f"{int(placed.fold.max()) + 1} folds, not those of {data.path}"
    if request.fold_column is None:
        remarks.append(f"has {whose}; if the models were trained on them, add --fold-column {table.fold_name}")
    elif not are_ours:
        remarks.append(f"trained on {whose}; blended without models of other folds, nested scores are by these")
    groups = data.train["group"].to_numpy()
    if request.fold_column and (n_split := split_groups(groups, placed.fold)):
        remarks.append(
            f"WARNING: {n_split:,} of {count(len(np.unique(groups)), 'group')} have rows in several of these folds, so "
            "a model has seen rows of the group that it predicts, and scores flatter"
        )
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
        f"{path}, column {name}: there is no column of that name in {other_path}; leave it out with --exclude {name}"
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
