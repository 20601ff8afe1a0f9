"""`Mixout`: weights that fall back to their initial values at random while training takes its gradients."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeGuard

from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D


class Mixout:
    """Mixout (Lee, Cho and Kang, 2020): in each pass, weights fall back to their initial values at random.

    With W0 a weight matrix before training, its passes use W0 + dropout(W - W0), with probability p the paper's (M W0 +
    (1 - M) W - p W0) / (1 - p), and gradients reach the kept weights only. It acts on the weights of every linear layer
    that learns: for a pretrained one the initial value is the pretrained one, for the head and for fresh layers the one
    that training starts from. A layer used several times in a pass has one mask in it.

    Names and content of parameters stay what they are; initial values are not saved, as the backbone has them.
    """

    def __init__(self, model: nn.Module, probability: float) -> None:
        linears = [part for part in model.modules() if _is_linear(part) and part.weight.requires_grad]
        self.probability = probability
        self.linears = linears if probability > 0 else []
        self.initial = [linear.weight.detach().clone() for linear in self.linears]

    @contextmanager
    def mixed(self) -> Iterator[None]:
        """Mix the weights afresh; the way back belongs inside, too: checkpointed layers compute again on it."""
        plain = [linear.weight for linear in self.linears]
        try:
            for linear, weight, initial in zip(self.linears, plain, self.initial, strict=True):
                mixed = initial + functional.dropout(weight - initial, self.probability)
                linear._parameters["weight"] = mixed  # type: ignore[assignment]
            yield
        finally:
            for linear, weight in zip(self.linears, plain, strict=True):
                linear.weight = weight


def _is_linear(module: nn.Module) -> TypeGuard[nn.Linear]:
    """Tell whether a module is a linear layer: GPT-2's and SqueezeBERT's are called convolutions of size 1."""
    return isinstance(module, nn.Linear | Conv1D) or (isinstance(module, nn.Conv1d) and module.kernel_size == (1,))
