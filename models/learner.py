"""`Learner`: a scorer with what moves it - loss, optimiser, precision - one step or one prediction at a time."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data_prep.task import Task
from models.backbones import load_backbone
from models.batches import Batch, Encoded, prediction_batches
from models.candidate import Candidate, Precision
from models.checkpoint import State
from models.devices import autocast, find_precision
from models.heads import new_head
from models.losses import Loss, new_loss
from models.optimizer import ParameterGroup, new_optimizer, parameter_groups, set_rates
from models.scorer import Scorer

PREDICTION_BATCH = 256


class Learner:
    """A scorer in training."""

    def __init__(
        self,
        scorer: Scorer,
        groups: Sequence[ParameterGroup],
        *,
        loss: Loss,
        clip_norm: float | None,
        precision: Precision,
        device: torch.device,
    ) -> None:
        self.scorer = scorer
        self.trained = [parameter for group in groups for parameter in group.parameters]
        self.optimizer = new_optimizer(groups)
        self.loss = loss
        self.clip_norm = clip_norm
        self.precision = precision
        self.device = device
        self.loss_scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def step(self, batch: Batch, rate_share: float) -> None:
        """Take one optimiser step on `batch` at `rate_share` of the peak rates."""
        batch = batch.to(self.device)
        assert batch.scores is not None
        self.scorer.train()
        set_rates(self.optimizer, rate_share)
        with autocast(self.precision, self.device):
            outputs = self.scorer(batch)
        loss = self.loss(outputs, batch.scores, batch.groups)
        torch.autograd.backward(self.loss_scaler.scale(loss))
        if self.clip_norm is not None:
            self.loss_scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.trained, self.clip_norm)
        self.loss_scaler.step(self.optimizer)
        self.loss_scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def predict(self, encoded: Encoded, rows: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Return predictions, float32 [rows], for the given rows of `encoded` in the order given (None: all)."""
        chosen = np.arange(encoded.n_rows) if rows is None else rows
        texts = encoded.texts_of(chosen)
        predictions = np.full(encoded.n_rows, np.nan, dtype=np.float32)
        self.scorer.eval()
        with torch.inference_mode():
            for places in prediction_batches(encoded.lengths[texts], encoded.texts_per_batch(PREDICTION_BATCH)):
                batch = encoded.batch(texts[places]).to(self.device)
                with autocast(self.precision, self.device):
                    outputs = self.scorer(batch)
                predictions[batch.rows] = self.loss.to_scores(outputs).cpu().numpy()
        return predictions[chosen]

    def weights(self) -> dict[str, torch.Tensor]:
        """Return a copy of the scorer's weights, on the CPU."""
        return {name: value.detach().to("cpu", copy=True) for name, value in self.scorer.state_dict().items()}

    def state(self) -> State:
        """Return everything that the next step depends on, random streams apart."""
        return {
            "scorer": self.scorer.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "loss_scaler": self.loss_scaler.state_dict(),
        }

    def load_state(self, state: State) -> None:
        """Go back to a state from `state()`."""
        self.scorer.load_state_dict(state["scorer"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.loss_scaler.load_state_dict(state["loss_scaler"])


def new_learner(
    candidate: Candidate,
    task: Task,
    *,
    vocabulary: NDArray[np.int64],
    backbones: str | None,
    device: torch.device,
) -> Learner:
    """Build what `candidate` describes; the initial weights of the head depend on its seed alone.

    Args:
        candidate: what to build.
        task: gives the range of scores.
        vocabulary: every token id that will be asked for.
        backbones: folder where hub names are looked up first.
        device: where to compute.

    Raises:
        InputError: the backbone cannot be loaded.
    """
    backbone = load_backbone(
        candidate.backbone,
        layers=candidate.layers,
        dropout=candidate.dropout,
        freeze_embeddings=candidate.freeze_embeddings,
        freeze_layers=candidate.freeze_layers,
        max_length=candidate.max_length,
        vocabulary=vocabulary,
        folder=backbones,
    )
    if device.type == "cpu":
        encoder: Any = backbone.model.model
        encoder.set_attn_implementation("eager")  # torch's fused attention takes 2 to 5 times as long backwards
    loss = new_loss(candidate, task)
    torch.manual_seed(candidate.seed)
    head = new_head(candidate, hidden_size=backbone.hidden_size, n_states=backbone.n_states, n_outputs=loss.n_outputs)
    scorer = Scorer(backbone.model, head).to(device)
    groups = parameter_groups(
        backbone.model,
        backbone.layers,
        head,
        backbone_lr=candidate.backbone_lr,
        head_lr=candidate.head_lr,
        layer_decay=candidate.layer_decay,
        weight_decay=candidate.weight_decay,
    )
    return Learner(
        scorer,
        groups,
        loss=loss,
        clip_norm=candidate.clip_norm,
        precision=find_precision(candidate.precision, device),
        device=device,
    )
