"""Building a candidate's head, loss and adversary from its settings."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from data_prep.task import Task
from models.candidate import Candidate
from models.part_options import ADVERSARY_OPTIONS, LOSS_OPTIONS, PartOption
from models.parts.adversary import ADVERSARIES, Adversary
from models.parts.head_output import dropout_rates
from models.parts.heads import HEADS, Head, HeadSettings, SeparateHeads
from models.parts.losses import CLASSES_LOSSES, LOSSES, Loss, SeveralTargets
from models.task_fit import check_targets
from models.text.recipes import RECIPES


def new_head(candidate: Candidate, *, hidden_size: int, n_states: int, n_outputs: int, n_targets: int = 1) -> Head:
    """Build the candidate's head, or one for each target; initial weights come from torch's random stream."""
    n_heads = n_targets if candidate.separate_heads else 1
    rates = dropout_rates(candidate.head_dropout, samples=candidate.dropout_samples, graded=candidate.graded_dropout)
    settings = HeadSettings(
        hidden_size,
        n_states,
        n_outputs // n_heads,
        codes=RECIPES[candidate.recipe].codes,
        norm=candidate.head_norm,
        layers=candidate.head_layers,
        width=candidate.head_width,
        dropout_rates=rates,
    )
    heads = [HEADS[candidate.head](settings) for _ in range(n_heads)]
    return heads[0] if n_heads == 1 else SeparateHeads(heads)


def new_loss(candidate: Candidate, task: Task) -> Loss:
    """Build the candidate's loss for a task.

    Raises:
        InputError: the candidate does not suit the task's targets.
    """
    check_targets(candidate, task)
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
