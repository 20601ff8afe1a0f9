"""Reads a study file, checks all of it, and binds it to the data that it names."""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.errors import InputError
from data_prep.prepared import Prepared
from data_prep.store.files import absolute, expand_home
from data_prep.store.yaml_documents import check_document, read_yaml
from data_prep.task import Task
from models.candidate import Candidate
from models.experiment_log import read_experiments
from models.task_fit import check_task
from models.training.rung_steps import rung_sample
from search.study.read_candidates import read_candidates
from search.study.read_space import read_space
from search.study.study_file import ResolvedStudy, Study


def read_study(source: str | Path | Mapping[str, Any], *, data: str | None = None) -> Study:
    """Read a study (its file, or what one holds), apply its `override`, check it; `data` replaces its prepared folder.

    Raises:
        InputError: names every fault with its key.
    """
    if isinstance(source, Mapping):
        path: str | Path = "study"
        content = {**source, "data": data} if data else dict(source)
    else:
        path, content = source, read_yaml(source)
    written = check_document(_with_experiments(content, path), Study, where=str(path))
    study = _overridden(written, path)
    faults = [
        *_faults_of(lambda: read_candidates(written.candidates, where=f"{path}: candidates")),
        *_faults_of(lambda: read_space(study.space, where=f"{path}: space")),
    ]
    if study.candidates is not written.candidates and not faults:
        faults += _faults_of(lambda: read_candidates(study.candidates, where=f"{path}: overridden", allow_twins=True))
    if not faults and study.space and study.sampler == "grid":
        without_grid = read_space(study.space).without_grid()
        faults.extend(f"{path}: space.{name}: a grid needs choices or int, found a range" for name in without_grid)
    if faults:
        raise InputError(*faults)
    return study if data is None else study.model_copy(update={"data": data})


def _with_experiments(content: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """Return a study's content with the settings of the candidates that it lists by name."""
    names, log = content.get("candidates"), content.get("candidates_from")
    if not isinstance(names, list):
        return content
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"{path}: candidates: a list holds names, found {names!r}")
    if not isinstance(log, str):
        raise InputError(f"{path}: candidates: a list of names needs `candidates_from:`, the log that holds them")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{path}: candidates: {', '.join(repeated)} stands twice; keep one")
    known = read_experiments(Path(path).parent / expand_home(log))
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"{path}: candidates: {log} has no {', '.join(unknown)}; known: {', '.join(known)}")
    settings = {name: known[name].candidate.model_dump(mode="json", exclude_defaults=True) for name in names}
    return {**content, "candidates": settings}


def _faults_of(check: Callable[[], object]) -> list[str]:
    try:
        check()
    except InputError as error:
        return list(error.faults)
    return []


def _overridden(study: Study, path: str | Path) -> Study:
    """Return the study with its `override` merged into all that it tries; candidates that become the same are one."""
    if not study.override:
        return study
    check_document(study.override, Candidate, where=f"{path}: override")
    candidates = {name: {**(settings or {}), **study.override} for name, settings in study.candidates.items()}
    space = {**study.space, **study.override} if study.space else {}
    return study.model_copy(update={"candidates": candidates, "space": space, "override": {}})


def choose_candidates(study: Study, only: Collection[str]) -> frozenset[str]:
    """Return the ids of the explicit candidates that `--only` names.

    Raises:
        InputError: there is no name, or one that is not under `candidates:`; lists the known ones.
    """
    known = ", ".join(study.candidates) or "none"
    if not only:
        raise InputError(f"--only names no candidate; known: {known}")
    if unknown := sorted(set(only) - study.candidates.keys()):
        raise InputError(
            f"--only {', '.join(unknown)}: no such name under `candidates:` of {study.name}; known: {known}"
        )
    candidates = read_candidates(study.candidates, allow_twins=True)
    return frozenset(candidates[name].id for name in only)


def names_of_same_model(study: ResolvedStudy) -> list[list[str]]:
    """Return, for each model with several names, these names."""
    names: dict[str, list[str]] = {}
    for name, candidate in study.names.items():
        names.setdefault(candidate, []).append(name)
    return [shared for shared in names.values() if len(shared) > 1]


def resolve_study(study: Study, data: Prepared) -> ResolvedStudy:
    """Bind a study to the data that it names.

    Raises:
        InputError: the task lacks what some recipe or loss of the study needs, or the data a fold with rungs.
    """
    named = read_candidates(study.candidates, allow_twins=True)
    if faults := [
        *_faults_for_task(study, named, data.task),
        *_idle_rung_folds(study, data),
        *_flat_samples(study, data),
    ]:
        raise InputError(*faults)
    settings = {**study.model_dump(mode="json"), "data": absolute(study.data)}
    return ResolvedStudy(
        **settings,
        data_hash=data.manifest.data_hash,
        split_hash=data.manifest.split_hash,
        names={name: candidate.id for name, candidate in named.items()},
    )


def _idle_rung_folds(study: Study, data: Prepared) -> list[str]:
    n_folds = data.manifest.n_folds
    unknown = [fold for fold in study.ladder.rung_folds if fold >= n_folds]
    return [f"ladder.rung_folds: {data.path} has folds 0 to {n_folds - 1}, found {unknown}"] if unknown else []


def _flat_samples(study: Study, data: Prepared) -> list[str]:
    """Return each fold whose early rungs would score rows of a single score."""
    if study.rung_rows is None or not study.ladder.rungs:
        return []
    of_fold = [data.one_target[data.in_fold(fold)] for fold in range(data.manifest.n_folds)]
    samples = {fold: targets[rung_sample(len(targets), study.rung_rows)] for fold, targets in enumerate(of_fold)}
    return [
        f"rung_rows: all {len(sample)} rows of fold {fold} that early rungs score have the score {sample[0]:g}"
        for fold, sample in samples.items()
        if len(np.unique(sample)) < 2
    ]


def _faults_for_task(study: Study, named: Mapping[str, Candidate], task: Task) -> list[str]:
    """Return what the task lacks for the recipes and losses that the study may try; each fault once."""
    tried = [(f"candidates.{name}", candidate) for name, candidate in named.items()]
    if study.space:
        tried += [("space", Candidate.model_validate(settings)) for settings in read_space(study.space).corners()]
    faults = [
        f"{where}: {fault}" for where, candidate in tried for fault in _faults_of(partial(check_task, candidate, task))
    ]
    return list(dict.fromkeys(faults))
