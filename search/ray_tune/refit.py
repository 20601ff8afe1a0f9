"""Trains again the fold runs of a blend whose weights were not kept, so that it can be bundled."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from data_prep.console import duration
from data_prep.errors import InputError
from data_prep.store.candidate_records import candidate_path
from data_prep.store.files import absolute, exists
from data_prep.store.oof_store import OofStore, Provenance, home_of
from data_prep.store.sealed_records import read_record
from data_prep.store.weight_folders import backbone_is_kept, find_weights
from data_prep.wording import command, count
from models.candidate import Candidate
from search.driver.worker_settings import fold_run_settings
from search.ray_tune.lost_workers import MAX_WORKER_DEATHS
from search.ray_tune.ray_errors import NoRayError, headline
from search.ray_tune.ray_session import prepare_environment, ray_session
from search.ray_tune.supervisor import OpenSession
from search.run_dir.disk_budget import DiskBudget
from search.run_dir.driver_lock import hold_driver_lock
from search.run_dir.run_dir import RunDir
from search.study.kept_study import read_resolved
from search.study.study_file import StudyResources
from search.worker.fold_run import keep_backbone
from search.worker.messages import Assignment, FoldRunOrder, FoldRunResources, FoldRunSettings
from search.worker.refit_fold import Refitted, refit_fold

Message = Callable[[str], None]


@dataclass(frozen=True)
class MissingParts:
    """What a bundle needs of a member of a blend and does not find."""

    run_dir: str
    candidate: Candidate
    origins: tuple[Provenance, ...]
    """Of the fold runs whose weights are missing."""
    backbone: bool
    """Whether what predicting needs of its backbone is missing."""


def refit(
    run_dir: str,
    name: str,
    *,
    address: str | None,
    backbones: str | None,
    force: bool,
    message: Message,
    open_session: OpenSession = ray_session,
) -> tuple[int, int]:
    """Restore weights and backbones for a bundle of a blend; return counts of fold runs trained and backbones kept.

    Tables stay as they are: the new predictions must equal them, bit for bit on the same device and versions. The disk
    budget does not count here. Members may be in other run directories than the blend. With `force`, weights are kept
    whatever they predict. `address`: as for `ray_session`.

    Raises:
        InputError: no such blend, members of other origin, fold runs that failed or came out differently; all at once.
    """
    from models.backbones.locate_backbone import locate_backbone  # noqa: PLC0415 - imports torch

    missing = [member for member in _missing_parts(run_dir, name) if member.origins or member.backbone]
    backbones = absolute(backbones) if backbones else None
    faults: list[str] = []
    trained, kept = 0, 0
    for place in dict.fromkeys(member.run_dir for member in missing):
        here = [member for member in missing if member.run_dir == place]
        study = read_resolved(place)
        settings = replace(fold_run_settings(study, place, backbones=backbones), disk_gb=None)
        prepare_environment()
        with hold_driver_lock(place):
            if any(member.origins for member in here):
                session = open_session(
                    study, place, address=address, backbones=backbones, dashboard=False, message=message
                )
                try:
                    with session:
                        for fault in _train_all(here, study.resources, settings, force=force, message=message):
                            faults += [fault] if fault else []
                            trained += not fault
                except NoRayError as fault:
                    raise InputError(f"{fault}; what is trained is kept, so give the same command again") from fault
            for backbone in sorted({member.candidate.backbone for member in here if member.backbone}):
                disk = DiskBudget(place, None, message)
                try:
                    files = locate_backbone(backbone, backbones)
                except InputError as error:
                    faults.append(f"{error}: this run cannot be bundled with it")
                    continue
                keep_backbone(files, settings, disk=disk, send_message=faults.append)
                kept += backbone_is_kept(place, backbone)
    if faults:
        raise InputError(*faults)
    return trained, kept


def _missing_parts(run_dir: str, name: str) -> list[MissingParts]:
    """Return what is missing for each member of a blend that has weight in it."""
    path, fit = RunDir(run_dir).blend_path(name), command("blendfold blend", run_dir, options={"--name": name})
    if not exists(path):
        raise InputError(f"{path}: no such blend; make one with `{fit}`")
    members = read_record(path, _members, remedy=f"fit it again with `{fit} --force`")
    found: list[MissingParts] = []
    faults: list[str] = []
    for origin, candidate in members:
        place = absolute(home_of(candidate, run_dir, origin))
        run = RunDir(place)
        try:
            trained = run.candidate(candidate)
        except InputError as error:
            faults += error.faults
        except ValueError:
            settings = candidate_path(place, candidate)
            faults.append(f"{settings}: no settings of a model of ours; it cannot be trained, fit a blend without it")
        else:
            found.append(_missing_of(place, candidate, trained))
    if faults:
        raise InputError(*faults)
    return found


def _members(record: dict[str, Any]) -> list[tuple[str, str]]:
    """Return run and id of each member with weight, in the blend of any target."""
    blends = record.get("blends", [record])
    pairs = [pair for one in blends for pair in zip(one["members"], one["combination"]["parts"], strict=True)]
    return list(dict.fromkeys((member["run"], member["candidate"]) for member, part in pairs if part["weight"]))


def _missing_of(run_dir: str, identity: str, candidate: Candidate) -> MissingParts:
    store = OofStore(run_dir)
    origins = [Provenance.of(store.read("oof", identity, fold)) for fold in store.folds(identity)]
    return MissingParts(
        run_dir,
        candidate,
        tuple(origin for origin in origins if find_weights(run_dir, origin) != "kept"),
        not backbone_is_kept(run_dir, candidate.backbone),
    )


def _train_all(
    members: Sequence[MissingParts],
    resources: StudyResources,
    settings: FoldRunSettings,
    *,
    force: bool,
    message: Message,
) -> Iterator[str]:
    """Train every fold run through Ray; yield for each what went wrong, an empty text where nothing did."""
    import ray  # noqa: PLC0415 - after the environment is set

    pending: dict[Any, str] = {}
    for member in members:
        size, label = resources.of(member.candidate.backbone), member.candidate.label
        task = ray.remote(refit_fold).options(
            num_cpus=size.cpu, num_gpus=size.gpu, max_retries=MAX_WORKER_DEATHS, name=label
        )
        for origin in member.origins:
            order = FoldRunOrder(
                Assignment(member.candidate, origin.fold, origin.attempt),
                FoldRunResources(size.cpu, size.gpu, origin.micro_batches),
                threads=max(1, math.floor(size.cpu)),
            )
            pending[task.remote(settings, order, origin, force=force)] = (
                f"{label} {origin.candidate}, fold {origin.fold}"
            )
    message(f"training {count(len(pending), 'fold run')} again")
    while pending:
        (done,), _ = ray.wait(list(pending))
        label = pending.pop(done)
        try:
            found = ray.get(done)
        except ray.exceptions.RayError as error:
            found = Refitted(math.nan, 0.0, failure=headline(error))
        for text in found.messages:
            message(f"{label}: {text}")
        if not found.failure:
            same = "bit for bit" if found.difference == 0.0 else f"up to {found.difference:.1e}"
            message(f"{label}: predicts what its tables say, {same} ({duration(found.seconds)}); {len(pending)} to go")
        yield f"{label}: {found.failure}" if found.failure else ""
