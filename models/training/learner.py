"""`Learner`: a scorer with what moves it - loss, optimiser, precision - one step or one prediction at a time."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from data_prep.errors import InputError
from data_prep.task import Task
from models.backbones.encoder import load_backbone
from models.candidate import Candidate, Precision
from models.parts.adversary import Adversary
from models.parts.build import new_adversary, new_head, new_loss
from models.parts.losses import Loss
from models.parts.scorer import Scorer
from models.parts.weight_average import WeightAverage
from models.parts.weight_regularizers import Mixout, reinitialize_layers
from models.text.batches import Batch, Encoded, prediction_batches
from models.training.checkpoint import State, random_state, restore_random_state
from models.training.devices import autocast, find_precision
from models.training.divergence import LossHistory
from models.training.optimizer import ParameterGroup, new_optimizer, parameter_groups, set_rates
from models.training.out_of_memory import free_memory, is_out_of_memory
from models.training.split_batch import split

PREDICTION_BATCH = 256
"""Rows that are predicted at once."""

Result = TypeVar("Result")
logger = logging.getLogger(__name__)


class Learner:
    """A scorer in training.

    When memory does not suffice for a step or a prediction, it is done again from the random state in which it began,
    in twice as many parts (`micro_batches`), and all that follows is done in so many parts, too. An effective batch
    stays what it is.
    """

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
        self.losses = LossHistory()
        self.micro_batches = 1
        """Parts, for want of memory, of each of the candidate's accumulated parts, and of a prediction's batches."""
        self.halves = True
        """Whether it goes on in smaller parts where memory does not suffice."""

    def step(self, batch: Batch, rate_share: float, *, epoch: float = 0.0) -> None:
        """Take one optimiser step on `batch` at `rate_share` of the peak rates, `epoch` epochs after the start.

        Raises:
            InputError: memory does not suffice for a single text.
        """
        self.scorer.train()
        set_rates(self.optimizer, rate_share)
        self.losses.add(self._in_memory(partial(self._set_gradients, batch, epoch), n_texts=len(batch.input_ids)))
        if self.clip_norm is not None:
            self.loss_scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.trained, self.clip_norm)
        self.loss_scaler.step(self.optimizer)
        self.loss_scaler.update()
        self.scorer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update()

    def _set_gradients(self, batch: Batch, epoch: float) -> torch.Tensor:
        """Set the gradients that the step follows; return the loss at the weights as they are."""
        loss = self._add_gradients(batch)
        if self.adversary.acts(epoch):
            with self.adversary.perturbed():
                if self.adversary.replaces:
                    self.scorer.zero_grad(set_to_none=True)
                self._add_gradients(batch)
        return loss

    def _add_gradients(self, batch: Batch) -> torch.Tensor:
        """Add the gradients of the whole batch's loss, which is the mean of its parts' losses, weighted by rows.

        A loss that compares rows keeps the parts that the candidate asks for, and takes smaller ones in two passes.
        """
        exact = self.micro_batches > 1 and self.loss.compares_rows
        parts = split(batch, self.accumulation * (1 if exact else self.micro_batches))
        losses = []
        for part in parts:
            share = len(part.rows) / len(batch.rows)
            losses.append(self._add_in_two_passes(part, share) if exact else self._add_part(part, share))
        return torch.stack(losses).sum()

    def _add_part(self, part: Batch, share: float) -> torch.Tensor:
        """Add the gradients of a part's loss times `share`; return that loss."""
        part = part.to(self.device)
        assert part.targets is not None
        with self.mixout.mixed():
            loss = self.loss(self._outputs(part), part.targets, part.groups) * share
            torch.autograd.backward(self.loss_scaler.scale(loss))
        return loss.detach()

    def _add_in_two_passes(self, part: Batch, share: float) -> torch.Tensor:
        """As `_add_part`, in micro-batches, for a loss of all rows together.

        The first pass computes all outputs, then the loss and its gradient by each output; the second computes each
        output again, with the same random numbers, and takes its gradient on to the weights (Gao et al., 2021, Scaling
        deep contrastive learning batch size under memory limited setup). Costs one more forward pass.
        """
        before, pieces = random_state(), [piece.to(self.device) for piece in split(part, self.micro_batches)]
        targets, groups = (None if t is None else t.to(self.device) for t in (part.targets, part.groups))
        assert targets is not None
        with torch.no_grad():
            first = [self._mixed_outputs(piece) for piece in pieces]
        outputs = torch.cat(first).requires_grad_()
        loss = self.loss(outputs, targets, groups) * share
        (slopes,) = torch.autograd.grad(self.loss_scaler.scale(loss), outputs)
        restore_random_state(before)
        for piece, slope in zip(pieces, torch.split(slopes, [len(piece.rows) for piece in pieces]), strict=True):
            with self.mixout.mixed():
                torch.autograd.backward(self._outputs(piece), slope)
        return loss.detach()

    def _mixed_outputs(self, batch: Batch) -> torch.Tensor:
        with self.mixout.mixed():
            return self._outputs(batch)

    def _outputs(self, batch: Batch) -> torch.Tensor:
        with autocast(self.precision, self.device):
            outputs: torch.Tensor = self.scorer(batch)
        return outputs

    def predict(self, encoded: Encoded, rows: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Return predictions, float32 [rows], for the given rows of `encoded` in the order given (None: all).

        Raises:
            InputError: memory does not suffice for a single text.
        """
        chosen = np.arange(encoded.n_rows) if rows is None else rows
        self.scorer.eval()
        return self._in_memory(
            partial(self._predict, encoded, chosen), n_texts=encoded.texts_per_batch(PREDICTION_BATCH)
        )

    def _predict(self, encoded: Encoded, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        texts = encoded.texts_of(chosen)
        predictions = np.full(encoded.n_rows, np.nan, dtype=np.float32)
        n_texts = max(1, encoded.texts_per_batch(PREDICTION_BATCH) // self.micro_batches)
        with self._predicting(), torch.inference_mode():
            for places in prediction_batches(encoded.lengths[texts], n_texts):
                batch = encoded.batch(texts[places]).to(self.device)
                predictions[batch.rows] = self.loss.to_predictions(self._outputs(batch)).cpu().numpy()
        return predictions[chosen]

    def _in_memory(self, compute: Callable[[], Result], *, n_texts: int) -> Result:
        """Return what `compute` returns, halving the micro-batches until it fits into memory.

        `compute` may change nothing but gradients and random streams, which are as before when it is called again.

        Args:
            compute: a step's gradients, or a prediction.
            n_texts: that it takes together if nothing is cut.

        Raises:
            InputError: it does not fit with a single text at a time.
            MemoryError: it does not fit, and `halves` is False.
        """
        before = random_state()
        while True:
            try:
                return compute()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                told = str(error).split("\n", 1)[0]
            self.scorer.zero_grad(set_to_none=True)  # beyond the handler, which would keep all that the error has seen
            free_memory()
            restore_random_state(before)
            self._halve(n_texts, told)

    def _halve(self, n_texts: int, told: str) -> None:
        """Compute in twice as many parts from now on."""
        if not self.halves:
            raise MemoryError(f"out of memory ({told}) where a larger share of the machine may be had")
        cut = self.accumulation * self.micro_batches if self.scorer.training else self.micro_batches
        if cut >= n_texts:
            raise InputError(
                f"out of memory with a single text at a time ({told}); lower max_length or layers, set checkpointing: "
                "true, choose a smaller backbone, or give each fold run more `resources:` so that fewer share a device"
            )
        self.micro_batches *= 2
        logger.warning("out of memory (%s): going on with %d micro-batches", told, self.micro_batches)

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
        self.average = None

    def state(self) -> State:
        """Return everything that the next step depends on, random streams apart."""
        return {
            "scorer": self.scorer.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "loss_scaler": self.loss_scaler.state_dict(),
            "average": None if self.average is None else self.average.state(),
            "losses": self.losses.state(),
            "micro_batches": self.micro_batches,
        }

    def load_state(self, state: State) -> None:
        """Go back to a state from `state()`."""
        self.scorer.load_state_dict(state["scorer"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.loss_scaler.load_state_dict(state["loss_scaler"])
        self.losses.load_state(state["losses"])
        self.micro_batches = state["micro_batches"]
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
    bare: bool = False,
    device: torch.device,
) -> Learner:
    """Build what `candidate` describes; the initial weights of head and fresh layers depend on its seed alone.

    Args:
        candidate: what to build.
        task: gives the range of targets.
        vocabulary: every token id that will be asked for.
        n_tokens: token ids that the tokenizer has; None: as many as the checkpoint.
        backbones: folder where hub names are looked up first.
        bare: the backbone is a remnant (see `models.backbones.encoder.load_backbone`), and weights will be adopted.
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
        bare=bare,
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
    bare: bool = False,
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
        bare=bare,
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
