"""One fold run as a worker does it: from its checkpoint, if there is one, to its prediction tables."""

import contextlib
import ctypes
import functools
import gc
import os
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from data_prep.console import print_line
from data_prep.errors import FULL_DISK, InputError, storage_fault
from data_prep.prepared import Prepared, load_prepared
from data_prep.scoring.metrics import Metric
from data_prep.store.oof_store import OofStore, Provenance
from data_prep.store.tables import HOLDOUT_FOLD
from data_prep.store.weight_folders import backbone_folder, backbone_is_kept, weights_folder
from data_prep.targets.target_columns import numbers_of
from search.ladder.decisions import FINISHED, is_dead
from search.run_dir.disk_budget import DiskBudget
from search.worker.messages import (
    Assignment,
    FailureReport,
    FoldRunOrder,
    FoldRunSettings,
    FullDiskReport,
    MessageReport,
    ScoreReport,
    SendReport,
)

SendMessage = Callable[[str], None]
"""Passes on what a person should know."""
SendSpeed = Callable[[float, float], None]
"""Takes the training rows gone through and the seconds that they took."""


def ignore_message(text: str) -> None:
    """Show nobody what was said before."""


def ignore_speed(rows: float, seconds: float) -> None:
    """Show nobody how fast a fold run is."""


@functools.cache
def load_libraries() -> None:
    """Import what every fold run of a worker needs, and spare searches for garbage what thus stays to the end."""
    gc.disable()  # what imports make is no garbage, and to look for some takes a sixth of their time
    try:
        import models.training.train_fold  # noqa: F401, PLC0415 - workers only
    finally:
        gc.enable()
    gc.freeze()


def run_fold(
    settings: FoldRunSettings, order: FoldRunOrder, send: SendReport, send_speed: SendSpeed = ignore_speed
) -> None:
    """Do one fold run; if its tables exist already, only report.

    An error that the same inputs would cause again is reported as a failure; what may pass (storage, memory) is raised.
    A full disk is reported as such: no other fold run could be kept either. `send_speed` is called at each rung.
    """
    try:
        _run_fold(settings, order, send, send_speed)
    except OSError as error:
        fault = storage_fault(error, FULL_DISK)
        if fault is None:
            raise
        send(FullDiskReport(fault.errno, fault.strerror, fault.filename))
    except MemoryError:
        raise
    except InputError as error:
        send(FailureReport(str(error)))
    except Exception as error:
        print_line(traceback.format_exc())
        send(FailureReport(f"{type(error).__name__}: {error}"))
    finally:
        release_memory()


def _run_fold(settings: FoldRunSettings, order: FoldRunOrder, send: SendReport, send_speed: SendSpeed) -> None:
    from models.backbones.locate_backbone import locate_backbone  # noqa: PLC0415 - imports torch
    from models.training.rung_reports import RungReport  # noqa: PLC0415 - as above

    def send_message(text: str) -> None:
        send(MessageReport(text))

    def warn_once(text: str) -> None:
        send(MessageReport(text, once=f"texts of {candidate.family}"))

    assignment = order.assignment
    candidate, fold = assignment.candidate, assignment.fold
    data = load_prepared_once(settings.data, settings.split_hash)
    store = OofStore(settings.run_dir)
    if store.is_finished(candidate.id, fold):
        send(_final_score(store, data.task.search_measure, assignment, seconds=0.0))
        return
    if candidate.precision == "auto":
        chosen = _precision_chosen(order.device)
        send(MessageReport(chosen, once=chosen))

    @functools.cache
    def mention_micro_batches(micro_batches: int) -> None:
        if micro_batches > 1:
            send_message(
                f"memory is short: each step is computed in {micro_batches} micro-batches; the batch stays the same"
            )

    def on_rung(rung: RungReport) -> bool:
        mention_micro_batches(rung.micro_batches)
        send_speed(rung.progress * candidate.epochs * training_rows(data, fold), rung.seconds)
        if rung.fault:
            send_message(f"failed to learn: {rung.fault}")
        if rung.progress < FINISHED:
            send(ScoreReport(rung.progress, rung.epoch, rung.metric, rung.seconds))
        return True

    disk = DiskBudget(settings.run_dir, settings.disk_gb, send_message)
    backbone = locate_backbone(candidate.backbone, settings.backbones)
    result = train(
        settings, order, data, backbone, on_rung=on_rung, send_message=send_message, disk=disk, warn=warn_once
    )
    assert result is not None, "only a report that returns False ends a fold run early"
    if is_dead(data.task.search_measure.utility(result.metric), settings.dead_below):
        send(ScoreReport(FINISHED, result.epoch, result.metric, result.seconds))
        return
    provenance = replace(result.provenance, candidate=candidate.id, attempt=assignment.attempt)
    if result.weights is not None:
        weights = replace(result.weights, provenance=provenance)
        _keep_weights(weights, backbone, settings, disk=disk, send_message=send_message)
    store.write(provenance, oof=result.oof, test=result.test, holdout=result.holdout)
    send(_final_score(store, data.task.search_measure, assignment, seconds=result.seconds))


