"""One fold run trained again for the weights that were not kept, and compared with the tables it left."""

import math
import time
import traceback
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from data_prep.console import print_line
from data_prep.errors import STORAGE_FAULTS, InputError, storage_fault
from data_prep.store.files import remove_folder
from data_prep.store.oof_store import OofStore, Provenance
from data_prep.store.weight_folders import weights_folder
from data_prep.targets.target_columns import numbers_of
from search.run_dir.disk_budget import DiskBudget
from search.worker.fold_run import enter_home, load_prepared_once, release_memory, train
from search.worker.messages import FoldRunOrder, FoldRunSettings

TOLERANCE = 1e-3
"""Difference between predictions, before and now, up to which the weights count as those that were lost."""


@dataclass(frozen=True)
class Refitted:
    """How a fold run that was trained again came out."""

    difference: float
    """The largest difference between its predictions, out-of-fold or test, and those in the tables."""
    seconds: float
    failure: str = ""
    messages: tuple[str, ...] = ()


def refit_fold(settings: FoldRunSettings, order: FoldRunOrder, origin: Provenance, *, force: bool) -> Refitted:
    """Train a fold run again; keep its weights if it matches its tables of provenance `origin`, or with `force`."""
    messages: list[str] = []
    enter_home(settings)
    try:
        return _refit(settings, order, origin, force=force, messages=messages)
    except InputError as error:
        return Refitted(math.nan, 0.0, str(error), tuple(messages))
    except OSError as error:
        fault = storage_fault(error, STORAGE_FAULTS)
        if fault is None:
            raise
        return Refitted(math.nan, 0.0, f"{fault.filename}: {fault.strerror}; free space there", tuple(messages))
    except MemoryError:
        raise
    except Exception as error:
        print_line(traceback.format_exc())
        return Refitted(math.nan, 0.0, f"{type(error).__name__}: {error}", tuple(messages))
    finally:
        release_memory()


def _refit(
    settings: FoldRunSettings, order: FoldRunOrder, origin: Provenance, *, force: bool, messages: list[str]
) -> Refitted:
    from models.backbones.locate_backbone import locate_backbone  # noqa: PLC0415 - imports torch
    from models.training.fold_weights import save_weights  # noqa: PLC0415 - as above

    begun = time.monotonic()
    found = train(
        replace(settings, keep_weights=True),
        order,
        load_prepared_once(settings.data, settings.split_hash),
        locate_backbone(order.assignment.candidate.backbone, settings.backbones),
        on_rung=lambda _: True,
        send_message=messages.append,
        disk=DiskBudget(settings.run_dir, None, messages.append),
    )
    if math.isnan(found.metric):
        return Refitted(
            math.nan,
            time.monotonic() - begun,
            "it failed to learn this time: predictions are NaN or constant",
            tuple(messages),
        )
    store = OofStore(settings.run_dir)
    kinds = ("oof",) if found.test is None else ("oof", "test")
    difference = max(_difference(store, kind, origin, getattr(found, kind)) for kind in kinds)
    seconds = time.monotonic() - begun
    if not (difference <= TOLERANCE or force):
        failure = (
            f"its predictions differ from its tables by up to {difference:.2g} ({TOLERANCE:g} is tolerated): the "
            f"device, the backbone or a version has changed since then. Train it where it was trained, or give --force "
            f"to keep these weights; a bundle of them will not reproduce the blend's own submission"
        )
        return Refitted(difference, seconds, failure, tuple(messages))
    assert found.weights is not None
    provenance = replace(found.provenance, candidate=origin.candidate, attempt=origin.attempt)
    weights = replace(found.weights, provenance=provenance)
    save_weights(weights, weights_folder(settings.run_dir, origin.candidate, origin.fold))
    remove_folder(order.assignment.checkpoint_folder(settings.run_dir))
    return Refitted(difference, seconds, messages=tuple(messages))


def _difference(store: OofStore, kind: str, origin: Provenance, table: Any) -> float:
    """Return the largest difference between predictions and those of a stored table."""
    stored = store.read(kind, origin.candidate, origin.fold)
    if stored["id"].to_pylist() != table["id"].to_pylist():
        raise InputError(f"{store.path(kind, origin.candidate, origin.fold)}: has other rows than the prepared folder")
    before, now = (numbers_of(each, "prediction").astype(np.float64) for each in (stored, table))
    return float(np.abs(before - now).max(initial=0.0))
