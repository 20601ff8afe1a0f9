"""`OutputAnchor`: the level and scale of the outputs that a loss comparing rows leaves free."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import nn


class OutputAnchor:
    """Gives a head's outputs mean and standard deviation of targets, by its last layer's weight and bias.

    So predictions of models of different folds agree in level and scale, in the same order as before, and the weights
    that predict are an ordinary head's.
    """

    def __init__(self, layer: nn.Linear | nn.Conv1d, *, scale: float, shift: float) -> None:
        self.layer, self.scale, self.shift = layer, scale, shift

    @classmethod
    def fit(cls, layer: nn.Linear | nn.Conv1d, prediction: NDArray[np.float32], target: NDArray[np.float32]) -> Self:
        """Fit outputs, not anchored yet, to targets [rows]; constant or broken ones keep their scale."""
        scale = target.std(dtype=np.float64) / max(prediction.std(dtype=np.float64), np.finfo(np.float32).tiny)
        scale = float(scale) if 0 < scale < np.inf else 1.0
        return cls(
            layer, scale=scale, shift=float(target.mean(dtype=np.float64) - scale * prediction.mean(dtype=np.float64))
        )

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the layer give anchored outputs; on leaving it holds its own values again."""
        assert self.layer.bias is not None
        weight, bias = self.layer.weight.data, self.layer.bias.data
        self.layer.weight.data, self.layer.bias.data = weight * self.scale, bias * self.scale + self.shift
        try:
            yield
        finally:
            self.layer.weight.data, self.layer.bias.data = weight, bias
