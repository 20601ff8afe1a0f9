"""Trains again the fold runs of a blend whose weights were not kept, for a bundle of it."""

import json
import math
import os
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.console import duration
from data_prep.errors import STORAGE_FAULTS, InputError, storage_fault
from data_prep.store.files import absolute, exists, join, read_bytes, remove_folder
from data_prep.store.oof_store import OofStore, Provenance
from data_prep.store.weight_folders import backbone_is_kept, find_weights, weights_folder
from models.candidate import Candidate
from search.ray_tune.ray_session import headline, prepare_environment, ray_session
from search.ray_tune.run_study import new_workplace
from search.run_dir.disk_budget import DiskBudget
from search.run_dir.driver_lock import claim
from search.study.study_file import ResolvedStudy, read_resolved
from search.worker.fold_run import Workplace, checkpoint_folder, clean_up, keep_backbone, prepared, train

TOLERANCE = 1e-3
"""Difference between predictions, before and now, up to which weights are taken for those that were lost."""
TRIES = 2
"""Times that a fold run whose worker died is tried again."""

Note = Callable[[str], None]


@dataclass(frozen=True)
class Lack:
    """What a member of a blend lacks."""

    run_dir: str
    candidate: Candidate
    origins: tuple[Provenance, ...]
    """Of the fold runs whose weights are not there."""
    backbone: bool
    """Whether what predicting needs of its backbone is not there."""


@dataclass(frozen=True)
class Refitted:
    """How a fold run that was trained again came out."""

    difference: float
    """The largest difference between its predictions, out-of-fold or test, and those in the tables."""
    seconds: float
    failure: str = ""
    notes: tuple[str, ...] = ()


def refit(
    run_dir: str, name: str, *, address: str | None, backbones: str | None, force: bool, note: Note
) -> tuple[int, int]:
    """Make whole what a bundle of a blend needs: weights of its members' fold runs, and of backbones what is kept.

    Tables stay as they are: what comes out anew must equal them, bit for bit where device and versions are the same.
    The disk budget of the study is not heeded, since these weights were asked for.

    Args:
        run_dir: the run directory with the blend; members may be of others.
        name: of the blend.
        address: of a running Ray cluster; None: what RAY_ADDRESS names, else Ray starts here.
        backbones: folder with local copies of hub models.
        force: keep weights that predict otherwise than the tables say, by more than `TOLERANCE`.
        note: takes a line for each thing done.

    Returns:
        Fold runs trained, and backbones kept.

    Raises:
        InputError: no such blend, members of elsewhere, fold runs that failed or came out otherwise; all at once.
    """
    lacks = [lack for lack in _lacks(run_dir, name) if lack.origins or lack.backbone]
    backbones = absolute(backbones) if backbones else None
    faults: list[str] = []
    trained, kept = 0, 0
    for place in dict.fromkeys(lack.run_dir for lack in lacks):
        here = [lack for lack in lacks if lack.run_dir == place]
        study = read_resolved(join(place, "study.yaml"))
        workplace = replace(new_workplace(study, place, backbones=backbones), disk_gb=None)
        prepare_environment()
        with claim(place):
            if any(lack.origins for lack in here):
                with ray_session(study, place, address=address, backbones=backbones, dashboard=False, note=note):
                    for fault in _train_all(here, study, workplace, force=force, note=note):
                        faults += [fault] if fault else []
                        trained += not fault
            for backbone in sorted({lack.candidate.backbone for lack in here if lack.backbone}):
                keep_backbone(backbone, workplace, disk=DiskBudget(place, None, note), tell=faults.append)
                kept += backbone_is_kept(place, backbone)
    if faults:
        raise InputError(*faults)
    return trained, kept


# What is not there


