"""`OutputAnchor`: the level and scale of the outputs that a loss comparing rows leaves free."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class OutputAnchor:
    """Gives each of a head's outputs mean and standard deviation of its target, by the last layer's weight and bias.

    So predictions of models of different folds agree in level and scale, in the same order as before, and the weights
    that predict are an ordinary head's.
    """

    def __init__(self, layers: Sequence[nn.Linear | nn.Conv1d], *, scale: Tensor, shift: Tensor) -> None:
        """Take scale and shift of each output, [outputs]; the layers give the outputs side by side."""
        sizes = [len(layer.weight) for layer in layers]
        self.changes = list(zip(layers, torch.split(scale, sizes), torch.split(shift, sizes), strict=True))

    @classmethod
    def fit(
        cls, layers: Sequence[nn.Linear | nn.Conv1d], prediction: NDArray[np.float32], target: NDArray[np.float32]
    ) -> Self:
        """Fit outputs, not anchored yet, to targets, both [rows] or [rows, outputs], on the rows that have a target.

        Constant or broken ones keep their scale.
        """
        columns = zip(np.atleast_2d(prediction.T), np.atleast_2d(target.T), strict=True)
        fits = [_fit(ours[~np.isnan(truth)], truth[~np.isnan(truth)]) for ours, truth in columns]
        scale, shift = layers[0].weight.new_tensor(fits).T
        return cls(layers, scale=scale, shift=shift)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the layers give anchored outputs; on leaving they hold their own values again."""
        own = []
        for layer, scale, shift in self.changes:
            assert layer.bias is not None
            own += [(layer.weight, layer.weight.data), (layer.bias, layer.bias.data)]
            layer.weight.data = layer.weight.data * scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
            layer.bias.data = layer.bias.data * scale + shift
        try:
            yield
        finally:
            for parameter, values in own:
                parameter.data = values


def _fit(prediction: NDArray[np.float32], target: NDArray[np.float32]) -> tuple[float, float]:
    """Return scale and shift that give predictions [rows] mean and deviation of targets [rows]; without rows, none."""
    if not len(target):
        return 1.0, 0.0
    scale = target.std(dtype=np.float64) / max(prediction.std(dtype=np.float64), np.finfo(np.float32).tiny)
    scale = float(scale) if 0 < scale < np.inf else 1.0
    return scale, float(target.mean(dtype=np.float64) - scale * prediction.mean(dtype=np.float64))
