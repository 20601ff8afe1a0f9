"""`Mixout`: weights that fall back to their initial values at random while training takes its gradients."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn import functional


class Mixout:
    """Mixout (Lee, Cho and Kang, 2020): in each pass, weights fall back to their initial values at random.

    With W0 a weight matrix before training, its passes use W0 + dropout(W - W0): each single weight is its initial
    value with probability p, otherwise W0 + (W - W0) / (1 - p), so that the mean over masks is W. That is the paper's
    (M W0 + (1 - M) W - p W0) / (1 - p), and gradients reach the kept weights only. It acts on the weights of every
    linear layer that learns: for a pretrained one the initial value is the pretrained one, for the head and for fresh
    layers the one that training starts from. A layer used several times in a pass has one mask in it.

    The matrices are mixed from outside, so names and content of parameters stay what they are; the initial values
    are never saved, since loading the backbone brings them back.
    """

    def __init__(self, model: nn.Module, probability: float) -> None:
        linears = [part for part in model.modules() if isinstance(part, nn.Linear) and part.weight.requires_grad]
        self.probability = probability
        self.linears = linears if probability > 0 else []
        self.initial = [linear.weight.detach().clone() for linear in self.linears]

    @contextmanager
    def mixed(self) -> Iterator[None]:
        """Let the linear layers compute with freshly mixed weights.

        The way back belongs inside, too: checkpointed layers compute again on it.
        """
        plain = [linear.weight for linear in self.linears]
        try:
            for linear, weight, initial in zip(self.linears, plain, self.initial, strict=True):
                mixed = initial + functional.dropout(weight - initial, self.probability)
                linear._parameters["weight"] = mixed  # type: ignore[assignment]
            yield
        finally:
            for linear, weight in zip(self.linears, plain, strict=True):
                linear.weight = weight
