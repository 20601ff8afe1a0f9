"""`train_fold`: one candidate trained on all folds but one, with reports at rungs and exact resume."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_prep.errors import InputError
from data_prep.prepared import Prepared
from data_prep.store.oof_store import Provenance
from data_prep.store.tables import OOF_SCHEMA, TEST_SCHEMA
from models.backbones.checkpoint_files import load_tokenizer
from models.candidate import Candidate
from models.text.batches import Batch, training_batches
from models.text.row_pools import FoldPools, RowPool, load_fold_pools
from models.training.checkpoint import CheckpointFolder, State, random_state, restore_random_state
from models.training.devices import find_device, make_repeatable
from models.training.fold_weights import FoldWeights
from models.training.learner import Learner, new_learner
from models.training.optimizer import rate_share
from models.training.predict_rows import predict_rows
from models.training.rung_steps import BestRung, first_step, rung_sample
from models.training.sigterm import Terminated, training

SAVE_SHARE = 0.1
"""Share of the time that checkpoints between rungs may take."""


@dataclass(frozen=True)
class RungReport:
    """What a fold run tells at a rung."""

    progress: float
    """The rung: share of the schedule done, in (0, 1]."""
    epoch: float
    """Epochs trained."""
    metric: float
    """The task's metric on the validation rows scored; NaN where it is undefined, where all predictions are the same,
    and where the training loss has diverged since the last rung (see `models.training.divergence`)."""
    seconds: float
    """Time spent on this fold run, resumed parts included."""
    rows: int
    """Validation rows scored: a sample on early rungs if asked for, at 1.0 the whole fold."""
    micro_batches: int = 1
    """Parts, for want of memory, that a step is computed in, times the candidate's `accumulation`."""


@dataclass(frozen=True)
class FoldPredictions:
    """What a finished fold run leaves."""

    candidate: Candidate
    fold: int
    oof: pa.Table
    """`OOF_SCHEMA`: the fold's rows in prepared order."""
    test: pa.Table
    """`TEST_SCHEMA`: all test rows in prepared order."""
    holdout: pa.Table | None
    """`OOF_SCHEMA`: the holdout rows in prepared order; None where the split has none."""
    metric: float
    """The task's metric on the whole fold; NaN as in `RungReport`."""
    epoch: float
    """Epochs trained when the weights that predict were reached."""
    seconds: float
    provenance: Provenance
    weights: FoldWeights | None
    """What predicts, where it was asked for."""


def always_go_on(report: RungReport) -> bool:  # noqa: ARG001 - a report callback
    """Go on, whatever the report says."""
    return True


def train_fold(
    candidate: Candidate,
    data: Prepared,
    fold: int,
    *,
    rungs: Sequence[float] = (1.0,),
    rung_rows: int | None = None,
    report: Callable[[RungReport], bool] = always_go_on,
    checkpoint: CheckpointFolder | None = None,
    checkpoint_seconds: float = 60.0,
    micro_batches: int = 1,
    halve: bool = True,
    keep_weights: bool = False,
    cache: Path | None = None,
    backbones: str | None = None,
    threads: int = 1,
    device: str = "auto",
) -> FoldPredictions | None:
    """Train `candidate` on every fold but `fold` and predict that fold, the test rows and the holdout.

    The same arguments give the same bytes, interrupted and resumed or not, as long as memory suffices: where it does
    not, what follows is computed in smaller parts (see `Learner`), whose sums and dropout masks are others.

    A process that gets SIGTERM keeps its state at the end of the step under way and leaves (see `sigterm`).

    Args:
        candidate: what to train.
        data: the prepared folder.
        fold: the validation fold.
        rungs: shares of the schedule at which to report, in (0, 1]; 1.0 is always one.
        rung_rows: validation rows measured before 1.0, the same for every candidate; None measures all.
        report: called at each rung, once even if the run is interrupted; False stops the run.
        checkpoint: where to keep the state, and to resume from if there is one.
        checkpoint_seconds: time between checkpoints, longer where they would take more than `SAVE_SHARE` of it; 0: one
            after each step. One more is kept at each rung, before its report.
        micro_batches: parts, for want of memory, to start with. A resumed run starts with those it had come to, times
            the factor by which this is more than what its last try was given.
        halve: go on in smaller parts where memory does not suffice; else raise, since there is more to be had.
        keep_weights: also return the weights that predict.
        cache: folder of the token cache; None for the default.
        backbones: folder where hub names are looked up first.
        threads: CPU threads.
        device: `auto`, or a torch device.

    Returns:
        The predictions; None when `report` stopped the run.

    Raises:
        InputError: no such fold, rung, backbone or device, a checkpoint of another run, or memory does not suffice for
            a single text.
        MemoryError: memory does not suffice, and `halve` is False.
        Terminated: the process was told to end.
    """
    if not 0 <= fold < data.manifest.n_folds:
        raise InputError(f"fold must be 0 to {data.manifest.n_folds - 1} for {data.path}, got {fold}")
    if wrong := [rung for rung in rungs if not 0 < rung <= 1]:
        raise InputError(f"rungs are shares of the schedule in (0, 1], got {wrong}")
    chosen = find_device(device)
    make_repeatable(candidate.seed, device=chosen, threads=threads)
    pools = load_fold_pools(
        data,
        fold,
        candidate=candidate,
        tokenizer=load_tokenizer(candidate.backbone, backbones),
        cache=cache,
    )
    learner = new_learner(
        candidate,
        data.task,
        vocabulary=pools.vocabulary,
        n_tokens=pools.n_tokens,
        backbones=backbones,
        device=chosen,
    )
    learner.halves = halve
    run = _FoldRun(
        candidate,
        data,
        fold,
        pools=pools,
        learner=learner,
        rungs=sorted({*rungs, 1.0}),
        rung_rows=rung_rows,
        report=report,
        checkpoint=checkpoint,
        checkpoint_seconds=checkpoint_seconds,
        micro_batches=micro_batches,
        keep_weights=keep_weights,
    )
    with training() as told_to_end:
        run.told_to_end = told_to_end
        return run.finish() if run.train() else None


