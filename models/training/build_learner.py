"""Building what a candidate describes: its scorer, and the learner that trains it."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data_prep.task import Task
from models.backbones.checkpoint_files import BackboneFiles
from models.backbones.load_backbone import load_backbone
from models.candidate import Candidate
from models.parts.build import new_adversary, new_head, new_loss
from models.parts.fresh_layers import reinitialize_layers
from models.parts.losses import Loss
from models.parts.mixout import Mixout
from models.parts.scorer import Scorer
from models.training.devices import find_precision
from models.training.gradients import StepGradients
from models.training.learner import Learner
from models.training.optimizer import ParameterGroup, parameter_groups, trained_parameters


def new_learner(
    candidate: Candidate,
    task: Task,
    *,
    backbone: BackboneFiles,
    vocabulary: NDArray[np.int64],
    device: torch.device,
) -> Learner:
    """Build what `candidate` describes; the initial weights of head and fresh layers depend on its seed alone.

    Token ids of the vocabulary that the backbone lacks get new embeddings. With a kept backbone, adopt weights before
    you predict.

    Raises:
        InputError: the backbone cannot be loaded, or has fewer layers than a setting needs.
    """
    scorer, groups, loss = new_scorer(candidate, task, backbone=backbone, vocabulary=vocabulary, device=device)
    encoder: Any = scorer.backbone.model
    precision = find_precision(candidate.precision, device)
    gradients = StepGradients(
        scorer,
        loss,
        mixout=Mixout(scorer, candidate.mixout),
        adversary=new_adversary(
            candidate,
            embedding=encoder.get_input_embeddings().weight,
            matrices=[parameter for parameter in trained_parameters(groups) if parameter.ndim > 1],
        ),
        loss_scaler=torch.amp.GradScaler(device.type, enabled=precision == "fp16"),
        accumulation=candidate.accumulation,
        precision=precision,
        device=device,
    )
    return Learner(gradients, groups, candidate)


def new_scorer(
    candidate: Candidate,
    task: Task,
    *,
    backbone: BackboneFiles,
    vocabulary: NDArray[np.int64] | None = None,
    device: torch.device,
) -> tuple[Scorer, list[ParameterGroup], Loss]:
    """Build scorer, parameter groups and loss, as `new_learner` does; without a vocabulary the embeddings are whole."""
    loaded = load_backbone(candidate, backbone, vocabulary=vocabulary)
    if device.type == "cpu":
        encoder: Any = loaded.model.model
        encoder.set_attn_implementation("eager")  # torch's fused attention takes 2 to 5 times as long backwards
    loss = new_loss(candidate, task)
    torch.manual_seed(candidate.seed)
    head = new_head(
        candidate,
        hidden_size=loaded.hidden_size,
        n_states=loaded.n_states,
        n_outputs=loss.n_outputs,
        n_targets=task.target.n_numbers,
    )
    head.requires_grad_(candidate.head_lr > 0)
    if not loss.sees_level:
        for layer in head.last_layers:
            layer.bias.requires_grad_(False)  # type: ignore[union-attr]
    reinitialize_layers(loaded, candidate.reinit_layers)
    scorer = Scorer(loaded.model, head).to(device)
    return scorer, parameter_groups(loaded.model, loaded.layers, head, candidate), loss
