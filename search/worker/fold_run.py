"""What runs on a worker: one fold run, from its checkpoint if there is one, to its prediction tables."""

import contextlib
import ctypes
import functools
import gc
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from data_prep.errors import FULL_DISK, InputError, storage_fault
from data_prep.prepared import Prepared, load_prepared
from data_prep.scoring.metrics import Metric
from data_prep.store.files import base_name, join, read_bytes
from data_prep.store.oof_store import OofStore, Provenance
from data_prep.store.weight_folders import backbone_folder, backbone_is_kept, weights_folder
from models.candidate import Candidate
from search.ladder.decisions import FINISHED, is_dead
from search.run_dir.disk_budget import DiskBudget
from search.worker.node_check import Requirements, lacks, node_name

RETRY_RATE = 0.5
"""A dead fold run is retried with its learning rates times this."""
RETRY_SEED = 1_000_003
"""A dead fold run is retried with its seed plus this."""

Report = Callable[[dict[str, Any]], None]
Show = Callable[[float, float], None]


def no_show(rows: float, seconds: float) -> None:
    """Show nobody how fast a fold run is."""


@dataclass(frozen=True)
class Workplace:
    """What every fold run of a study shares; plain values, as it travels to every worker."""

    run_dir: str
    data: str
    split_hash: str
    rungs: tuple[float, ...]
    rung_rows: int | None
    dead_below: float | None
    checkpoint_seconds: float
    backbones: str | None
    home: str
    """Working directory of the driver: relative paths in candidates start there."""
    score_epochs: bool = False
    keep_weights: bool = False
    """Whether the weights of each finished fold run are written."""
    disk_gb: float | None = None
    requirements: Requirements | None = None
    """What every node must have; a worker looks before its first fold run. None: nobody looks."""

    @property
    def study(self) -> str:
        """Name of the study, which its run directory bears."""
        return base_name(self.run_dir)


def checkpoint_folder(run_dir: str, candidate: str, fold: int, attempt: int) -> str:
    """Return where a fold run keeps its state until it ends."""
    return join(run_dir, "checkpoints", candidate, f"fold-{fold}" + ("-retry" if attempt else ""))


def scored_at(rungs: tuple[float, ...], epochs: int, *, score_epochs: bool) -> tuple[float, ...]:
    """Return the shares of a schedule of so many epochs at which a fold run is scored."""
    after_epochs = [epoch / epochs for epoch in range(1, epochs)] if score_epochs else []
    return (*rungs, *after_epochs, FINISHED)


def make_trainable(workplace: Workplace) -> Callable[[dict[str, Any]], None]:
    """Return the function that Tune runs for each trial."""

    def fold_run(config: dict[str, Any]) -> None:
        from ray import tune  # noqa: PLC0415 - only workers need it

        from search.watch.prometheus import WorkerTelemetry  # noqa: PLC0415 - as above

        if Path(workplace.home).is_dir():  # workers of a cluster start where its Ray was started
            os.chdir(workplace.home)
        sys.stdout.write(f"{config['label']}\n")  # into the actor's log, by which the dashboard tells what it runs
        if workplace.requirements is not None and (faults := lacks(workplace.requirements)):
            tune.report({"unfit_node": [f"{node_name()}: {fault}" for fault in faults]})
        with WorkerTelemetry(workplace.study) as telemetry:
            run_fold(workplace, config, tune.report, telemetry.show)

    vars(fold_run)["__mixins__"] = (_HeedsTermination,)  # bases of the class that Tune makes of it
    return fold_run


class _HeedsTermination:
    """Prepares a worker, in its main thread, to keep the state of the fold run under way when its node is taken."""

    def setup(self, config: dict[str, Any]) -> None:
        """Wait with SIGTERM until the state is kept, then do what Ray does."""
        from models.training.sigterm import heed_termination  # noqa: PLC0415 - workers only

        heed_termination()
        super().setup(config)  # type: ignore[misc]


