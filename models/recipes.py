"""Recipes: which phrases of a row, in which order, become its input text.

A recipe never joins strings: it names phrases, and the tokenizer's own separator stands between them
(`[CLS] anchor [SEP] target [SEP] context [SEP]`). `models.pools` puts the tokens together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from data_prep.errors import InputError
from data_prep.task import Task

if TYPE_CHECKING:
    from models.candidate import Candidate


@dataclass(frozen=True)
class Siblings:
    """Phrases of other rows that join a row's text.

    Rows are siblings when they agree in every `key` column. A row gets the distinct `column` phrases of its siblings
    without its own, shuffled anew in every epoch, as many whole ones as fit. Siblings never come from another pool:
    training rows see training rows of the same fold run, validation rows their fold, holdout and test rows their like.
    """

    column: str
    key: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """A recipe applied to one task."""

    columns: tuple[str, ...]
    """Columns of the prepared table whose phrases stand in a row's text, in this order."""
    yielding: tuple[str, ...] = ()
    """Columns that are cut to nothing before any other is cut, when a row is longer than its limit."""
    siblings: Siblings | None = None
    """What follows the columns, if anything."""
    packed: bool = False
    """All siblings share one text, and each row is scored from the tokens of its own phrase in it."""


@dataclass(frozen=True)
class Recipe:
    """A named way of turning rows into text; works by the roles of the task's text columns."""

    name: str
    summary: str
    layout: Callable[[Task, "Candidate"], Layout]
    """Raises `InputError` when the task lacks a column that the recipe needs."""
    options: tuple[str, ...] = ()
    """Fields of the candidate that this recipe heeds and others may not."""


def _pair(task: Task, candidate: "Candidate") -> Layout:  # noqa: ARG001
    return Layout(columns=task.text_columns[:2])


def _pair_context(task: Task, candidate: "Candidate") -> Layout:  # noqa: ARG001
    context = _context_text(task)
    return Layout(columns=(*_first_two(task), context), yielding=(context,))


def _grouped(task: Task, candidate: "Candidate") -> Layout:
    layout = _pair_context(task, candidate)
    anchor, target = _first_two(task)
    key = (anchor, task.cpc_column or task.text_columns[2])
    return Layout(layout.columns, yielding=layout.yielding, siblings=Siblings(column=target, key=key))


def _packed(task: Task, candidate: "Candidate") -> Layout:
    anchor, _ = _first_two(task)
    layout = _grouped(task, candidate)
    context = _context_text(task)
    return Layout((anchor, context), yielding=(context,), siblings=layout.siblings, packed=True)


def _first_two(task: Task) -> tuple[str, str]:
    if len(task.text_columns) < 2:
        raise InputError(
            f"recipe needs two texts per row, task {task.name!r} has only {list(task.text_columns)}; use recipe pair"
        )
    return task.text_columns[0], task.text_columns[1]


def _context_text(task: Task) -> str:
    if task.cpc_column is not None:
        return "context_text"
    if len(task.text_columns) == 3:
        return task.text_columns[2]
    raise InputError(
        f"recipe needs a context: task {task.name!r} has neither cpc_column nor a third text column "
        f"(text_columns is {list(task.text_columns)}); use recipe pair"
    )


RECIPES: dict[str, Recipe] = {
    "pair": Recipe("pair", "anchor, target", _pair),
    "pair_context": Recipe("pair_context", "anchor, target, context text", _pair_context),
    "grouped": Recipe(
        "grouped", "pair_context, then the other targets of the same anchor and context, shuffled per epoch", _grouped
    ),
    "packed": Recipe(
        "packed",
        "anchor, context text, then all targets of the two in one text; each row is scored from its target's tokens",
        _packed,
    ),
}
