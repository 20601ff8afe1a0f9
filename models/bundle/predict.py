"""Predictions of a bundle for new rows: one model after the other, in the memory of one."""

import gc
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_prep.bundle_manifest import BundledMember
from data_prep.scoring.combination import Combination, Floats
from data_prep.target_views import joined, parted, target_views
from models.bundle.read_bundle import Bundle
from models.candidate import Candidate
from models.text.fold_pools import load_pool
from models.text.row_pool import RowPool
from models.training.fold_weights import load_scorer
from models.training.learner import Learner

SAMPLE_ROWS = 256
"""Rows that the first model predicts to find how long all will take."""
WARM_UP_ROWS = 16


@dataclass(frozen=True)
class ModelJob:
    """What one model has to do."""

    member: BundledMember
    place: int
    """Number of the fold among the member's."""
    work: float
    """Weights that are multiplied, times tokens."""

    @property
    def fold(self) -> int:
        """The fold that the model did not see."""
        return self.member.folds[self.place]


@dataclass(frozen=True)
class PredictionWatcher:
    """Callbacks that follow the predicting."""

    begin: Callable[[float, float], None]
    """Takes, when the first model is ready, the work of all models and the seconds it may take."""
    start: Callable[[ModelJob], None]
    """Takes each model's job before it predicts."""
    finish: Callable[[ModelJob], None]
    """Takes it when it has."""


def go_offline() -> None:
    """Let no library ask the network from now on; everything is in the bundle."""
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        os.environ[variable] = "1"
    huggingface_hub.constants.HF_HUB_OFFLINE = True  # was read when it was imported


def predict_bundle(bundle: Bundle, table: pa.Table, *, device: str, threads: int, watcher: PredictionWatcher) -> Floats:
    """Return the blend's prediction [rows], or [rows, numbers] of several targets or classes, not clipped.

    The table has id, text columns, and context_text where there are CPC codes; each row's siblings come from it. There
    is one model in memory at a time, and one sum; phrases are tokenized once.

    Raises:
        InputError: no such device, or memory does not suffice for a single text.
    """
    with tempfile.TemporaryDirectory() as cache:
        runner = _JobRunner(bundle, table, Path(cache), device=device, threads=threads)
        jobs = runner.jobs()
        total = sum(job.work for job in jobs)
        views = target_views(bundle.task)
        weighted = [np.zeros(table.num_rows * view.cells) for view in views]
        for number, job in enumerate(jobs):
            watcher.start(job)
            prediction = runner.run(job, first=None if number else lambda rate: watcher.begin(total, total / rate))
            for place, (view, part) in enumerate(zip(views, parted(prediction, views), strict=True)):
                weighted[place] += _contribution(job, part, bundle.contents.by_target[view.name])
            gc.collect()  # a model that holds itself would stay beside the next
            watcher.finish(job)
    sums = zip(views, weighted, strict=True)
    return joined([bundle.contents.by_target[view.name].finish(total) for view, total in sums], views)


def _contribution(job: ModelJob, prediction: NDArray[np.float32], combination: Combination) -> Floats:
    """Return what a model's prediction [rows] of a view adds to the weighted sum of its combination."""
    own = [part for part in combination.parts if part.candidate == job.member.candidate]
    shares = [part.weight * part.scaled(job.place, prediction) / len(job.member.folds) for part in own]
    return shares[0] if shares else np.zeros(len(prediction))


class _JobRunner:
    """Runs the jobs of a bundle's models, one after the other."""

    def __init__(self, bundle: Bundle, table: pa.Table, cache: Path, *, device: str, threads: int) -> None:
        self._bundle, self._table, self._cache = bundle, table, cache
        self._device, self._threads = device, threads
        self._rows: tuple[tuple[str, Candidate], RowPool] | None = None

    def jobs(self) -> list[ModelJob]:
        """Return the jobs, those of a candidate one after the other."""
        jobs = []
        for member in self._bundle.contents.members:
            candidate = self._bundle.candidates[member.candidate]
            n_tokens = len(self._encodable(member, candidate).encode(0).ids) * candidate.prediction_shuffles
            jobs += [
                ModelJob(member, place, float(n_tokens * self._bundle.n_multiplied(member, fold)))
                for place, fold in enumerate(member.folds)
            ]
        return jobs

    def run(self, job: ModelJob, *, first: Callable[[float], None] | None) -> NDArray[np.float32]:
        """Return a model's predictions [rows] or [rows, numbers]; `first` takes the rate (work per second) first."""
        weights = self._bundle.weights(job.member, job.fold)
        rows = self._encodable(job.member, weights.candidate)
        learner = load_scorer(
            weights,
            self._bundle.task,
            vocabulary=rows.vocabulary,
            backbone=self._bundle.backbone(job.member),
            device=self._device,
            threads=self._threads,
        )
        del weights
        if first is not None:
            first(_rate(learner, rows, self._bundle.n_multiplied(job.member, job.fold)))
        return learner.predict_pool(rows)

    def _encodable(self, member: BundledMember, candidate: Candidate) -> RowPool:
        """Return the rows with a candidate's texts; the last ones are kept."""
        if self._rows is None or self._rows[0] != (member.backbone, candidate):
            self._rows = None
            rows = load_pool(
                self._table,
                self._bundle,
                candidate=candidate,
                tokenizer=self._bundle.backbone(member).tokenizer,
                cache=self._cache,
            )
            self._rows = ((member.backbone, candidate), rows)
        return self._rows[1]


def _rate(learner: Learner, rows: RowPool, n_multiplied: int) -> float:
    """Return how much work (weights times tokens) a learner does in a second, by a sample of the rows."""
    encoded = rows.encode(0)
    sample = np.unique(np.linspace(0, len(rows) - 1, SAMPLE_ROWS).astype(np.int64))
    learner.predict(encoded, sample[:WARM_UP_ROWS])
    begun = time.perf_counter()
    learner.predict(encoded, sample)
    seconds = time.perf_counter() - begun
    return float(n_multiplied * encoded.lengths[encoded.texts_of(sample)].sum() / seconds)
