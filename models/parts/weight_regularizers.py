"""Regularisers of the weights: mixout, fresh top layers."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn import functional

from data_prep.errors import InputError
from models.backbones.encoder import Backbone


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


def reinitialize_layers(backbone: Backbone, n_layers: int) -> None:
    """Give the top layers fresh weights, as the family initialises them, from torch's random stream.

    Fresh top layers help where the task needs little of what pretraining left there (Zhang et al., 2021, few-sample
    fine-tuning). Of an encoder-decoder the top layers are the decoder's.

    Raises:
        InputError: there are fewer layers, one of them is frozen, or all layers share their weights.
    """
    available = len(backbone.layers) - 1
    if n_layers > available:
        raise InputError(f"reinit_layers={n_layers}: the backbone has only {available} layers of its own weights here")
    if n_layers and backbone.n_states - 1 > available:
        raise InputError(
            f"reinit_layers={n_layers}: the backbone applies one layer {backbone.n_states - 1} times, "
            "so nothing pretrained would be left of it; use reinit_layers 0"
        )
    for layer in backbone.layers[available + 1 - n_layers :]:
        if not all(parameter.requires_grad for parameter in layer.parameters()):
            raise InputError(f"reinit_layers={n_layers}: reaches down to layers that freeze_layers keeps from learning")
        for parameter in layer.parameters():
            parameter._is_hf_initialized = False  # type: ignore[attr-defined]
        layer.apply(backbone.model.model._init_weights)  # type: ignore[arg-type]