def _lacks(run_dir: str, name: str) -> list[Lack]:
    """Return what each member of a blend lacks; members without weight are of no use to it."""
    path = join(run_dir, "blends", name, "blend.json")
    if not exists(path):
        raise InputError(f"{path}: no such blend; make one with `python -m blend fit {run_dir} --name {name}`")
    try:
        record = json.loads(read_bytes(path))
        pairs = zip(record["members"], record["combination"]["parts"], strict=True)
        members = [(member["run"], member["candidate"]) for member, part in pairs if part["weight"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a blend of this version; fit it again with `blend fit --force`") from error
    lacks, faults = [], []
    for run, candidate in members:
        place = run if exists(join(run, "oof", candidate)) else run_dir
        place = absolute(place)
        settings = join(place, "candidates", f"{candidate}.json")
        try:
            trained = Candidate.model_validate_json(read_bytes(settings))
        except ValueError:
            faults.append(f"{settings}: no settings of a model of ours; it cannot be trained, fit a blend without it")
        else:
            lacks.append(_lack(place, candidate, trained))
    if faults:
        raise InputError(*faults)
    return lacks


def _lack(run_dir: str, identity: str, candidate: Candidate) -> Lack:
    store = OofStore(run_dir)
    origins = [Provenance.of(store.read("oof", identity, fold)) for fold in store.folds(identity)]
    return Lack(
        run_dir,
        candidate,
        tuple(origin for origin in origins if find_weights(run_dir, origin) != "kept"),
        not backbone_is_kept(run_dir, candidate.backbone),
    )


# On the driver


def _train_all(
    lacks: list[Lack], study: ResolvedStudy, workplace: Workplace, *, force: bool, note: Note
) -> Iterator[str]:
    """Train every fold run through Ray; yield for each what went wrong, empty where nothing did."""
    import ray  # noqa: PLC0415 - after the environment is set

    pending: dict[Any, str] = {}
    for lack in lacks:
        size = study.resources.of(lack.candidate.backbone)
        work = ray.remote(refit_fold).options(
            num_cpus=size.cpu, num_gpus=size.gpu, max_retries=TRIES, name=lack.candidate.label
        )
        for origin in lack.origins:
            config = {
                "candidate": origin.candidate,
                "fold": origin.fold,
                "attempt": origin.attempt,
                "threads": max(1, math.floor(size.cpu)),
                "device": "auto" if size.gpu else "cpu",
            }
            label = f"{lack.candidate.label} {origin.candidate}, fold {origin.fold}"
            pending[work.remote(workplace, lack.candidate, config, origin, force=force)] = label
    total = len(pending)
    note(f"training {total} fold runs again")
    while pending:
        (done,), _ = ray.wait(list(pending))
        label = pending.pop(done)
        try:
            found = ray.get(done)
        except ray.exceptions.RayError as error:
            found = Refitted(math.nan, 0.0, failure=headline(error))
        for text in found.notes:
            note(f"{label}: {text}")
        if not found.failure:
            same = "bit for bit" if found.difference == 0.0 else f"but for {found.difference:.1e}"
            note(f"{label}: predicts what the tables say, {same} ({duration(found.seconds)}); {len(pending)} to go")
        yield f"{label}: {found.failure}" if found.failure else ""


# On a worker


def refit_fold(
    workplace: Workplace, candidate: Candidate, config: dict[str, Any], origin: Provenance, *, force: bool
) -> Refitted:
    """Train a fold run again, compare it with its tables, and keep its weights.

    Args:
        workplace: what the study fixes.
        candidate: that the study tries.
        config: as for `search.worker.fold_run.run_fold`.
        origin: of the tables: how the fold run was trained then.
        force: keep the weights whatever the difference.
    """
    if Path(workplace.home).is_dir():
        os.chdir(workplace.home)
    notes: list[str] = []
    try:
        return _refit(workplace, candidate, config, origin, force=force, notes=notes)
    except InputError as error:
        return Refitted(math.nan, 0.0, str(error), tuple(notes))
    except OSError as error:
        fault = storage_fault(error, STORAGE_FAULTS)
        if fault is None:
            raise
        return Refitted(math.nan, 0.0, f"{fault.filename}: {fault.strerror}; free space there", tuple(notes))
    except MemoryError:
        raise
    except Exception as error:
        traceback.print_exc()
        return Refitted(math.nan, 0.0, f"{type(error).__name__}: {error}", tuple(notes))
    finally:
        clean_up()


def _refit(
    workplace: Workplace,
    candidate: Candidate,
    config: dict[str, Any],
    origin: Provenance,
    *,
    force: bool,
    notes: list[str],
) -> Refitted:
    from models.training.fold_weights import save_weights  # noqa: PLC0415 - imports torch

    begun = time.monotonic()
    disk = DiskBudget(workplace.run_dir, None, notes.append)
    data = prepared(workplace.data, workplace.split_hash)
    found = train(
        workplace,
        config,
        candidate,
        data,
        report=lambda _: True,
        tell=notes.append,
        disk=disk,
        micro_batches=origin.micro_batches,
        keep_weights=True,
    )
    store = OofStore(workplace.run_dir)
    difference = max(_difference(store, kind, origin, getattr(found, kind)) for kind in ("oof", "test"))
    seconds = time.monotonic() - begun
    if not (difference <= TOLERANCE or force):
        failure = (
            f"predicts otherwise than its tables say, by up to {difference:.2g} ({TOLERANCE:g} is tolerated): the "
            f"device, the backbone or a version is another than then. Train it where it was, or give --force to "
            f"keep these weights; a bundle of them will not give the blend's own submission"
        )
        return Refitted(difference, seconds, failure, tuple(notes))
    assert found.weights is not None
    weights = replace(
        found.weights, provenance=replace(found.provenance, candidate=origin.candidate, attempt=origin.attempt)
    )
    save_weights(weights, weights_folder(workplace.run_dir, origin.candidate, origin.fold))
    folder = checkpoint_folder(workplace.run_dir, origin.candidate, origin.fold, origin.attempt)
    remove_folder(folder)
    return Refitted(difference, seconds, notes=tuple(notes))


def _difference(store: OofStore, kind: str, origin: Provenance, table: Any) -> float:
    """Return the largest difference between predictions and those of a stored table."""
    stored = store.read(kind, origin.candidate, origin.fold)
    if stored["id"].to_pylist() != table["id"].to_pylist():
        raise InputError(f"{store.path(kind, origin.candidate, origin.fold)}: has other rows than the prepared folder")
    before, now = (each["prediction"].to_numpy().astype(np.float64) for each in (stored, table))
    return float(np.abs(before - now).max(initial=0.0))