def train(
    settings: FoldRunSettings,
    order: FoldRunOrder,
    data: Prepared,
    backbone: Any,
    *,
    on_rung: Callable[[Any], bool],
    send_message: SendMessage,
    disk: DiskBudget,
    warn: SendMessage = ignore_message,
) -> Any:
    """Do what `models.training.train_fold` does, from a checkpoint if there is one; `on_rung` ends it with False."""
    from models.training.checkpoint import CheckpointFolder  # noqa: PLC0415 - imports torch
    from models.training.fold_options import FoldOptions  # noqa: PLC0415 - as above
    from models.training.train_fold import train_fold  # noqa: PLC0415 - as above

    candidate = order.assignment.candidate_to_train
    options = FoldOptions(
        rungs=scoring_points(settings.rungs, candidate.epochs, score_epochs=settings.score_epochs),
        rung_rows=settings.rung_rows,
        checkpoint_seconds=settings.checkpoint_seconds,
        micro_batches=order.resources.micro_batches,
        halve=not order.can_grow,
        keep_weights=settings.keep_weights,
        threads=order.threads,
        device=order.device,
    )
    checkpoints = order.assignment.checkpoint_folder(settings.run_dir)
    checkpoint = CheckpointFolder(checkpoints, warn=send_message, room=partial(disk.room, what="a checkpoint"))
    return train_fold(
        candidate,
        data,
        order.assignment.fold,
        options,
        backbone=backbone,
        report=on_rung,
        checkpoint=checkpoint,
        warn=warn,
    )


def scoring_points(rungs: tuple[float, ...], epochs: int, *, score_epochs: bool) -> tuple[float, ...]:
    """Return the shares of a schedule of `epochs` epochs at which a fold run is scored."""
    after_epochs = [epoch / epochs for epoch in range(1, epochs)] if score_epochs else []
    return (*rungs, *after_epochs, FINISHED)


def _precision_chosen(device_name: str) -> str:
    """Say which precision `auto` comes to here, and why."""
    from models.training.devices import choose_precision, find_device  # noqa: PLC0415 - imports torch

    device = find_device(device_name)
    precision, reason = choose_precision(device)
    return f"precision auto is {precision} on {device.type}: {reason}"


def _final_score(store: OofStore, metric: Metric, assignment: Assignment, *, seconds: float) -> ScoreReport:
    """Return the last report of a fold run: it is finished because its tables exist."""
    table = store.read("oof", assignment.candidate.id, assignment.fold)
    value = metric(numbers_of(table, "score"), numbers_of(table, "prediction"))
    return ScoreReport(FINISHED, Provenance.of(table).epoch, value, seconds)


# Weights, kept for a bundle


def _keep_weights(
    weights: Any, backbone: Any, settings: FoldRunSettings, *, disk: DiskBudget, send_message: SendMessage
) -> None:
    """Write the weights of a fold run, and what predicting needs of its backbone, if the disk budget allows."""
    from models.training.fold_weights import save_weights  # noqa: PLC0415 - imports torch

    with disk.room(weights.n_bytes, "the weights") as granted:
        if granted:
            origin = weights.provenance
            save_weights(weights, weights_folder(settings.run_dir, origin.candidate, origin.fold))
    if granted:
        keep_backbone(backbone, settings, disk=disk, send_message=send_message)


def keep_backbone(backbone: Any, settings: FoldRunSettings, *, disk: DiskBudget, send_message: SendMessage) -> None:
    """Keep, once for all fold runs, what predicting needs of a backbone besides their weights."""
    from models.backbones.kept_backbone import collect_kept_backbone, write_kept_backbone  # noqa: PLC0415 - imports torch

    if backbone_is_kept(settings.run_dir, backbone.name):
        return
    try:
        files = collect_kept_backbone(backbone)
    except InputError as error:
        send_message(f"{error}: this run cannot be bundled with it")
        return
    with disk.room(sum(map(len, files.values())), "the embeddings of a backbone") as granted:
        if granted:
            write_kept_backbone(files, backbone_folder(settings.run_dir, backbone.name))


# The worker's process


def enter_home(settings: FoldRunSettings) -> None:
    """Go to the driver's working directory where it exists: workers of a cluster start where its Ray was started."""
    if Path(settings.home).is_dir():
        os.chdir(settings.home)


def training_rows(data: Prepared, fold: int) -> int:
    """Return how many rows a fold run trains on: those of all folds but its own."""
    return int((~data.in_fold(fold) & ~data.in_fold(HOLDOUT_FOLD)).sum())


@functools.lru_cache(maxsize=1)
def load_prepared_once(folder: str, split_hash: str) -> Prepared:
    """Load a prepared folder, once for all fold runs of a worker.

    Raises:
        InputError: it is no longer the one that the study started with.
    """
    data = load_prepared(folder)
    if data.manifest.split_hash != split_hash:
        raise InputError(f"{folder}: was prepared again with another split while the study runs; restore it")
    return data


def release_memory() -> None:
    """Leave the worker process as it was: the next fold run may get it."""
    import torch  # noqa: PLC0415 - workers only

    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)  # each fold run has a thread, so a heap, of its own: give back what is free
    if torch.cuda.is_available():
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()
