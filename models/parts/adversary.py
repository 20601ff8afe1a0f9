"""Adversaries: perturbations of the weights that a training step must withstand.

A step first computes the gradient at the weights as they are, then the adversary moves some weights against the loss,
the step computes the gradient there (with dropout masks of its own), and the weights come back bit by bit.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, nn


class Adversary(ABC):
    """Moves its `weights` along their gradients, from the epoch `start` on.

    Its settings in `models.part_options` are arguments of its constructor, beside the token embedding and the
    matrices: every trained weight with two or more dimensions.
    """

    replaces: ClassVar[bool] = False
    """Whether the gradient at the perturbed weights replaces the plain one; else it is added to it."""
    weights: Sequence[nn.Parameter]
    start: float

    def acts(self, epoch: float) -> bool:
        """Tell whether a step that begins after `epoch` epochs is perturbed."""
        return epoch >= self.start

    @abstractmethod
    def perturbation(self, weight: Tensor, gradient: Tensor) -> Tensor:
        """Return what is added to one of the weights; of the same shape."""

    @contextmanager
    def perturbed(self) -> Iterator[None]:
        """Move the weights by their gradients; on leaving, however that happens, they are bit for bit as before."""
        saved = [weight.detach().clone() for weight in self.weights]
        try:
            with torch.no_grad():
                for weight in self.weights:
                    if weight.grad is not None:
                        weight.add_(self.perturbation(weight, weight.grad))
            yield
        finally:
            with torch.no_grad():
                for weight, before in zip(self.weights, saved, strict=True):
                    weight.copy_(before)


class NoAdversary(Adversary):
    """The weights stay as they are."""

    def __init__(self, *, embedding: nn.Parameter, matrices: Sequence[nn.Parameter]) -> None:  # noqa: ARG002
        self.weights, self.start = (), math.inf

    def perturbation(self, weight: Tensor, gradient: Tensor) -> Tensor:  # noqa: ARG002
        """Return zeros."""
        return torch.zeros_like(weight)


class FastGradientMethod(Adversary):
    """FGM: the token embeddings move up the gradient, whose value there is added to the plain one.

    E + eps * ||E_b|| * g / ||g||, with g the gradient of the embedding E and E_b the rows of E that the step's rows
    use, so that embeddings of tokens that never occur do not count (Miyato, Dai and Goodfellow, 2017, adversarial
    training for text; there the size is absolute). Frozen embeddings are perturbed all the same.
    """

    def __init__(
        self,
        *,
        embedding: nn.Parameter,
        matrices: Sequence[nn.Parameter],  # noqa: ARG002
        adversary_start: float,
        adversary_eps: float,
    ) -> None:
        self.start, self.eps = adversary_start, adversary_eps
        embedding.requires_grad_()
        self.weights = [embedding]

    def perturbation(self, weight: Tensor, gradient: Tensor) -> Tensor:
        """Return eps * ||rows with a gradient|| * g / ||g||, [tokens, dim]."""
        used = (gradient != 0).any(dim=1, keepdim=True)
        size: Tensor = torch.linalg.vector_norm(weight * used)
        return self.eps * size * unit(gradient)


class AdversarialWeightPerturbation(Adversary):
    """AWP: every trained matrix moves up its gradient; the step follows the gradient found there alone.

    Each matrix W moves by clip(lr * ||W|| * g / ||g||, -eps |W|, eps |W|), element by element (Wu, Xia and Wang, 2020,
    with a ball for each matrix; the box is the form that Kaggle's teams use). Embeddings, convolutions and the head are
    matrices too; biases and norms stay. Needs memory for one more copy of the matrices.
    """

    replaces = True

    def __init__(
        self,
        *,
        embedding: nn.Parameter,  # noqa: ARG002
        matrices: Sequence[nn.Parameter],
        adversary_start: float,
        adversary_eps: float,
        adversary_lr: float,
    ) -> None:
        self.start, self.eps, self.rate = adversary_start, adversary_eps, adversary_lr
        self.weights = matrices

    def perturbation(self, weight: Tensor, gradient: Tensor) -> Tensor:
        """Return clip(lr * ||W|| * g / ||g||, -eps |W|, eps |W|)."""
        limit = self.eps * weight.abs()
        size: Tensor = torch.linalg.vector_norm(weight)
        return (self.rate * size * unit(gradient)).clamp(-limit, limit)


def unit(gradient: Tensor) -> Tensor:
    """Return g / ||g||; zeros where g is zero or, as after an overflow in fp16, not finite."""
    norm: Tensor = torch.linalg.vector_norm(gradient)
    return torch.where(norm.isfinite() & (norm > 0), gradient / norm, 0.0)


ADVERSARIES: dict[str, Callable[..., Adversary]] = {
    "none": NoAdversary,
    "fgm": FastGradientMethod,
    "awp": AdversarialWeightPerturbation,
}
"""Name -> adversary; `models.part_options` says what each is and which settings it has."""