def run_fold(workplace: Workplace, config: dict[str, Any], report: Report, show: Show = no_show) -> None:
    """Do one fold run.

    A fold run whose tables are there already only reports. An error that would come again with the same inputs is
    reported as this fold run's failure; what may pass (storage, memory) is raised, and the fold run is tried again. A
    full disk is reported as such: no other fold run could be kept either.

    Args:
        workplace: what the study fixes.
        config: `candidate` (id), `fold`, `attempt`, `threads`, `device`; for a family that ran out of memory also
            `micro_batches`, the parts that steps are computed in. With `can_grow` a fold run that runs out of memory
            raises `MemoryError`, to be tried again with a larger share, instead of going on in smaller parts.
        report: takes one dict for each rung, `{"note": text}` for what a person should know, `{"once": text}` for what
            they should know once in a search, and `{"full_disk":
            (errno, what, path)}`; may end the fold run by raising.
        show: takes at each rung the training rows gone through and the seconds that they took.
    """
    try:
        _run_fold(workplace, config, report, show)
    except OSError as error:
        fault = storage_fault(error, FULL_DISK)
        if fault is None:
            raise
        report({"full_disk": (fault.errno, fault.strerror, fault.filename)})
    except MemoryError:
        raise
    except InputError as error:
        report(_failure(str(error)))
    except Exception as error:
        traceback.print_exc()
        report(_failure(f"{type(error).__name__}: {error}"))
    finally:
        clean_up()


def _run_fold(workplace: Workplace, config: dict[str, Any], report: Report, show: Show) -> None:
    from models.training.devices import choose_precision, find_device  # noqa: PLC0415 - imports torch
    from models.training.fold_weights import save_weights  # noqa: PLC0415 - imports torch
    from models.training.train_fold import RungReport  # noqa: PLC0415 - imports torch

    def tell(text: str) -> None:
        report({"note": text})

    identity, fold, attempt = config["candidate"], config["fold"], config["attempt"]
    data = prepared(workplace.data, workplace.split_hash)
    store = OofStore(workplace.run_dir)
    if store.is_finished(identity, fold):
        report(_final(store, data.task.measure, identity, fold, seconds=0.0))
        return
    disk = DiskBudget(workplace.run_dir, workplace.disk_gb, tell)
    candidate = Candidate.model_validate_json(read_bytes(join(workplace.run_dir, "candidates", f"{identity}.json")))

    if candidate.precision == "auto":
        device = find_device(config["device"])
        choice = choose_precision(device)
        report({"once": f"precision auto is {choice.precision} on {device.type}: {choice.reason}"})

    @functools.cache
    def tell_parts(micro_batches: int) -> None:
        if micro_batches > 1:
            tell(f"for want of memory, steps are computed in {micro_batches} micro-batches; batches stay what they are")

    def at_rung(rung: RungReport) -> bool:
        tell_parts(rung.micro_batches)
        show(rung.progress * candidate.epochs * training_rows(data, fold), rung.seconds)
        if rung.progress < FINISHED:
            report(_point(rung.progress, rung.epoch, rung.metric, rung.seconds))
        return True

    result = train(
        workplace,
        config,
        candidate,
        data,
        report=at_rung,
        tell=tell,
        disk=disk,
        micro_batches=config.get("micro_batches", 1),
        keep_weights=workplace.keep_weights,
    )
    assert result is not None, "only a report that returns False ends a fold run early"
    if is_dead(data.task.measure.utility(result.metric), workplace.dead_below):
        report(_point(FINISHED, result.epoch, result.metric, result.seconds))
        return
    provenance = replace(result.provenance, candidate=identity, attempt=attempt)
    if result.weights is not None:
        weights = replace(result.weights, provenance=provenance)
        with disk.room(weights.n_bytes, "the weights") as granted:
            if granted:
                save_weights(weights, weights_folder(workplace.run_dir, identity, fold))
        if granted:
            keep_backbone(candidate.backbone, workplace, disk=disk, tell=tell)
    store.write(provenance, oof=result.oof, test=result.test, holdout=result.holdout)
    report(_final(store, data.task.measure, identity, fold, seconds=result.seconds))


