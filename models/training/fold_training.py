"""`FoldTraining`: a fold run under way, step by step, rung by rung, resumed where it was interrupted."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from data_prep.prepared import PreparedManifest
from models.backbones.trial_pass import broken_weights
from models.candidate import Candidate
from models.text.fold_pools import FoldPools
from models.training.batch_schedule import BatchSchedule
from models.training.checkpoint import CheckpointFolder, State
from models.training.checkpoint_timer import CheckpointTimer
from models.training.fold_options import FoldOptions
from models.training.fold_predictions import FoldPredictions, FoldPredictor, describe_fault
from models.training.learner import Learner
from models.training.optimizer import rate_share
from models.training.random_streams import random_state, restore_random_state
from models.training.rung_reports import Report, RungReport, RungReports
from models.training.rung_steps import first_step, rung_sample
from models.training.sigterm import Terminated


@dataclass(frozen=True)
class BestRung:
    """The rung with the best metric so far, for candidates that keep its weights."""

    utility: float
    epoch: float
    weights: dict[str, torch.Tensor]


class FoldTraining:
    """A fold run under way: its position, its reports and its checkpoints; arguments as for `train_fold`."""

    def __init__(
        self,
        candidate: Candidate,
        manifest: PreparedManifest,
        fold: int,
        *,
        pools: FoldPools,
        learner: Learner,
        options: FoldOptions,
        report: Report,
        checkpoint: CheckpointFolder | None,
        told_to_end: Callable[[], bool],
    ) -> None:
        self.candidate, self.manifest, self.fold = candidate, manifest, fold
        self.learner, self.options = learner, options
        self.checkpoint, self.timer = checkpoint, CheckpointTimer(options.checkpoint_seconds)
        self.told_to_end = told_to_end
        self.metric = manifest.task.search_measure
        self.predictor = FoldPredictor(learner, pools, candidate, manifest, fold)
        self.rungs = sorted({*options.rungs, 1.0})
        self.sample = rung_sample(len(pools.validation), options.rung_rows)
        self.schedule = BatchSchedule(pools.train, candidate, within_groups=learner.gradients.loss.within_groups)
        self.reports = RungReports(report, checkpoint)
        self.best: BestRung | None = None
        self.step = 0
        self.started = time.monotonic()
        learner.retry.halve, learner.retry.micro_batches = options.halve, options.micro_batches
        self._resume()

    @property
    def epoch(self) -> float:
        """Epochs trained."""
        return self.schedule.epoch(self.step)

    @property
    def seconds(self) -> float:
        """Time spent, earlier parts included."""
        return time.monotonic() - self.started

    def train(self) -> bool:
        """Take the steps that are left; False when a report stops the run."""
        if not self._deliver():
            return False
        warmup, schedule = self.candidate.warmup, self.candidate.schedule
        for batch in self.schedule.batches(self.step):
            share = rate_share(self.step, total=self.schedule.n_steps, warmup=warmup, schedule=schedule)
            self.learner.step(batch, share, epoch=self.epoch)
            self.step += 1
            if not self._pass_rungs():
                return False
            if self.told_to_end():
                self._save()
                raise Terminated
            if self.timer.due:
                self._save()
        return True

    def _pass_rungs(self) -> bool:
        """Report every rung before 1.0 that the last step has reached; False when a report stops the run."""
        while (rung := self.rungs[len(self.reports.made)]) < 1.0 and self.step >= first_step(
            rung, self.schedule.n_steps
        ):
            prediction = self.predictor.predict_validation(self.sample)
            diverged = self.learner.losses.diverged()
            metric = math.nan if diverged else self.predictor.measure_validation(prediction, self.sample)
            if self.candidate.keep == "best":
                self._keep_best(metric)
            self._add_report(rung, metric, prediction, diverged=diverged)
            if not self._deliver():
                return False
        return True

    def finish(self) -> FoldPredictions | None:
        """Report the whole fold and return its predictions; None when the report stops the run."""
        prediction, epoch = self.predictor.predict_validation(), self.epoch
        diverged = self.learner.losses.diverged()
        if self.candidate.keep == "best":
            sampled = math.nan if diverged else self.predictor.measure_validation(prediction[self.sample], self.sample)
            best = self._keep_best(sampled)
            self.learner.adopt(best.weights)
            prediction, epoch, diverged = self.predictor.predict_validation(), best.epoch, math.isnan(best.utility)
        if not self.learner.gradients.loss.sees_level:
            self.predictor.anchor_outputs()
            prediction = self.predictor.predict_validation()
        metric = math.nan if diverged else self.predictor.measure_validation(prediction)
        if len(self.reports.made) < len(self.rungs):
            self._add_report(1.0, metric, prediction, diverged=diverged)
        if not self._deliver():
            return None
        self._leave_if_told()
        return self.predictor.predict_rest(
            prediction,
            metric=metric,
            epoch=epoch,
            seconds=lambda: self.seconds,
            keep_weights=self.options.keep_weights,
        )

    def _keep_best(self, metric: float) -> BestRung:
        """Keep the weights as they are if they are the best so far; return the best."""
        utility = self.metric.utility(metric)
        if self.best is None or math.isnan(self.best.utility) or utility > self.best.utility:
            self.best = BestRung(utility, self.epoch, self.learner.weights())
        return self.best

    def _add_report(self, rung: float, metric: float, prediction: NDArray[np.float32], *, diverged: bool) -> None:
        fault = ""
        if math.isnan(metric):
            fault = describe_fault(prediction, broken=broken_weights(self.learner.scorer), diverged=diverged)
        micro_batches, rows = self.learner.retry.micro_batches, len(prediction)
        self.reports.made.append(RungReport(rung, self.epoch, metric, self.seconds, rows, micro_batches, fault))
        self._save()

    def _deliver(self) -> bool:
        return self.reports.deliver(before_each=self._leave_if_told)  # a report may wait for this thread to end

    def _leave_if_told(self) -> None:
        """Leave where the checkpoint, saved with the last report, already holds all that was trained."""
        if self.told_to_end():
            raise Terminated

    def _identity(self) -> State:
        """Return what a checkpoint must agree with to be resumed from."""
        return {
            "candidate": self.candidate.id,
            "fold": self.fold,
            "data_hash": self.manifest.data_hash,
            "split_hash": self.manifest.split_hash,
            "rungs": self.rungs,
            "sample": len(self.sample),
            **({} if self.learner.gradients.loss.sees_level else {"anchored": True}),
        }

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        with self.timer.saving():
            self.checkpoint.save(
                {
                    "identity": self._identity(),
                    "learner": self.learner.state(),
                    "micro_batches": self.options.micro_batches,
                    "random": random_state(),
                    "step": self.step,
                    "seconds": self.seconds,
                    "reports": [asdict(report) for report in self.reports.made],
                    "best": None if self.best is None else vars(self.best),
                }
            )

    def _resume(self) -> None:
        state = self.checkpoint.load(self._identity()) if self.checkpoint else None
        if state is None:
            return
        self.learner.load_state(state["learner"])
        self.learner.retry.micro_batches *= max(1, self.options.micro_batches // state["micro_batches"])
        restore_random_state(state["random"])
        self.step = state["step"]
        self.started -= state["seconds"]
        self.reports.made = [RungReport(**report) for report in state["reports"]]
        self.best = None if state["best"] is None else BestRung(**state["best"])
