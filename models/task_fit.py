"""`check_task`: whether a task has what a candidate's recipe and loss need, known before anything is built."""

from data_prep.errors import InputError
from data_prep.task import Task
from models.candidate import Candidate
from models.part_options import LOSS_OPTIONS
from models.text.recipes import RECIPES


def check_task(candidate: Candidate, task: Task) -> None:
    """Check that a candidate can be trained on a task.

    Raises:
        InputError: the task lacks a column that the recipe needs, or the levels that the loss needs; names both.
    """
    faults: list[str] = []
    try:
        RECIPES[candidate.recipe].layout(task, candidate)
    except InputError as error:
        faults += error.faults
    try:
        if LOSS_OPTIONS[candidate.loss].needs_levels:
            target_levels(task)
    except InputError as error:
        faults += error.faults
    if faults:
        raise InputError(*faults)


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
