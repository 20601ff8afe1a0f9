"""Recipes: which phrases of a row, in which order, become its input text; they name phrases and never join strings."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from data_prep.errors import InputError
from data_prep.task import Task
from models.candidate import Candidate

MASK = "MASK"
"""Stands for the tokenizer's mask token in connective words."""
CLOZE = ("in the field of", "the phrase", f"means {MASK}")
"""Connective words of `prompt`, ahead of context text, anchor and target."""


@dataclass(frozen=True)
class Siblings:
    """Phrases of other rows that join a row's text.

    Rows are siblings when they agree in every `key` column. A row gets distinct `column` phrases of its siblings, as
    many whole ones as fit, and only from its own pool: training rows of the same fold run, the validation fold, holdout
    or test rows. So a validation row sees what it would see of the test file's phrases; targets are never seen.
    """

    column: str
    key: tuple[str, ...]
    section_of: str | None = None
    """A key column of CPC codes; only their section counts."""
    arranged: Literal["listed", "packed", "marked"] = "listed"
    """`listed`: after the row's columns. `packed`: all rows of a group share one text, and each is scored from the
    tokens of its own phrase in it. `marked`: like listed, with the row's own phrase, between two markers, in its
    shuffled place among them."""
    own: bool = False
    """Whether the row's own phrase is listed with the others; ignored where it stands among them anyway."""
    limit: int | None = None
    """Siblings at most, the first in order; None: as many as fit."""
    shuffled: bool = True
    """A random order in every epoch; else the order of the pool's rows."""


@dataclass(frozen=True)
class Layout:
    """A recipe applied to one task."""

    columns: tuple[str, ...]
    """Columns of the prepared table whose phrases stand in a row's text, in this order."""
    yielding: tuple[str, ...] = ()
    """Columns that are cut to nothing before any other is cut, when a row is longer than its limit."""
    siblings: Siblings | None = None
    """What follows the columns, if anything."""
    segments: bool = False
    """The last column is a second segment; the tokenizer's own joint between two texts stands ahead of it."""
    words: tuple[str, ...] = ()
    """Connective words ahead of each column, instead of separators between them; where they hold the tokenizer's mask
    token, the row is scored from it."""


@dataclass(frozen=True)
class Recipe:
    """A way of turning rows into text; works by the roles of the task's text columns."""

    layout: Callable[[Task, Candidate], Layout]
    """Raises `InputError` when the task lacks a column that the recipe or the candidate's settings need."""
    codes: bool = False
    """Batches carry each row's CPC section and class number for the head."""


def _pair(task: Task, candidate: Candidate) -> Layout:  # noqa: ARG001
    return Layout(columns=task.text_columns[:2])


def _pair_context(task: Task, candidate: Candidate) -> Layout:
    context = _context(task, candidate)
    return Layout(columns=(*_first_two(task), context), yielding=(context,))


def _context_first(task: Task, candidate: Candidate) -> Layout:
    context = _context(task, candidate)
    return Layout(columns=(context, *_first_two(task)), yielding=(context,))


def _two_segments(task: Task, candidate: Candidate) -> Layout:
    return replace(_context_first(task, candidate), segments=True)


def _code_embedding(task: Task, candidate: Candidate) -> Layout:  # noqa: ARG001
    if task.cpc_column is None:
        raise InputError(
            f"recipe code_embedding needs CPC codes: task {task.name!r} has no cpc_column; use recipe pair"
        )
    return Layout(columns=_first_two(task), segments=True)


def _grouped(task: Task, candidate: Candidate) -> Layout:
    return replace(_pair_context(task, candidate), siblings=_siblings(task, candidate))


def _anchor_and_group(task: Task, candidate: Candidate, *, arranged: Literal["packed", "marked"]) -> Layout:
    context = _context(task, candidate)
    siblings = replace(_siblings(task, candidate), arranged=arranged)
    return Layout(columns=(_first_two(task)[0], context), yielding=(context,), siblings=siblings)


def _prompt(task: Task, candidate: Candidate) -> Layout:
    return replace(_context_first(task, candidate), words=CLOZE)


def _texts(task: Task, candidate: Candidate) -> Layout:
    _check_form(task, candidate)
    columns = tuple(_context(task, candidate) if name == task.cpc_column else name for name in task.text_columns)
    return Layout(columns=columns, words=task.text_labels or ())


def _siblings(task: Task, candidate: Candidate) -> Siblings:
    anchor, phrase = _first_two(task)
    by_section = candidate.sibling_scope == "section"
    if by_section and task.cpc_column is None:
        raise InputError(f"sibling_scope=section needs CPC codes: task {task.name!r} has no cpc_column; leave it out")
    return Siblings(
        column=phrase,
        key=(anchor, task.cpc_column or task.text_columns[2]),
        section_of=task.cpc_column if by_section else None,
        own=candidate.own_target == "kept",
        limit=candidate.max_siblings,
        shuffled=candidate.shuffle_siblings,
    )


def _first_two(task: Task) -> tuple[str, str]:
    if len(task.text_columns) < 2:
        raise InputError(
            f"recipe needs two texts per row, task {task.name!r} has only {list(task.text_columns)}; use recipe pair"
        )
    return task.text_columns[0], task.text_columns[1]


def _context(task: Task, candidate: Candidate) -> str:
    if task.cpc_column is not None:
        return task.cpc_column if candidate.context == "code" else "context_text"
    if len(task.text_columns) < 3:
        raise InputError(
            f"recipe needs a context: task {task.name!r} has neither cpc_column nor a third text column "
            f"(text_columns is {list(task.text_columns)}); use recipe pair"
        )
    _check_form(task, candidate)
    return task.text_columns[2]


def _check_form(task: Task, candidate: Candidate) -> None:
    if task.cpc_column is None and candidate.context != "full":
        raise InputError(
            f"context={candidate.context} needs CPC codes: task {task.name!r} has no cpc_column; leave context out"
        )


RECIPES: dict[str, Recipe] = {
    "pair": Recipe(_pair),
    "pair_context": Recipe(_pair_context),
    "context_first": Recipe(_context_first),
    "two_segments": Recipe(_two_segments),
    "code_embedding": Recipe(_code_embedding, codes=True),
    "grouped": Recipe(_grouped),
    "packed": Recipe(partial(_anchor_and_group, arranged="packed")),
    "marked": Recipe(partial(_anchor_and_group, arranged="marked")),
    "prompt": Recipe(_prompt),
    "texts": Recipe(_texts),
}
"""Name -> recipe; `models.part_options` says what each is and which settings it has."""
