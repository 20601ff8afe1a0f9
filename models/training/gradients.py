"""`StepGradients`: the gradients that an optimizer step follows, computed in parts where memory needs it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.candidate import Precision
from models.parts.adversary import Adversary
from models.parts.losses import Loss
from models.parts.mixout import Mixout
from models.parts.scorer import Scorer
from models.text.batches import Batch
from models.training.devices import autocast
from models.training.random_streams import random_state, restore_random_state
from models.training.split_batch import split_batch


@dataclass(frozen=True)
class StepGradients:
    """What turns a batch into gradients: the scorer, the loss, and what disturbs the weights in between."""

    scorer: Scorer
    loss: Loss
    mixout: Mixout
    adversary: Adversary
    loss_scaler: torch.amp.GradScaler
    accumulation: int
    """Parts that a batch is computed in, as the candidate says."""
    precision: Precision
    device: torch.device

    def compute(self, batch: Batch, epoch: float, micro_batches: int = 1) -> Tensor:
        """Set the gradients that a step follows; return the loss at the weights as they are, a detached scalar.

        `epoch`: epochs trained before the step. Micro-batches, of each of the candidate's parts, change no gradients.
        """
        loss = self.add(batch, micro_batches)
        if self.adversary.acts(epoch):
            with self.adversary.perturbed():
                if self.adversary.replaces:
                    self.scorer.zero_grad(set_to_none=True)
                self.add(batch, micro_batches)
        return loss

    def add(self, batch: Batch, micro_batches: int = 1) -> Tensor:
        """Add the gradients of the whole batch's loss: the mean of its parts' losses, by what their targets weigh.

        A loss that compares rows keeps the candidate's parts, and computes smaller ones in two passes.
        """
        two_passes = micro_batches > 1 and self.loss.compares_rows
        losses, whole = [], batch.total_weight
        for part in split_batch(batch, self.accumulation * (1 if two_passes else micro_batches)):
            share = part.total_weight / whole
            losses.append(self._add_in_two_passes(part, share, micro_batches) if two_passes else self._add(part, share))
        return torch.stack(losses).sum()

    def outputs(self, batch: Batch) -> Tensor:
        """Return the scorer's outputs [batch, n_outputs] in the precision that is trained in."""
        with autocast(self.precision, self.device):
            outputs: Tensor = self.scorer(batch)
        return outputs

    def _add(self, part: Batch, share: float) -> Tensor:
        """Add the gradients of a part's loss times `share`; return that loss."""
        part = part.to(self.device)
        assert part.targets is not None
        with self.mixout.mixed():
            loss = self.loss(self.outputs(part), part.targets, part.groups, part.weights) * share
            torch.autograd.backward(self.loss_scaler.scale(loss))
        return loss.detach()

    def _add_in_two_passes(self, part: Batch, share: float, micro_batches: int) -> Tensor:
        """As `_add`, in micro-batches, for a loss of all rows together.

        The first pass computes all outputs, then the loss and its gradient by each output; the second computes each
        output again, with the same random numbers, and takes its gradient on to the weights (Gao et al., 2021, Scaling
        deep contrastive learning batch size under memory limited setup). Costs one more forward pass.
        """
        before, pieces = random_state(), [piece.to(self.device) for piece in split_batch(part, micro_batches)]
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
                torch.autograd.backward(self.outputs(piece), slope)
        return loss.detach()

    def _mixed_outputs(self, batch: Batch) -> Tensor:
        with self.mixout.mixed():
            return self.outputs(batch)
