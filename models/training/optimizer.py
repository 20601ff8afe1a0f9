"""How the optimizer treats each parameter: rates by depth, decay, and the schedule."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn
from torch.optim import AdamW

from models.candidate import Candidate

NORMS = (nn.LayerNorm, nn.RMSNorm)
"""Modules whose scales may have more than one dimension."""
WIDE_BIASES = {"FunnelRelMultiheadAttention": ("r_r_bias", "r_s_bias", "r_w_bias")}
"""Type of module -> its biases that have more than one dimension: their shape looks like that of weights."""


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that learn at the same peak rate with the same decay."""

    name: str
    parameters: list[nn.Parameter]
    rate: float
    """Peak learning rate; 0 where the parameters do not learn."""
    weight_decay: float

    @property
    def learns(self) -> bool:
        """Whether the optimizer changes the parameters."""
        return self.rate > 0

    @property
    def n_parameters(self) -> int:
        """Numbers in all of its tensors."""
        return sum(parameter.numel() for parameter in self.parameters)


def parameter_groups(
    backbone: nn.Module, layers: Sequence[nn.Module], head: nn.Module, candidate: Candidate
) -> list[ParameterGroup]:
    """Sort every parameter into exactly one group, those that do not learn into groups with rate 0.

    `layers` are the backbone's from the input up, embeddings first; what belongs to no layer learns at the rate of the
    top layer. Biases and the scales of norms are not decayed, embeddings are.
    """
    blocks = [("head", head, candidate.head_lr)]
    for depth, layer in enumerate(reversed(layers)):
        number = len(layers) - 1 - depth
        rate = candidate.backbone_lr * candidate.layer_decay**depth
        blocks.append((f"layer {number}" if number else "embeddings", layer, rate))
    blocks.append(("backbone", backbone, candidate.backbone_lr))
    spared = undecayed_parameters(backbone) | undecayed_parameters(head)
    groups = []
    taken: set[nn.Parameter] = set()
    for name, module, rate in blocks:
        own = [value for value in module.parameters() if value not in taken]
        taken.update(own)
        learning = [value for value in own if value.requires_grad and rate > 0]
        decayed = [value for value in learning if value not in spared]
        plain = [value for value in learning if value in spared]
        frozen = [value for value in own if value not in set(learning)]
        groups += [
            ParameterGroup(name, decayed, rate, candidate.weight_decay),
            ParameterGroup(f"{name}, biases and norms", plain, rate, 0.0),
            ParameterGroup(f"{name}, frozen", frozen, 0.0, 0.0),
        ]
    return [group for group in groups if group.parameters]


def undecayed_parameters(model: nn.Module) -> set[nn.Parameter]:
    """Return the parameters without weight decay: those of norms, all vectors and numbers, and `WIDE_BIASES`."""
    spared = set()
    for module in model.modules():
        wide = WIDE_BIASES.get(type(module).__name__, ())
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim < 2 or isinstance(module, NORMS) or name in wide:
                spared.add(parameter)
    return spared


def new_optimizer(groups: Sequence[ParameterGroup], *, beta2: float) -> AdamW:
    """Return a fused AdamW over the groups that learn; each of its groups remembers its peak rate as `peak`."""
    return AdamW(
        [
            {"params": group.parameters, "lr": group.rate, "peak": group.rate, "weight_decay": group.weight_decay}
            for group in groups
            if group.learns
        ],
        betas=(0.9, beta2),
        fused=True,
    )


def trained_parameters(groups: Sequence[ParameterGroup]) -> list[nn.Parameter]:
    """Return the parameters of the groups that learn."""
    return [parameter for group in groups if group.learns for parameter in group.parameters]


def rate_share(step: int, *, total: int, warmup: float, schedule: Literal["linear", "cosine"]) -> float:
    """Return the share of the peak rate at step 0 to total - 1: linearly up over the share `warmup`, then down to 0."""
    rising = round(warmup * total)
    if step < rising:
        return (step + 1) / rising
    left = (total - step) / (total - rising)
    return left if schedule == "linear" else (1 - math.cos(math.pi * left)) / 2