class _FoldRun:
    """A fold run under way: position, reports, checkpoints."""

    def __init__(
        self,
        candidate: Candidate,
        data: Prepared,
        fold: int,
        *,
        pools: FoldPools,
        learner: Learner,
        rungs: list[float],
        rung_rows: int | None,
        report: Callable[[RungReport], bool],
        checkpoint: CheckpointFolder | None,
        checkpoint_seconds: float,
        micro_batches: int,
        keep_weights: bool,
    ) -> None:
        self.candidate, self.data, self.fold = candidate, data, fold
        self.pools, self.learner = pools, learner
        self.rungs = rungs
        self.sample = rung_sample(len(pools.validation), rung_rows)
        self.report = report
        self.checkpoint, self.checkpoint_seconds = checkpoint, checkpoint_seconds
        first_epoch = pools.train.encode(0)
        self.texts_per_step = first_epoch.texts_per_batch(candidate.batch_size)
        self.steps_per_epoch = math.ceil(len(first_epoch) / self.texts_per_step)
        self.total = self.steps_per_epoch * candidate.epochs
        self.step = 0
        self.reports: list[RungReport] = []
        self.best: BestRung | None = None
        self.delivered = checkpoint.delivered if checkpoint else 0
        self.seconds_before = 0.0
        self.started = self.saved = time.monotonic()
        self.pause = checkpoint_seconds
        self.keep_weights = keep_weights
        self.micro_batches = learner.micro_batches = micro_batches
        self.told_to_end: Callable[[], bool] = bool
        self._resume()

    @property
    def epoch(self) -> float:
        """Epochs trained."""
        return self.step / self.steps_per_epoch

    @property
    def seconds(self) -> float:
        """Time spent, earlier parts included."""
        return self.seconds_before + time.monotonic() - self.started

    def train(self) -> bool:
        """Take the steps that are left; False when a report stops the run."""
        if not self._deliver():
            return False
        for batch in self._batches():
            share = rate_share(
                self.step, total=self.total, warmup=self.candidate.warmup, schedule=self.candidate.schedule
            )
            self.learner.step(batch, share, epoch=self.epoch)
            self.step += 1
            if not self._pass_rungs():
                return False
            if self.told_to_end():
                self._save()
                raise Terminated
            if time.monotonic() - self.saved >= self.pause:
                self._save()
        return True

    def finish(self) -> FoldPredictions | None:
        """Report the whole fold and return its predictions; None when the report stops the run."""
        prediction = self._predict(self.pools.validation)
        epoch = self.epoch
        dead = self.learner.losses.diverged()
        if self.candidate.keep == "best":
            self._keep_best(self._measure(prediction[self.sample], self.sample, dead=dead))
            assert self.best is not None
            self.learner.adopt(self.best.weights)
            prediction = self._predict(self.pools.validation)
            epoch = self.best.epoch
            dead = math.isnan(self.best.utility)
        metric = self._measure(prediction, dead=dead)
        if len(self.reports) < len(self.rungs):
            self._add_report(1.0, metric, len(prediction))
        if not self._deliver():
            return None
        return self._predictions(prediction, metric, epoch)

    def _batches(self) -> Iterator[Batch]:
        """Yield the training batches from the current step on."""
        first_epoch, first = divmod(self.step, self.steps_per_epoch)
        for epoch in range(first_epoch, self.candidate.epochs):
            encoded = self.pools.train.encode(epoch)
            plan = training_batches(
                encoded.lengths,
                self.texts_per_step,
                seed=self.candidate.seed,
                epoch=epoch,
                groups=encoded.text_groups if self.learner.loss.within_groups else None,
            )
            for texts in plan[first if epoch == first_epoch else 0 :]:
                yield encoded.batch(texts)

    def _pass_rungs(self) -> bool:
        """Report every rung before 1.0 that the last step has reached; False when a report stops the run."""
        while (rung := self.rungs[len(self.reports)]) < 1.0 and self.step >= first_step(rung, self.total):
            prediction = self._predict(self.pools.validation, self.sample)
            metric = self._measure(prediction, self.sample, dead=self.learner.losses.diverged())
            if self.candidate.keep == "best":
                self._keep_best(metric)
            self._add_report(rung, metric, len(self.sample))
            if not self._deliver():
                return False
        return True

    def _predict(self, pool: RowPool, rows: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        return predict_rows(self.learner, pool, orders=self.candidate.prediction_shuffles, rows=rows)

    def _measure(
        self, prediction: NDArray[np.float32], rows: NDArray[np.int64] | None = None, *, dead: bool = False
    ) -> float:
        """Return the metric of predictions for some rows of the fold; NaN where they tell nothing, or on demand."""
        targets = self.pools.validation.targets
        assert targets is not None
        if dead or not np.isfinite(prediction).all() or prediction.min() == prediction.max():
            return math.nan
        return self.data.task.measure(targets if rows is None else targets[rows], prediction)

    def _keep_best(self, metric: float) -> None:
        utility = self.data.task.measure.utility(metric)
        if self.best is None or math.isnan(self.best.utility) or utility > self.best.utility:
            self.best = BestRung(utility, self.epoch, self.learner.weights())

    def _add_report(self, rung: float, metric: float, rows: int) -> None:
        self.reports.append(RungReport(rung, self.epoch, metric, self.seconds, rows, self.learner.micro_batches))
        self._save()

    def _deliver(self) -> bool:
        """Pass on the reports that have not been passed on yet; False when one of them stops the run."""
        while self.delivered < len(self.reports):
            self._leave_if_told()  # whoever takes reports may wait for this thread to end
            go_on = self.report(self.reports[self.delivered])
            self.delivered += 1
            if self.checkpoint:
                self.checkpoint.delivered = self.delivered
            if not go_on:
                return False
        return True

    def _leave_if_told(self) -> None:
        """Leave where the checkpoint, kept with the last report, already holds all that was trained."""
        if self.told_to_end():
            raise Terminated

    def _identity(self) -> State:
        """Return what a checkpoint must agree with to be continued."""
        return {
            "candidate": self.candidate.id,
            "fold": self.fold,
            "data_hash": self.data.manifest.data_hash,
            "split_hash": self.data.manifest.split_hash,
            "rungs": self.rungs,
            "sample": len(self.sample),
        }

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        begun = time.monotonic()
        self.checkpoint.save(
            {
                "identity": self._identity(),
                "learner": self.learner.state(),
                "micro_batches": self.micro_batches,
                "random": random_state(),
                "step": self.step,
                "seconds": self.seconds,
                "reports": [asdict(report) for report in self.reports],
                "best": None if self.best is None else vars(self.best),
            }
        )
        self.saved = time.monotonic()
        if self.checkpoint_seconds:
            self.pause = max(self.checkpoint_seconds, (self.saved - begun) / SAVE_SHARE)

    def _resume(self) -> None:
        state = self.checkpoint.load(self._identity()) if self.checkpoint else None
        if state is None:
            return
        self.learner.load_state(state["learner"])
        self.learner.micro_batches *= max(1, self.micro_batches // state["micro_batches"])
        restore_random_state(state["random"])
        self.step = state["step"]
        self.seconds_before = state["seconds"]
        self.reports = [RungReport(**report) for report in state["reports"]]
        self.best = None if state["best"] is None else BestRung(**state["best"])

    def _predictions(self, prediction: NDArray[np.float32], metric: float, epoch: float) -> FoldPredictions:
        holdout = self.pools.holdout
        self._leave_if_told()
        test = self._table(self.pools.test, self._predict(self.pools.test), TEST_SCHEMA)
        held_out = holdout and self._table(holdout, self._predict(holdout), OOF_SCHEMA)
        provenance = Provenance(
            candidate=self.candidate.id,
            fold=self.fold,
            data_hash=self.data.manifest.data_hash,
            split_hash=self.data.manifest.split_hash,
            seed=self.candidate.seed,
            epoch=epoch,
            micro_batches=self.learner.micro_batches,
        )
        return FoldPredictions(
            candidate=self.candidate,
            fold=self.fold,
            oof=self._table(self.pools.validation, prediction, OOF_SCHEMA),
            test=test,
            holdout=held_out,
            metric=metric,
            epoch=epoch,
            seconds=self.seconds,
            provenance=provenance,
            weights=self._weights(provenance) if self.keep_weights else None,
        )

    def _weights(self, provenance: Provenance) -> FoldWeights:
        return FoldWeights(self.candidate, provenance, self.learner.token_ids(), self.learner.weights())

    def _table(self, rows: RowPool, prediction: NDArray[np.float32], schema: pa.Schema) -> pa.Table:
        columns = {
            "id": rows.table["id"],
            "fold": np.full(len(prediction), self.fold, dtype=np.int8),
            "prediction": prediction,
        }
        if "score" in schema.names:
            columns["score"] = rows.table["score"]
        return pa.table({name: columns[name] for name in schema.names}, schema=schema)
