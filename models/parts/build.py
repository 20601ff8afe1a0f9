"""Building a candidate's head, loss and adversary from its settings."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from data_prep.task import Task
from models.candidate import Candidate
from models.part_options import ADVERSARY_OPTIONS, LOSS_OPTIONS, PartOption
from models.parts.adversary import ADVERSARIES, Adversary
from models.parts.head_output import dropout_rates
from models.parts.heads import HEADS, Head, HeadSettings
from models.parts.losses import CLASSES_LOSSES, LOSSES, Loss, SeveralTargets
from models.task_fit import check_loss
from models.text.recipes import RECIPES


def new_head(candidate: Candidate, *, hidden_size: int, n_states: int, n_outputs: int) -> Head:
    """Build the candidate's head; its initial weights come from torch's random stream."""
    rates = dropout_rates(candidate.head_dropout, samples=candidate.dropout_samples, graded=candidate.graded_dropout)
    settings = HeadSettings(
        hidden_size,
        n_states,
        n_outputs,
        codes=RECIPES[candidate.recipe].codes,
        norm=candidate.head_norm,
        layers=candidate.head_layers,
        width=candidate.head_width,
        dropout_rates=rates,
    )
    return HEADS[candidate.head](settings)


def new_loss(candidate: Candidate, task: Task) -> Loss:
    """Build the candidate's loss for a task.

    Raises:
        InputError: the loss does not suit the task.
    """
    check_loss(candidate, task)
    settings = _settings(candidate, LOSS_OPTIONS[candidate.loss])
    if task.classes is not None:
        return CLASSES_LOSSES[candidate.loss](task=task, **settings)
    loss = LOSSES[candidate.loss](task=task, **settings)
    return SeveralTargets(task=task, loss=loss) if task.target.names else loss


def new_adversary(candidate: Candidate, *, embedding: nn.Parameter, matrices: Sequence[nn.Parameter]) -> Adversary:
    """Build the candidate's adversary; `matrices` are the trained weights with two or more dimensions."""
    settings = _settings(candidate, ADVERSARY_OPTIONS[candidate.adversary])
    return ADVERSARIES[candidate.adversary](embedding=embedding, matrices=matrices, **settings)


def _settings(candidate: Candidate, option: PartOption) -> Mapping[str, Any]:
    return {name: getattr(candidate, name) for name in option.settings}
