"""`Learner`: a scorer with what trains it, one step or one prediction at a time."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.candidate import Candidate
from models.parts.output_anchor import OutputAnchor
from models.parts.weight_average import WeightAverage
from models.text.batches import Batch, Encoded, prediction_batches
from models.text.row_pool import RowPool
from models.training.checkpoint import State
from models.training.divergence import LossHistory
from models.training.gradients import StepGradients
from models.training.optimizer import ParameterGroup, new_optimizer, trained_parameters
from models.training.out_of_memory import MemoryRetry

PREDICTION_BATCH = 256
"""Rows, or windows of rows, that are predicted at once."""


class Learner:
    """A scorer in training.

    A step or a prediction that runs out of memory is done again in twice as many parts (see `MemoryRetry`); a step
    still follows the gradients of its whole batch. Both raise `InputError` where a single text does not fit. Where
    there is an `average`, it predicts in place of the weights.
    """

    def __init__(self, gradients: StepGradients, groups: Sequence[ParameterGroup], candidate: Candidate) -> None:
        self.gradients = gradients
        self.scorer = gradients.scorer
        self.trained = trained_parameters(groups)
        self.optimizer = new_optimizer(groups, beta2=candidate.beta2)
        self.clip_norm = candidate.clip_norm
        self.average = None if candidate.ema is None else WeightAverage(self.trained, candidate.ema)
        self.anchor: OutputAnchor | None = None
        """Set in the end, for a loss that does not see the outputs' level; no part of `state`."""
        self.orders = candidate.prediction_shuffles
        self.losses = LossHistory()
        self.retry = MemoryRetry(forget=partial(self.scorer.zero_grad, set_to_none=True))

    def step(self, batch: Batch, rate_share: float, *, epoch: float = 0.0) -> None:
        """Take one optimizer step on `batch` at `rate_share` of the peak rates, `epoch` epochs after the start."""
        self.scorer.train()
        compute = partial(self.gradients.compute, batch, epoch)
        n_parts = self.gradients.accumulation
        self.losses.add(self.retry.retry_smaller(compute, n_texts=batch.n_texts, n_parts=n_parts))
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * rate_share
        loss_scaler = self.gradients.loss_scaler
        if self.clip_norm is not None:
            loss_scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.trained, self.clip_norm)
        loss_scaler.step(self.optimizer)
        loss_scaler.update()
        self.scorer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update()

    def predict_pool(self, pool: RowPool, rows: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Return the mean prediction over all orders of the siblings, for some rows (None: all), as `predict` does."""
        predictions = np.stack([self.predict(pool.encode(order), rows) for order in range(self.orders)])
        mean: NDArray[np.float32] = predictions.mean(axis=0, dtype=np.float64).astype(np.float32)
        return mean

    def predict(self, encoded: Encoded, rows: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Return predictions, float32 [rows] or [rows, numbers], for some rows in the order given (None: all)."""
        chosen = np.arange(encoded.n_rows) if rows is None else rows
        self.scorer.eval()
        n_texts = encoded.texts_at_once(PREDICTION_BATCH)
        return self.retry.retry_smaller(partial(self._predict, encoded, chosen, n_texts), n_texts=n_texts)

    def _predict(
        self, encoded: Encoded, chosen: NDArray[np.int64], n_texts: int, micro_batches: int
    ) -> NDArray[np.float32]:
        texts = encoded.texts_of(chosen)
        loss = self.gradients.loss
        names = loss.task.target.names
        predictions = np.full((encoded.n_rows, len(names)) if names else encoded.n_rows, np.nan, dtype=np.float32)
        with self._predicting(), torch.inference_mode():
            for places in prediction_batches(encoded.lengths[texts], max(1, n_texts // micro_batches)):
                batch = encoded.batch(texts[places]).to(self.gradients.device)
                predictions[batch.rows] = loss.to_predictions(self.gradients.outputs(batch)).cpu().numpy()
        return predictions[chosen]

    def token_ids(self) -> NDArray[np.int64]:
        """Return the token ids that the embedding has rows for, in the order of the rows."""
        encoder: Any = self.scorer.backbone.model
        return np.flatnonzero(encoder.get_input_embeddings().place.cpu().numpy() >= 0)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return a copy of the weights that predict, on the CPU."""
        with self._predicting():
            return {name: value.detach().to("cpu", copy=True) for name, value in self.scorer.state_dict().items()}

    def adopt(self, weights: dict[str, torch.Tensor]) -> None:
        """Predict with `weights` from now on; training is over."""
        self.scorer.load_state_dict(weights)
        self.average = self.anchor = None

    def state(self) -> State:
        """Return everything that the next step depends on, random streams apart."""
        return {
            "scorer": self.scorer.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "loss_scaler": self.gradients.loss_scaler.state_dict(),
            "average": None if self.average is None else self.average.state(),
            "losses": self.losses.state(),
            "micro_batches": self.retry.micro_batches,
        }

    def load_state(self, state: State) -> None:
        """Go back to a state from `state()`."""
        self.scorer.load_state_dict(state["scorer"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.gradients.loss_scaler.load_state_dict(state["loss_scaler"])
        self.losses.load_state(state["losses"])
        self.retry.micro_batches = state["micro_batches"]
        if state["average"] is None:
            self.average = None
        elif self.average is not None:
            self.average.load_state(state["average"])

    @contextmanager
    def _predicting(self) -> Iterator[None]:
        """Put the weights that predict in place."""
        with ExitStack() as stack:
            for change in (self.average, self.anchor):
                if change is not None:
                    stack.enter_context(change.applied())
            yield
