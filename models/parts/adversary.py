"""Adversaries: perturbations of the weights that a training step must withstand.

A step first computes the gradient at the weights as they are, then the adversary moves some weights against the loss,
the step computes the gradient there (with dropout masks of its own), and the weights come back bit by bit.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from models.candidate import Candidate


class Adversary(ABC):
    """Moves its `targets` along their gradients, from a given epoch on."""

    options: ClassVar[tuple[str, ...]] = ()
    """Fields of the candidate that this adversary alone heeds."""
    replaces: ClassVar[bool] = False
    """Whether the gradient at the perturbed weights replaces the plain one; else it is added to it."""
    targets: Sequence[nn.Parameter]

    @abstractmethod
    def __init__(self, candidate: "Candidate", *, embedding: nn.Parameter, matrices: Sequence[nn.Parameter]) -> None:
        """Choose what to perturb.

        Args:
            candidate: gives start and size.
            embedding: the token embedding.
            matrices: every trained weight with two or more dimensions.
        """

    @abstractmethod
    def acts(self, epoch: float) -> bool:
        """Tell whether a step that begins after `epoch` epochs is perturbed."""

    @abstractmethod
    def perturbation(self, weight: Tensor, gradient: Tensor) -> Tensor:
        """Return what is added to one of the targets; of the same shape."""

    @contextmanager
    def perturbed(self) -> Iterator[None]:
        """Move the targets by their gradients; on leaving, however that happens, they are bit for bit as before."""
        saved = [target.detach().clone() for target in self.targets]
        try:
            with torch.no_grad():
                for target in self.targets:
                    if target.grad is not None:
                        target.add_(self.perturbation(target, target.grad))
            yield
        finally:
            with torch.no_grad():
                for target, before in zip(self.targets, saved, strict=True):
                    target.copy_(before)


class NoAdversary(Adversary):
    """The weights stay as they are."""

    def __init__(self, candidate: "Candidate", *, embedding: nn.Parameter, matrices: Sequence[nn.Parameter]) -> None:  # noqa: ARG002
        self.targets = ()

    def acts(self, epoch: float) -> bool:  # noqa: ARG002
        """Never."""
        return False

    def perturbation(self, weight: Tensor, gradient: Tensor) -> Tensor:  # noqa: ARG002
        """Return zeros."""
        return torch.zeros_like(weight)


class FastGradientMethod(Adversary):
    """FGM: the token embeddings move up the gradient, whose value there is added to the plain one.

    E + eps * ||E_b|| * g / ||g||, with g the gradient of the embedding E and E_b the rows of E that the step's rows
    use, so that embeddings of tokens that never occur do not count (Miyato, Dai and Goodfellow, 2017, adversarial
    training for text; there the size is absolute). Frozen embeddings are perturbed all the same.
    """

    options = ("adversary_start", "adversary_eps")

    def __init__(self, candidate: "Candidate", *, embedding: nn.Parameter, matrices: Sequence[nn.Parameter]) -> None:  # noqa: ARG002
        self.start, self.eps = candidate.adversary_start, candidate.adversary_eps
        embedding.requires_grad_()
        self.targets = [embedding]

    def acts(self, epoch: float) -> bool:
        """From the start on."""
        return epoch >= self.start

    def perturbation(self, weight: Tensor, gradient: Tensor) -> Tensor:
        """Return eps * ||rows with a gradient|| * g / ||g||, [tokens, dim]."""
        used = (gradient != 0).any(dim=1, keepdim=True)
        size: Tensor = torch.linalg.vector_norm(weight * used)
        return self.eps * size * unit(gradient)


class AdversarialWeightPerturbation(Adversary):
    """AWP: every trained matrix moves up its gradient; the step follows the gradient found there alone.

    Each matrix W moves by clip(lr * ||W|| * g / ||g||, -eps |W|, eps |W|), element by element: no weight changes by
    more than the share eps of itself (Wu, Xia and Wang, 2020, with a ball for each matrix; the box is the form that
    Kaggle's teams use). Embeddings, convolutions and the head are matrices too; biases and norms stay. Needs memory
    for one more copy of the matrices.
    """

    options = ("adversary_start", "adversary_eps", "adversary_lr")
    replaces = True

    def __init__(self, candidate: "Candidate", *, embedding: nn.Parameter, matrices: Sequence[nn.Parameter]) -> None:  # noqa: ARG002
        self.start, self.eps, self.rate = candidate.adversary_start, candidate.adversary_eps, candidate.adversary_lr
        self.targets = matrices

    def acts(self, epoch: float) -> bool:
        """From the start on."""
        return epoch >= self.start

    def perturbation(self, weight: Tensor, gradient: Tensor) -> Tensor:
        """Return clip(lr * ||W|| * g / ||g||, -eps |W|, eps |W|)."""
        limit = self.eps * weight.abs()
        size: Tensor = torch.linalg.vector_norm(weight)
        return (self.rate * size * unit(gradient)).clamp(-limit, limit)


def unit(gradient: Tensor) -> Tensor:
    """Return g / ||g||; zeros where g is zero or, as after an overflow in fp16, not finite."""
    norm: Tensor = torch.linalg.vector_norm(gradient)
    return torch.where(norm.isfinite() & (norm > 0), gradient / norm, 0.0)


def new_adversary(candidate: "Candidate", *, embedding: nn.Parameter, matrices: Sequence[nn.Parameter]) -> Adversary:
    """Build the candidate's adversary; arguments as for `Adversary`."""
    return ADVERSARIES[candidate.adversary](candidate, embedding=embedding, matrices=matrices)


ADVERSARIES: dict[str, type[Adversary]] = {
    "none": NoAdversary,
    "fgm": FastGradientMethod,
    "awp": AdversarialWeightPerturbation,
}
