"""The output of a head: from one vector for each row to the numbers that a loss judges."""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from data_prep.cpc import SECTIONS

INITIAL_STD = 0.02
CODE_WIDTH = 8
"""Size of the embedding of a CPC section, and of that of a class number."""
N_CLASS_NUMBERS = 100


class Output(nn.Module):
    """LayerNorm, dropout and hidden layers, each optional, then a linear layer.

    A hidden layer is linear with SELU, LeCun-normal weights and no initial bias, so that the scale of its input lives
    on (Klambauer et al., 2017, Self-Normalizing Neural Networks). `n_codes` numbers may stand beside the pooled vector
    and are not normed; `dropout_rates` are those of `SampledDropout`.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        n_codes: int = 0,
        norm: bool = False,
        layers: int = 0,
        width: int = 1,
        dropout_rates: Sequence[float] = (0.0,),
    ) -> None:
        super().__init__()
        sizes = [n_inputs + n_codes] + [width] * layers
        self.linear = new_linear(sizes[-1], n_outputs)
        self.norm = nn.LayerNorm(n_inputs) if norm else nn.Identity()
        self.dropout = SampledDropout(dropout_rates)
        self.hidden = nn.Sequential()
        for n_below, n_above in itertools.pairwise(sizes):
            self.hidden.extend([new_selu_linear(n_below, n_above), nn.SELU()])

    def forward(self, pooled: Tensor, codes: Tensor | None = None) -> Tensor:
        """Return outputs [batch, n_outputs] of `pooled` [batch, n_inputs] and `codes` [batch, n_codes], all float32."""
        with torch.autocast(pooled.device.type, enabled=False):
            vector = self.norm(pooled)
            if codes is not None:
                vector = torch.cat([vector, codes], dim=1)
            outputs: Tensor = self.dropout(vector, lambda kept: self.linear(self.hidden(kept)))
        return outputs


class SampledDropout(nn.Module):
    """Dropout whose effect on what follows is averaged over several masks (Inoue, 2019, Multi-Sample Dropout).

    The outputs are averaged, as Kaggle's winners do; the paper averages their losses. The masks are taken in one pass,
    side by side along the batch.
    """

    def __init__(self, rates: Sequence[float]) -> None:
        """Take one mask for each of `rates`, the probabilities that a number is dropped."""
        super().__init__()
        self.rates = tuple(rates)

    def forward(self, values: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the mean of `compute` over the masks of values [batch, ...]; outside of training, without masks.

        `compute` gives [samples * batch, n_outputs] for [samples * batch, ...], row by row.
        """
        if not self.training or not any(self.rates):
            return compute(values)
        samples = compute(torch.cat([functional.dropout(values, rate) for rate in self.rates]))
        return samples.reshape(len(self.rates), -1, samples.shape[1]).mean(dim=0)

    def extra_repr(self) -> str:
        """Return the rates, for the printed module."""
        return f"rates={self.rates}"


class CodeEmbedding(nn.Module):
    """A CPC code as a vector: its section's embedding beside its class number's, both standard normal at first."""

    def __init__(self) -> None:
        super().__init__()
        self.section = nn.Embedding(len(SECTIONS), CODE_WIDTH)
        self.class_number = nn.Embedding(N_CLASS_NUMBERS, CODE_WIDTH)

    @property
    def width(self) -> int:
        """Size of the vector."""
        return 2 * CODE_WIDTH

    def forward(self, codes: Tensor) -> Tensor:
        """Return float32 [batch, width] for codes as in `Batch.codes`."""
        section, class_number = codes.unbind(dim=1)
        return torch.cat([self.section(section), self.class_number(class_number)], dim=1)


def dropout_rates(dropout: float, *, samples: int, graded: bool) -> tuple[float, ...]:
    """Return the rate of each dropout mask: `dropout`, or graded dropout * i / samples for i from 1 to samples."""
    return tuple(dropout * (number / samples if graded else 1) for number in range(1, samples + 1))


def new_linear(n_inputs: int, n_outputs: int, *, bias: bool = True) -> nn.Linear:
    """Return a linear layer initialized as BERT's: small normal weights, zero bias."""
    linear = nn.Linear(n_inputs, n_outputs, bias=bias)
    nn.init.normal_(linear.weight, std=INITIAL_STD)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear


def new_selu_linear(n_inputs: int, n_outputs: int) -> nn.Linear:
    """Return a linear layer initialized for SELU: LeCun-normal weights (variance 1 / inputs), zero bias."""
    linear = nn.Linear(n_inputs, n_outputs)
    nn.init.normal_(linear.weight, std=1 / math.sqrt(n_inputs))
    nn.init.zeros_(linear.bias)
    return linear
