"""`WeightAverage`: an exponential moving average of the trained weights, which predicts in their place."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """The mean of the weights after each step, recent steps counting more.

    After t steps the average is sum over i of d^(t - i) w_i / sum over i of d^(t - i), i = 1 to t: an exponential
    moving average with decay d whose start is corrected as Adam corrects its moments, so the initial weights have no
    part in it (Polyak and Juditsky, 1992; Kingma and Ba, 2015).
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.parameters = list(parameters)
        self.decay = decay
        self.steps = 0
        self.averages: list[Tensor] = [parameter.detach().clone() for parameter in parameters]

    def update(self) -> None:
        """Take in the weights as they are after a step."""
        self.steps += 1
        share = (1 - self.decay) / (1 - self.decay**self.steps)
        with torch.no_grad():
            for average, parameter in zip(self.averages, self.parameters, strict=True):
                average.lerp_(parameter, share)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the parameters hold the average; on leaving they hold their own values again."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for parameter, average in zip(self.parameters, self.averages, strict=True):
            parameter.data, average.data = average.data, parameter.data

    def state(self) -> dict[str, Any]:
        """Return what the next update depends on."""
        return {"steps": self.steps, "averages": self.averages}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go back to a state from `state()`."""
        self.steps = state["steps"]
        for average, value in zip(self.averages, state["averages"], strict=True):
            average.copy_(value)
