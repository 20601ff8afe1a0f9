"""The memory and operations that a candidate takes, estimated from its settings and the backbone's config alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModel

from data_prep.errors import InputError
from data_prep.task import Task
from models.backbones.checkpoint_files import SHIFTING, bare_encoder, keep_layers
from models.backbones.encoder_layers import parts_of
from models.backbones.family_memory import GIB, layer_bytes, layer_lengths, released_config
from models.backbones.locate_backbone import locate_backbone
from models.candidate import Candidate, Precision
from models.parts.build import new_head, new_loss

BACKWARD = 2
"""The way back computes two products for each of the forward pass: gradients of inputs, gradients of weights."""


@dataclass(frozen=True)
class ModelSize:
    """What a scorer consists of, as it is trained."""

    parameters: int
    """All of them, embeddings of the whole vocabulary included."""
    trained: int
    """Those that learn."""
    matrices: int
    """Those that learn and have two dimensions: what AWP perturbs."""
    embeddings: int
    """Those of the table of input embeddings."""
    multiplied: tuple[int, ...]
    """Weights that each token is multiplied with, of every layer in the order in which layers are applied."""
    config: Any
    """The backbone's, with the layers that are kept."""


@dataclass(frozen=True)
class Memory:
    """Peak memory of a fold run in bytes, part by part."""

    weights: float
    """4 bytes a parameter: weights stay in fp32."""
    gradients: float
    """4 bytes a parameter that learns."""
    optimizer: float
    """8 bytes a parameter that learns: AdamW's two moments in fp32."""
    copies: float
    """2 bytes a parameter that autocast keeps in half precision until the way back; 4 for each weight that `ema`, AWP
    or mixout remember."""
    activations: float
    """What waits for the way back, or what the largest layer needs in a prediction, whichever is more."""
    process: float
    """1 GiB: CUDA's context with its libraries' workspaces, or on a CPU the interpreter with its libraries."""

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.copies + self.activations + self.process


def backbone_config(name: str, *, folder: str | None = None) -> Any:
    """Return the config of a backbone: that of a folder that has it, else that of its family, else the hub's.

    Raises:
        InputError: none of them has it.
    """
    released = released_config(name)
    if released is not None:
        files = locate_backbone(name, folder) if "/" in name else None
        return files.config() if files and Path(files.place).is_dir() else released
    try:
        return locate_backbone(name, folder).config()
    except InputError as error:
        raise InputError(
            *error.faults,
            f"To plan with {name!r} only its config.json is needed: put it at DIR/{name}/config.json and give "
            "`--backbones DIR`",
        ) from error


def model_size(candidate: Candidate, task: Task, *, backbones: str | None = None) -> ModelSize:
    """Count the parameters of a candidate's scorer without building it: on torch's meta device, which has no memory.

    Raises:
        InputError: the backbone's sizes are not known, or it has fewer layers than the candidate keeps.
    """
    config = backbone_config(candidate.backbone, folder=backbones)
    if candidate.layers is not None:
        keep_layers(config, candidate.layers, candidate.backbone)
    with torch.device("meta"):
        encoder = bare_encoder(AutoModel.from_config(config))
        head = new_head(
            candidate,
            hidden_size=config.hidden_size,
            n_states=(config.decoder_layers if config.model_type in SHIFTING else config.num_hidden_layers) + 1,
            n_outputs=new_loss(candidate, task).n_outputs,
            n_targets=task.target.n_numbers,
        )
    parts = parts_of(encoder)
    frozen = parts[:1] if candidate.freeze_embeddings else []
    for part in [*frozen, *parts[1 : 1 + candidate.freeze_layers], *([] if candidate.head_lr else [head])]:
        part.requires_grad_(False)
    everything = [*encoder.parameters(), *head.parameters()]
    trained = [parameter for parameter in everything if parameter.requires_grad]
    layers = [_multiplied(layer) for layer in parts[1:]]
    n_applied = len(layer_lengths(config, 1))
    if len(layers) == 1:
        layers *= n_applied  # one layer, applied again and again
    return ModelSize(
        parameters=sum(parameter.numel() for parameter in everything),
        trained=sum(parameter.numel() for parameter in trained),
        matrices=sum(parameter.numel() for parameter in trained if parameter.ndim > 1),
        embeddings=encoder.get_input_embeddings().weight.numel(),
        multiplied=tuple(layers),
        config=config,
    )