def train(
    workplace: Workplace,
    config: dict[str, Any],
    candidate: Candidate,
    data: Prepared,
    *,
    report: Callable[[Any], bool],
    tell: Callable[[str], None],
    disk: DiskBudget,
    micro_batches: int,
    keep_weights: bool,
) -> Any:
    """Train a fold run as the study fixes it, from its checkpoint if there is one; as `models.training.train_fold`.

    Args:
        workplace: what the study fixes.
        config: as for `run_fold`.
        candidate: that the study tries; a retry is trained with other settings.
        data: the prepared folder.
        report: takes a `RungReport`; False ends the fold run.
        tell: takes what a person should know.
        disk: grants room for checkpoints.
        micro_batches: parts to start with.
        keep_weights: also return the weights.
    """
    from models.training.checkpoint import CheckpointFolder  # noqa: PLC0415 - imports torch
    from models.training.train_fold import train_fold  # noqa: PLC0415 - imports torch

    folder = checkpoint_folder(workplace.run_dir, config["candidate"], config["fold"], config["attempt"])
    return train_fold(
        retried(candidate) if config["attempt"] else candidate,
        data,
        config["fold"],
        rungs=scored_at(workplace.rungs, candidate.epochs, score_epochs=workplace.score_epochs),
        rung_rows=workplace.rung_rows,
        report=report,
        checkpoint=CheckpointFolder(folder, tell=tell, room=partial(disk.room, what="a checkpoint")),
        checkpoint_seconds=workplace.checkpoint_seconds,
        micro_batches=micro_batches,
        keep_weights=keep_weights,
        cache=None,
        backbones=workplace.backbones,
        threads=config["threads"],
        device=config["device"],
        halve=not config.get("can_grow", False),
    )


def keep_backbone(backbone: str, workplace: Workplace, *, disk: DiskBudget, tell: Callable[[str], None]) -> None:
    """Keep, once for all fold runs, what predicting needs of a backbone beside their weights."""
    from models.backbones.kept_backbone import collect_remnant, write_remnant  # noqa: PLC0415 - imports torch

    if backbone_is_kept(workplace.run_dir, backbone):
        return
    try:
        files = collect_remnant(backbone, backbones=workplace.backbones)
    except InputError as error:
        tell(f"{error}: this run cannot be bundled with it")
        return
    with disk.room(sum(map(len, files.values())), "the embeddings of a backbone") as granted:
        if granted:
            write_remnant(files, backbone_folder(workplace.run_dir, backbone))


def retried(candidate: Candidate) -> Candidate:
    """Return how a dead fold run is tried again: another seed, lower learning rates."""
    return candidate.model_copy(
        update={
            "seed": candidate.seed + RETRY_SEED,
            "backbone_lr": candidate.backbone_lr * RETRY_RATE,
            "head_lr": candidate.head_lr * RETRY_RATE,
        }
    )


def _point(progress: float, epoch: float, metric: float, seconds: float) -> dict[str, Any]:
    return {"progress": progress, "epoch": epoch, "metric": metric, "seconds": seconds, "failure": ""}


def _failure(text: str) -> dict[str, Any]:
    return {**_point(0.0, 0.0, float("nan"), 0.0), "failure": text}


def _final(store: OofStore, metric: Metric, candidate: str, fold: int, *, seconds: float) -> dict[str, Any]:
    """Return the last report of a fold run: it is finished because its table is there, whoever wrote it."""
    table = store.read("oof", candidate, fold)
    value = metric(table["score"].to_numpy(), table["prediction"].to_numpy())
    return _point(FINISHED, Provenance.of(table).epoch, value, seconds)


def training_rows(data: Prepared, fold: int) -> int:
    """Return how many rows a fold run trains on: those of all folds but its own."""
    folds = data.train["fold"].to_numpy()
    return int(((folds >= 0) & (folds != fold)).sum())


@functools.lru_cache(maxsize=1)
def prepared(folder: str, split_hash: str) -> Prepared:
    """Load a prepared folder, once for all fold runs of a worker.

    Raises:
        InputError: it is not that of the study any more.
    """
    data = load_prepared(folder)
    if data.manifest.split_hash != split_hash:
        raise InputError(f"{folder}: was prepared again with another split while the study runs; restore it")
    return data


def clean_up() -> None:
    """Leave the worker process as it was found: the next fold run may get it."""
    import torch  # noqa: PLC0415 - workers only

    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)  # each fold run has a thread, so a heap, of its own: give back what is free
    if torch.cuda.is_available():
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()
