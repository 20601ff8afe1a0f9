"""What the optimiser does to which parameter: rates by depth, decay, the schedule, the norm of gradients."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn
from torch.optim import AdamW


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that learn at the same peak rate with the same decay."""

    name: str
    parameters: list[nn.Parameter]
    rate: float
    weight_decay: float


def parameter_groups(
    backbone: nn.Module,
    layers: Sequence[nn.Module],
    head: nn.Module,
    *,
    backbone_lr: float,
    head_lr: float,
    layer_decay: float,
    weight_decay: float,
) -> list[ParameterGroup]:
    """Sort every parameter that learns into exactly one group.

    Args:
        backbone: all of it; what belongs to no layer learns at the rate of the top layer.
        layers: its layers from the input up, embeddings first.
        head: the head.
        backbone_lr: peak rate of the top layer.
        head_lr: peak rate of the head.
        layer_decay: each layer's rate is this share of the rate of the layer above it.
        weight_decay: for all but biases and the scales of norms.
    """
    blocks = [("head", head, head_lr)]
    for depth, layer in enumerate(reversed(layers)):
        blocks.append((f"layer {len(layers) - 1 - depth}", layer, backbone_lr * layer_decay**depth))
    blocks.append(("backbone", backbone, backbone_lr))
    groups = []
    taken: set[nn.Parameter] = set()
    for name, module, rate in blocks:
        own = [(key, value) for key, value in module.named_parameters() if value.requires_grad and value not in taken]
        taken.update(value for _, value in own)
        decayed = [value for key, value in own if is_decayed(key, value)]
        spared = [value for key, value in own if not is_decayed(key, value)]
        groups.append(ParameterGroup(name, decayed, rate, weight_decay))
        groups.append(ParameterGroup(f"{name}, biases and norms", spared, rate, 0.0))
    return [group for group in groups if group.parameters]


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Tell whether weight decay applies: neither to biases nor to the scales of norms, which are always vectors."""
    return parameter.ndim > 1 and not name.endswith("bias")


def new_optimizer(groups: Sequence[ParameterGroup]) -> AdamW:
    """Return a fused AdamW over `groups`; each of its groups remembers its peak rate as `peak`."""
    return AdamW(
        [
            {
                "params": group.parameters,
                "lr": group.rate,
                "peak": group.rate,
                "weight_decay": group.weight_decay,
            }
            for group in groups
        ],
        fused=True,
    )


def set_rates(optimizer: AdamW, share: float) -> None:
    """Let every group learn at `share` of its peak rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share


def rate_share(step: int, *, total: int, warmup: float, schedule: Literal["linear", "cosine"]) -> float:
    """Return the share of the peak rate for a step: up linearly to 1 in the warm-up, then down to 0 after the last.

    Args:
        step: steps done before this one, 0 to total - 1.
        total: steps of the whole schedule.
        warmup: share of the steps that rise.
        schedule: how the rate falls.
    """
    rising = round(warmup * total)
    if step < rising:
        return (step + 1) / rising
    left = (total - step) / (total - rising)
    return left if schedule == "linear" else (1 - math.cos(math.pi * left)) / 2
