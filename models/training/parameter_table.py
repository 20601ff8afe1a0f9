"""What the optimizer does to a candidate's parameters, as a table to print."""

import torch
from rich.table import Table

from data_prep.task import PPPM
from models.backbones.locate_backbone import locate_backbone
from models.candidate import Candidate
from models.training.build_learner import new_scorer
from models.training.optimizer import ParameterGroup


def describe_groups(candidate: Candidate, *, backbones: str | None = None) -> list[ParameterGroup]:
    """Return the parameter groups of a candidate, head first, then from the top layer down.

    The head is that of one number for each row. The embeddings are whole; a fold run leaves out the rows of tokens that
    its data lacks.

    Raises:
        InputError: the backbone cannot be loaded, or has fewer layers than a setting needs.
    """
    backbone = locate_backbone(candidate.backbone, backbones)
    one_head = candidate.model_copy(update={"separate_heads": False})
    return new_scorer(one_head, PPPM, backbone=backbone, device=torch.device("cpu"))[1]


def parameter_table(candidate: Candidate, *, backbones: str | None = None) -> Table:
    """Return the parameter groups of a candidate as a table to print; arguments and errors as `describe_groups`."""
    groups = describe_groups(candidate, backbones=backbones)
    trained = sum(group.n_parameters for group in groups if group.learns)
    table = Table(
        title=f"{candidate.label} ({candidate.id})",
        caption=f"{trained:,} of {sum(group.n_parameters for group in groups):,} parameters are trained",
        title_justify="left",
        caption_justify="left",
        box=None,
        pad_edge=False,
    )
    table.add_column("group", no_wrap=True)
    for name in ("peak rate", "decay", "tensors", "parameters"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for group in groups:
        rate, decay = (f"{group.rate:.3g}", f"{group.weight_decay:g}") if group.learns else ("", "")
        state = "trained" if group.learns else "frozen"
        table.add_row(group.name, rate, decay, str(len(group.parameters)), f"{group.n_parameters:,}", state)
    return table
