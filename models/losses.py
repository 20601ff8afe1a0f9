"""Losses: what training minimises, and how outputs become scores again.

A loss computes in float32 whatever the precision of the outputs, and its value is a mean over the batch.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from data_prep.task import Task

if TYPE_CHECKING:
    from models.candidate import Candidate


@dataclass(frozen=True, kw_only=True)
class Loss(ABC):
    """A loss over outputs [batch, n_outputs] and scores [batch]."""

    options: ClassVar[tuple[str, ...]] = ()
    """Fields of the candidate that this loss heeds; each is a field of the loss, too."""
    within_groups: ClassVar[bool] = False
    """Whether the loss compares rows of one anchor, which then must meet in a batch."""

    task: Task

    @property
    def n_outputs(self) -> int:
        """Outputs of a row that the loss needs."""
        return 1

    @abstractmethod
    def __call__(self, outputs: Tensor, scores: Tensor, groups: Tensor | None = None) -> Tensor:
        """Return the loss of a batch, a scalar.

        Args:
            outputs: [batch, n_outputs].
            scores: [batch].
            groups: int64 [batch]; anchor of each row, for losses `within_groups`.
        """

    def to_scores(self, outputs: Tensor) -> Tensor:
        """Turn outputs into predictions [batch] on the scale of the task's scores, as far as the loss knows it."""
        return outputs.float().squeeze(-1)


class MeanSquaredError(Loss):
    """mean((output - score)^2)."""

    def __call__(self, outputs: Tensor, scores: Tensor, groups: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Return the loss of a batch, a scalar."""
        return functional.mse_loss(outputs.float().squeeze(-1), scores.float())


class BinaryCrossEntropy(Loss):
    """Cross-entropy with the score, scaled to [0, 1], as a probability: -mean(p log q + (1 - p) log(1 - q)).

    q = sigmoid(output). Its least value is the entropy of the scores, not 0.
    """

    def __call__(self, outputs: Tensor, scores: Tensor, groups: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Return the loss of a batch, a scalar."""
        probabilities = (scores.float() - self.task.least) / (self.task.greatest - self.task.least)
        return functional.binary_cross_entropy_with_logits(outputs.float().squeeze(-1), probabilities)

    def to_scores(self, outputs: Tensor) -> Tensor:
        """Return sigmoid(output), scaled back to the task's range."""
        return outputs.float().squeeze(-1).sigmoid() * (self.task.greatest - self.task.least) + self.task.least


class PearsonLoss(Loss):
    """1 - r, with r the Pearson correlation of outputs and scores inside the batch.

    Scale and offset of the outputs are free, so predictions are not on the task's scale. A batch in which either side
    is constant says nothing: its loss is 1 and its gradient 0.
    """

    def __call__(self, outputs: Tensor, scores: Tensor, groups: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Return the loss of a batch, a scalar in [0, 2]."""
        return 1 - _unit(outputs.float().squeeze(-1)) @ _unit(scores.float())


def _unit(values: Tensor) -> Tensor:
    """Centre `values` [batch] and scale them to length 1; zeros, with zero gradient, when they are constant."""
    centred = values - values.mean()
    spread = centred.detach().abs().amax()
    rounding = 4 * torch.finfo(values.dtype).eps * values.detach().abs().amax()
    varies = spread > rounding
    scaled = torch.where(varies, centred / torch.where(varies, spread, 1.0), 0.0)
    return functional.normalize(scaled, dim=0)


def new_loss(candidate: "Candidate", task: Task) -> Loss:
    """Build the candidate's loss for a task.

    Raises:
        InputError: the loss needs something that the task lacks.
    """
    kind = LOSSES[candidate.loss]
    return kind(task=task, **{option: getattr(candidate, option) for option in kind.options})


LOSSES: dict[str, type[Loss]] = {
    "mse": MeanSquaredError,
    "bce": BinaryCrossEntropy,
    "pearson": PearsonLoss,
}
