"""`check_task`: whether a task has what a candidate's recipe and loss need, known before anything is built."""

from data_prep.errors import InputError
from data_prep.task import Task
from models.candidate import Candidate
from models.part_options import LOSS_OPTIONS
from models.text.recipes import RECIPES


def check_task(candidate: Candidate, task: Task) -> None:
    """Check that a candidate can be trained on a task.

    Raises:
        InputError: the task lacks a column that the recipe needs, or does not suit loss or heads; names all.
    """
    faults: list[str] = []
    try:
        RECIPES[candidate.recipe].layout(task, candidate)
    except InputError as error:
        faults += error.faults
    try:
        check_targets(candidate, task)
    except InputError as error:
        faults += error.faults
    if faults:
        raise InputError(*faults)


def check_targets(candidate: Candidate, task: Task) -> None:
    """Check that a candidate's loss and heads suit the targets and weights of a task; InputError."""
    if candidate.separate_heads and task.target.n_numbers == 1:
        raise InputError(f"separate_heads has no effect: task {task.name!r} has one number for each row; leave it out")
    loss = LOSS_OPTIONS[candidate.loss]
    if task.classes is not None:
        if not loss.for_classes:
            others = ", ".join(name for name, option in LOSS_OPTIONS.items() if option.for_classes)
            raise InputError(f"loss={candidate.loss} does not take classes, which task {task.name!r} has; use {others}")
        if candidate.label_width > 0:
            raise InputError(f"label_width has no effect on classes, which task {task.name!r} has; leave it out")
        return
    if loss.needs_levels:
        target_levels(task)
    if task.weight_column is not None and loss.compares_rows:
        suited = [name for name, option in LOSS_OPTIONS.items() if not option.compares_rows]
        others = ", ".join(name for name in suited if task.score_levels or not LOSS_OPTIONS[name].needs_levels)
        raise InputError(
            f"loss={candidate.loss} compares rows, which then cannot have weights, but task {task.name!r} has "
            f"weight_column {task.weight_column!r}: use {others}, or leave weight_column out"
        )


def target_levels(task: Task) -> tuple[float, ...]:
    """Return the legal targets of a task.

    Raises:
        InputError: the task names a range only.
    """
    if task.score_levels is None:
        raise InputError(
            f"losses over target levels need the legal targets: task {task.name!r} has score_range only; give "
            f"its task file score_levels, or use a loss such as mse, bce or gaussian_nll"
        )
    return task.score_levels
