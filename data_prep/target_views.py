"""`TargetView`: the targets of a task as questions that have one number for an answer.

A ladder, a blend and its evidence compare columns of numbers. So they see several targets one by one, each as if the
task had no other; and classes as cells, one for each row and class, the cells of a row one after the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_prep.errors import InputError, quote
from data_prep.prepared import Prepared
from data_prep.scoring.combination import Floats
from data_prep.store.tables import QUANTITIES, column_names
from data_prep.task import Task

Narrow = Callable[[pa.Table], pa.Table]
Number = TypeVar("Number", np.float32, np.float64)


@dataclass(frozen=True)
class TargetView:
    """One of the questions of a task."""

    name: str
    """The target's; empty where it is the only question."""
    task: Task
    narrow: Narrow
    """From a table of rows, with targets or predictions or both, to one with `score` or `prediction` or both."""
    cells: int = 1
    """Rows of the narrow table for each row."""

    def data(self, data: Prepared) -> Prepared:
        """Return prepared data with this question alone; hashes are those of the whole."""
        if not self.task.target.names and not self.name:
            return data
        manifest = data.manifest.model_copy(update={"task": self.task})
        return replace(data, manifest=manifest, train=self.narrow(data.train), test=self.narrow(data.test))

    def row_ids(self, ids: pa.Array) -> pa.Array:
        """Return the ids of the rows that the ids of a narrow table belong to, whole rows."""
        if self.cells == 1:
            return ids
        class_name = _cell_ids(pa.array([""]), self.task.target.names[:1])[0].as_py()
        return pc.utf8_slice_codeunits(ids.take(pa.array(np.arange(0, len(ids), self.cells))), 0, -len(class_name))


def target_views(task: Task) -> tuple[TargetView, ...]:
    """Return the questions of a task, in the order of its targets."""
    names = task.target.names
    if task.classes is not None:
        return (TargetView("", task, partial(_cells_of, names=names), cells=len(names)),)
    if not names:
        return (TargetView("", task, _unchanged),)
    return tuple(TargetView(name, _alone(task, name), partial(_column_of, name=name, names=names)) for name in names)


def find_view(task: Task, name: str | None) -> TargetView:
    """Return the question of a target; None: the only one.

    Raises:
        InputError: there is no such target, or none is named where there are several.
    """
    views = target_views(task)
    if name is None and len(views) == 1:
        return views[0]
    found = [view for view in views if view.name == name and name]
    if not found:
        known = ", ".join(view.name for view in views if view.name) or "none, it has a single one"
        what = "a target must be named" if name is None else f"no target {quote(name)}"
        raise InputError(f"task {task.name!r}: {what}; known: {known}")
    return found[0]


def narrowest(table: pa.Table, task: Task) -> pa.Table:
    """Return a table with the task's one question in narrow columns; with several, as it is."""
    views = target_views(task)
    return views[0].narrow(table) if len(views) == 1 else table


def parted(numbers: NDArray[Number], views: Sequence[TargetView]) -> list[NDArray[Number]]:
    """Return the numbers of each view, narrow, for those of all of them, [rows] or [rows, numbers]."""
    ends = np.cumsum([view.cells for view in views])[:-1]
    return [part.ravel() for part in np.split(numbers.reshape(len(numbers), -1), ends, axis=1)]


def joined(parts: Sequence[Floats], views: Sequence[TargetView]) -> Floats:
    """Return numbers [rows] or [rows, numbers] for those of each view, narrow: what `parted` takes apart."""
    table = np.column_stack([part.reshape(-1, view.cells) for part, view in zip(parts, views, strict=True)])
    return table[:, 0] if table.shape[1] == 1 else table


def _alone(task: Task, name: str) -> Task:
    settings = task.model_dump(exclude={"score_columns"}) | {"score_column": name}
    return Task.model_validate(settings)


def _unchanged(table: pa.Table) -> pa.Table:
    return table


def _column_of(table: pa.Table, *, name: str, names: tuple[str, ...]) -> pa.Table:
    """Return the rows that have a target, or those of a table without targets, with that target's columns alone."""
    for quantity in QUANTITIES:
        if (own := f"{quantity}_{name}") in table.column_names:
            place = table.column_names.index(own)
            table = table.set_column(place, quantity, table[own])
        others = [column for column in column_names(quantity, names) if column in table.column_names]
        table = table.drop_columns(others)
    if "score" in table.column_names and table["score"].null_count:
        return table.filter(pc.is_valid(table["score"]))
    return table


def _cells_of(table: pa.Table, *, names: tuple[str, ...]) -> pa.Table:
    """Return a row for each row and class, whose id names both."""
    n_rows, n_classes = table.num_rows, len(names)
    every = pa.array(np.repeat(np.arange(n_rows), n_classes))
    columns = {}
    for name in table.column_names:
        quantity = next((each for each in QUANTITIES if name in column_names(each, names)), None)
        if quantity is None:
            columns[name] = table[name].take(every)
        elif quantity not in columns:
            wide = [table[column].to_numpy() for column in column_names(quantity, names)]
            columns[quantity] = pa.array(np.column_stack(wide).ravel(), pa.float32())
    if "id" in columns:
        columns["id"] = _cell_ids(columns["id"], list(names) * n_rows)
    return pa.table(columns)


def _cell_ids(ids: pa.Array, classes: Sequence[str]) -> pa.Array:
    return pc.binary_join_element_wise(ids, pa.array(classes, pa.string()), " = ")
