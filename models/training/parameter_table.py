"""What the optimizer does to a candidate's parameters, as a table to print."""

from dataclasses import dataclass

import torch
from rich.table import Table

from data_prep.task import PPPM
from models.backbones.locate_backbone import locate_backbone
from models.candidate import Candidate
from models.training.build_learner import new_scorer


@dataclass(frozen=True)
class GroupRow:
    """One parameter group."""

    name: str
    rate: float
    """Peak learning rate; 0 where the parameters are frozen."""
    weight_decay: float
    n_tensors: int
    n_parameters: int

    @property
    def state(self) -> str:
        """Whether the group learns."""
        return "trained" if self.rate > 0 else "frozen"


def describe_groups(candidate: Candidate, *, backbones: str | None = None) -> list[GroupRow]:
    """Return the parameter groups of a candidate, head first, then from the top layer down.

    The embeddings are counted whole; a fold run leaves out the rows of tokens that its data lacks.

    Args:
        candidate: what to explain.
        backbones: folder where hub names are looked up first.

    Raises:
        InputError: the backbone cannot be loaded, or has fewer layers than a setting needs.
    """
    backbone = locate_backbone(candidate.backbone, backbones)
    _, groups, _ = new_scorer(candidate, PPPM, backbone=backbone, device=torch.device("cpu"))
    return [
        GroupRow(
            group.name,
            group.rate,
            group.weight_decay,
            len(group.parameters),
            sum(parameter.numel() for parameter in group.parameters),
        )
        for group in groups
    ]


def parameter_table(candidate: Candidate, *, backbones: str | None = None) -> Table:
    """Return the parameter groups of a candidate as a table to print; arguments and errors as `describe_groups`."""
    rows = describe_groups(candidate, backbones=backbones)
    trained = sum(row.n_parameters for row in rows if row.rate > 0)
    table = Table(
        title=f"{candidate.label} ({candidate.id})",
        caption=f"{trained:,} of {sum(row.n_parameters for row in rows):,} parameters are trained",
        title_justify="left",
        caption_justify="left",
        box=None,
        pad_edge=False,
    )
    table.add_column("group", no_wrap=True)
    for name in ("peak rate", "decay", "tensors", "parameters"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in rows:
        rate, decay = (f"{row.rate:.3g}", f"{row.weight_decay:g}") if row.rate > 0 else ("", "")
        table.add_row(row.name, rate, decay, str(row.n_tensors), f"{row.n_parameters:,}", row.state)
    return table
