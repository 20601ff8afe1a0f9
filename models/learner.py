"""`Learner`: a scorer with what moves it - loss, optimiser, precision - one step or one prediction at a time."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data_prep.task import Task
from models.accumulation import split
from models.adversary import Adversary, new_adversary
from models.average import WeightAverage
from models.backbones import load_backbone
from models.batches import Batch, Encoded, prediction_batches
from models.candidate import Candidate, Precision
from models.checkpoint import State
from models.devices import autocast, find_precision
from models.heads import new_head
from models.losses import Loss, new_loss
from models.optimizer import ParameterGroup, new_optimizer, parameter_groups, set_rates
from models.regularize import Mixout, reinitialize_layers
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
        beta2: float,
        clip_norm: float | None,
        accumulation: int,
        mixout: Mixout,
        adversary: Adversary,
        average: WeightAverage | None,
        precision: Precision,
        device: torch.device,
    ) -> None:
        self.scorer = scorer
        self.trained = trained_parameters(groups)
        self.optimizer = new_optimizer(groups, beta2=beta2)
        self.loss = loss
        self.clip_norm = clip_norm
        self.accumulation = accumulation
        self.mixout = mixout
        self.adversary = adversary
        self.average = average
        self.precision = precision
        self.device = device
        self.loss_scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def step(self, batch: Batch, rate_share: float, *, epoch: float = 0.0) -> None:
        """Take one optimiser step on `batch` at `rate_share` of the peak rates, `epoch` epochs after the start."""
        parts = [part.to(self.device) for part in split(batch, self.accumulation)]
        self.scorer.train()
        set_rates(self.optimizer, rate_share)
        self._add_gradients(parts)
        if self.adversary.acts(epoch):
            with self.adversary.perturbed():
                if self.adversary.replaces:
                    self.scorer.zero_grad(set_to_none=True)
                self._add_gradients(parts)
        if self.clip_norm is not None:
            self.loss_scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.trained, self.clip_norm)
        self.loss_scaler.step(self.optimizer)
        self.loss_scaler.update()
        self.scorer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update()

    def _add_gradients(self, parts: Sequence[Batch]) -> None:
        """Add the gradients of the whole batch's loss, which is the mean of its parts' losses, weighted by rows."""
        n_rows = sum(len(part.rows) for part in parts)
        for part in parts:
            assert part.scores is not None
            with self.mixout.mixed():
                with autocast(self.precision, self.device):
                    outputs = self.scorer(part)
                loss = self.loss(outputs, part.scores, part.groups) * (len(part.rows) / n_rows)
                torch.autograd.backward(self.loss_scaler.scale(loss))

    def predict(self, encoded: Encoded, rows: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Return predictions, float32 [rows], for the given rows of `encoded` in the order given (None: all)."""
        chosen = np.arange(encoded.n_rows) if rows is None else rows
        texts = encoded.texts_of(chosen)
        predictions = np.full(encoded.n_rows, np.nan, dtype=np.float32)
        self.scorer.eval()
        with self._predicting(), torch.inference_mode():
            for places in prediction_batches(encoded.lengths[texts], encoded.texts_per_batch(PREDICTION_BATCH)):
                batch = encoded.batch(texts[places]).to(self.device)
                with autocast(self.precision, self.device):
                    outputs = self.scorer(batch)
                predictions[batch.rows] = self.loss.to_scores(outputs).cpu().numpy()
        return predictions[chosen]

    def weights(self) -> dict[str, torch.Tensor]:
        """Return a copy of the weights that predict, on the CPU."""
        with self._predicting():
            return {name: value.detach().to("cpu", copy=True) for name, value in self.scorer.state_dict().items()}

    def adopt(self, weights: dict[str, torch.Tensor]) -> None:
        """Predict with `weights` from now on; training is over."""
        self.scorer.load_state_dict(weights)
        self.average = None

    def state(self) -> State:
        """Return everything that the next step depends on, random streams apart."""
        return {
            "scorer": self.scorer.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "loss_scaler": self.loss_scaler.state_dict(),
            "average": None if self.average is None else self.average.state(),
        }

    def load_state(self, state: State) -> None:
        """Go back to a state from `state()`."""
        self.scorer.load_state_dict(state["scorer"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.loss_scaler.load_state_dict(state["loss_scaler"])
        if state["average"] is None:
            self.average = None
        elif self.average is not None:
            self.average.load_state(state["average"])

    def _predicting(self) -> AbstractContextManager[None]:
        """Put the weights that predict in place."""
        return nullcontext() if self.average is None else self.average.applied()


def new_learner(
    candidate: Candidate,
    task: Task,
    *,
    vocabulary: NDArray[np.int64],
    n_tokens: int | None = None,
    backbones: str | None,
    device: torch.device,
) -> Learner:
    """Build what `candidate` describes; the initial weights of head and fresh layers depend on its seed alone.

    Args:
        candidate: what to build.
        task: gives the range of scores.
        vocabulary: every token id that will be asked for.
        n_tokens: token ids that the tokenizer has; None: as many as the checkpoint.
        backbones: folder where hub names are looked up first.
        device: where to compute.

    Raises:
        InputError: the backbone cannot be loaded, or has fewer layers than a setting asks for.
    """
    loss = new_loss(candidate, task)
    scorer, groups = new_scorer(
        candidate,
        n_outputs=loss.n_outputs,
        vocabulary=vocabulary,
        n_tokens=n_tokens,
        backbones=backbones,
        device=device,
    )
    encoder: Any = scorer.backbone.model
    trained = trained_parameters(groups)
    return Learner(
        scorer,
        groups,
        loss=loss,
        beta2=candidate.beta2,
        clip_norm=candidate.clip_norm,
        accumulation=candidate.accumulation,
        mixout=Mixout(scorer, candidate.mixout),
        adversary=new_adversary(
            candidate,
            embedding=encoder.get_input_embeddings().weight,
            matrices=[parameter for parameter in trained if parameter.ndim > 1],
        ),
        average=None if candidate.ema is None else WeightAverage(trained, candidate.ema),
        precision=find_precision(candidate.precision, device),
        device=device,
    )


def new_scorer(
    candidate: Candidate,
    *,
    n_outputs: int,
    vocabulary: NDArray[np.int64] | None = None,
    n_tokens: int | None = None,
    backbones: str | None,
    device: torch.device,
) -> tuple[Scorer, list[ParameterGroup]]:
    """Build the scorer of `candidate`, and say what the optimiser does to its parameters.

    Arguments and errors as for `new_learner`; without a vocabulary the embeddings are whole.
    """
    backbone = load_backbone(
        candidate.backbone,
        layers=candidate.layers,
        dropout=candidate.dropout,
        freeze_embeddings=candidate.freeze_embeddings,
        freeze_layers=candidate.freeze_layers,
        checkpointing=candidate.checkpointing,
        max_length=candidate.max_length,
        n_tokens=n_tokens,
        vocabulary=vocabulary,
        folder=backbones,
    )
    if device.type == "cpu":
        encoder: Any = backbone.model.model
        encoder.set_attn_implementation("eager")  # torch's fused attention takes 2 to 5 times as long backwards
    torch.manual_seed(candidate.seed)
    head = new_head(candidate, hidden_size=backbone.hidden_size, n_states=backbone.n_states, n_outputs=n_outputs)
    head.requires_grad_(candidate.head_lr > 0)
    reinitialize_layers(backbone, candidate.reinit_layers)
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
    return scorer, groups


def trained_parameters(groups: Sequence[ParameterGroup]) -> list[torch.nn.Parameter]:
    """Return the parameters of the groups that learn."""
    return [parameter for group in groups if group.rate > 0 for parameter in group.parameters]