def _multiplied(layer: nn.Module) -> int:
    """Return the weights of a layer that each token is multiplied with: those of its linear maps."""
    return sum(module.weight.numel() for module in layer.modules() if isinstance(module, nn.Linear))


def peak_memory(
    candidate: Candidate,
    size: ModelSize,
    *,
    training: tuple[int, int],
    prediction: tuple[int, int] = (0, 0),
    precision: Precision,
) -> Memory:
    """Return what a fold run needs at its largest batch, by the formula of `family_memory.training_memory`.

    Counts all layers' activations, learning or not, and all embeddings: an upper estimate but for an allocator's
    fragments. `training` and `prediction` have the texts of the largest batch and the tokens of the longest text.
    """
    element = 4 if precision == "fp32" else 2
    texts, tokens = -(-training[0] // candidate.accumulation), training[1]
    layers = layer_bytes(size.config, batch=texts, tokens=tokens, element=element)
    waiting = sum(layers)
    if candidate.checkpointing:
        inputs = element * size.config.hidden_size * texts
        waiting = max(layers) + sum(inputs * length for length, _ in layer_lengths(size.config, tokens))
    passing = max(layer_bytes(size.config, batch=prediction[0], tokens=prediction[1], element=element))
    remembered = (candidate.ema is not None) * size.trained
    remembered += (candidate.adversary == "awp") * size.matrices
    remembered += (candidate.mixout > 0) * sum(size.multiplied)
    return Memory(
        weights=4.0 * size.parameters,
        gradients=4.0 * size.trained,
        optimizer=8.0 * size.trained,
        copies=(0 if precision == "fp32" else 2.0 * size.parameters) + 4.0 * remembered,
        activations=max(waiting, passing - 4.0 * size.trained),  # there are no gradients while it predicts
        process=float(GIB),
    )


def forward_operations(size: ModelSize, *, texts: float, tokens: float) -> float:
    """Return the floating-point operations of one pass over padded texts, multiplications and additions both counted.

    2 N for each token, N the weights of the layers, and 4 s h for each token and attention over s tokens: queries with
    keys, probabilities with values (Kaplan et al. 2020, arXiv 2001.08361, table 1; with the way back this is the rule
    of 6 N). DeBERTa's disentangled attention adds, for each of its two terms, a product with the table of relative
    positions and the projection of that table once a pass. The head and the relative positions of Funnel are left out.
    """
    config, total = size.config, 0.0
    for weights, (length, attentions) in zip(size.multiplied, layer_lengths(config, tokens), strict=True):
        total += texts * length * (2 * weights + 4 * attentions * length * config.hidden_size)
        if getattr(config, "relative_attention", False):
            positions, terms = 2 * _span(config), len(config.pos_att_type)
            total += terms * 2 * positions * config.hidden_size * texts * length
            if getattr(config, "share_att_key", False):  # else its linear maps are counted with the layer's
                total += terms * 2 * positions * config.hidden_size**2
    return total


def _span(config: Any) -> int:
    """Return the relative positions, to one side, that DeBERTa's attention distinguishes."""
    buckets = int(getattr(config, "position_buckets", -1))
    if buckets > 0:
        return buckets
    far = int(config.max_relative_positions)
    return far if far > 0 else int(config.max_position_embeddings)


def step_passes(candidate: Candidate) -> float:
    """Return what a training step costs in forward passes, on average over all epochs.

    One forward, two for the way back, one more where layers are computed again; both once more while an adversary acts.
    """
    passes = 1 + BACKWARD + candidate.checkpointing
    acting = max(0.0, candidate.epochs - candidate.adversary_start) / candidate.epochs
    return passes * (1 + (acting if candidate.adversary != "none" else 0.0))
