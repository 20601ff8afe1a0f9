"""The last checks before `submission.csv`: it is refused here if the competition would refuse it."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import InputError, InputFaults, quote
from data_prep.scoring.combination import Floats
from data_prep.store.table_records import read_header, read_records
from data_prep.target_views import parted, target_views
from data_prep.task import Task

SHOWN = 5


@dataclass(frozen=True)
class SubmissionFormat:
    """The format of a submission: its columns and the order of its rows."""

    id_column: str
    columns: tuple[str, ...]
    """In their order, the id's among them; a single other one may have any name."""
    ids: tuple[str, ...]
    """Every test id once, in the order of the rows."""


def read_sample_submission(path: str, expected_ids: Sequence[str], task: Task) -> SubmissionFormat:
    """Read the format (not the scores) of a `sample_submission.csv`; its id column has the task's name or comes first.

    Raises:
        InputError: not a UTF-8 CSV file, other columns than the task's metric asks for, ids missing, unknown or
            repeated; all faults at once.
    """
    faults = InputFaults()
    header = read_header(path, faults)
    if header is None:
        faults.raise_all()
    assert header is not None
    id_column = task.submission_id if task.submission_id in header else header[0]
    values = [name for name in header if name != id_column]
    if fault := _header_fault(header, values, task):
        faults.add(path, fault)
        faults.raise_all()
    if any(not _is_text(name) for name in header):
        faults.add(path, "column names must be UTF-8 text; save the file as UTF-8")
    records = read_records(path, required=[id_column], optional=values, faults=faults)
    ids = records.table[id_column].to_pylist() if records else []
    for fault in _set_faults(ids, list(expected_ids)) if records else []:
        faults.add(f"{path}, column {id_column}", fault)
    faults.raise_all()
    return SubmissionFormat(id_column, tuple(header), tuple(ids))


def _header_fault(header: Sequence[str], values: Sequence[str], task: Task) -> str | None:
    """Return what is wrong with the columns of a sample submission, `values` being all but the id's."""
    needed = _value_columns(task)
    if len(needed) == 1:
        if len(header) == 2:
            return None
        return (
            "a sample submission has two columns, an id and a score, with a comma between them; line 1 has "
            f"{len(header)} ({', '.join(map(quote, header))})"
        )
    missing, extra = (
        [name for name in one if name not in other] for one, other in ((needed, values), (values, needed))
    )
    found = [f"lacks {', '.join(map(quote, missing))}"] if missing else []
    found += [f"has {', '.join(map(quote, extra))}, which the task does not know"] if extra else []
    if not found:
        return None
    return (
        f"a sample submission of task {task.name!r} has an id and the columns {', '.join(map(quote, needed))}, "
        f"in any order; line 1 {' and '.join(found)}"
    )


def _value_columns(task: Task) -> tuple[str, ...]:
    """Return the columns of a submission but for its id, in the task's order."""
    nothing = np.empty((0, task.target.n_numbers) if task.target.names else 0)
    return tuple(task.target.submitted(nothing, task.metric))


def clip(prediction: Floats, task: Task) -> tuple[Floats, int]:
    """Return predictions moved to the nearest legal score, and how many; those not finite stay, to be refused."""
    prediction = task.target.finished(prediction)
    outside = np.isfinite(prediction) & _outside(prediction, task)
    return np.where(outside, np.clip(prediction, task.least, task.greatest), prediction), int(outside.sum())


def check_submission(ids: Sequence[str], prediction: Floats, *, expected: Sequence[str], task: Task) -> None:
    """Refuse a submission that does not fit the test table, whose ids in its order are `expected`.

    Raises:
        InputError: all faults of ids and their order; predictions not finite, out of range (see `clip`), all the same.
    """
    wrong = (
        []
        if list(ids) == list(expected)
        else _set_faults(list(ids), list(expected)) or ["ids are in another order than in the test table"]
    )
    faults = [*wrong, *_value_faults(list(ids), prediction, task)]
    if faults:
        raise InputError(*(f"submission refused: {fault}" for fault in faults))


def render_submission(
    ids: Sequence[str],
    prediction: Floats,
    *,
    expected: Sequence[str],
    task: Task,
    form: SubmissionFormat | None = None,
) -> bytes:
    """Check, then return the CSV as UTF-8; without `form` it has the task's names and the test's order.

    Raises:
        InputError: as `check_submission`, or `form` has other ids than the test.
    """
    check_submission(ids, prediction, expected=expected, task=task)
    columns = task.target.submitted(prediction, task.metric)
    form = form or SubmissionFormat(task.submission_id, (task.submission_id, *columns), tuple(expected))
    if faults := _set_faults(list(form.ids), list(expected)):
        raise InputError(*(f"submission refused: in the sample submission {fault}" for fault in faults))
    if len(columns) == 1:
        columns = dict(zip((name for name in form.columns if name != form.id_column), columns.values(), strict=True))
    place = {row: number for number, row in enumerate(ids)}
    spelled = {name: [_spell(value, task) for value in values] for name, values in columns.items()}
    spelled[form.id_column] = list(ids)
    rows = [form.columns, *([spelled[name][place[row]] for name in form.columns] for row in form.ids)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _spell(value: float | str, task: Task) -> str:
    """Return eight digits, or all digits if rounding would leave the range (2/3 becomes 0.66666667); texts stay."""
    if isinstance(value, str):
        return value
    value = float(value)
    text = f"{value:.8g}"
    return text if task.least <= float(text) <= task.greatest else repr(value)


def _is_text(name: str) -> bool:
    """Tell whether a name is valid UTF-8 in its file (other bytes are read as surrogates)."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _set_faults(ids: list[str], expected: list[str]) -> list[str]:
    """Return how `ids` differ from `expected` as sets, and which repeat."""
    faults = []
    counts, known = Counter(ids), set(expected)
    if missing := [name for name in expected if name not in counts]:
        faults.append(f"{len(missing)} of {len(expected)} test ids are missing ({_show(missing)})")
    if unknown := [name for name in counts if name not in known]:
        faults.append(f"{len(unknown)} ids are not in the test table ({_show(unknown)})")
    if repeated := [name for name, times in counts.items() if times > 1]:
        faults.append(f"{len(repeated)} ids occur more than once ({_show(repeated)})")
    return faults


def _value_faults(ids: list[str], prediction: Floats, task: Task) -> list[str]:
    if len(prediction) != len(ids):
        return [f"{len(prediction)} predictions for {len(ids)} ids"]
    finite = np.asarray(np.isfinite(prediction).reshape(len(ids), -1).all(axis=1))
    if not finite.all():
        return [f"{int((~finite).sum())} predictions are NaN or infinite ({_show(_select(ids, ~finite))})"]
    columns = task.target.submitted(prediction, task.metric)
    faults = []
    for name, values in columns.items():
        what = f"predictions of {quote(name)}" if len(columns) > 1 else "predictions"
        if isinstance(values, np.ndarray):
            faults += _range_faults(ids, values, task, what)
    views = target_views(task)
    for view, part in zip(views, parted(prediction, views), strict=True):
        written = {tuple(_spell(value, task) for value in row) for row in part.reshape(-1, view.cells)}
        if len(ids) > 1 and len(written) == 1:
            what = f"predictions of {quote(view.name)}" if view.name else "predictions"
            faults.append(f"all {len(ids)} {what} are {' '.join(written.pop())}")
    return faults


def _range_faults(ids: list[str], prediction: Floats, task: Task, what: str) -> list[str]:
    outside = _outside(prediction, task)
    if not outside.any():
        return []
    beyond = np.maximum(task.least - prediction, prediction - task.greatest)
    worst = int(np.argmax(beyond))
    return [
        f"{int(outside.sum())} of {len(ids)} {what} are outside [{task.least:g}, {task.greatest:g}], the "
        f"range of task {task.name!r} ({_show(_select(ids, outside))}), the worst is {prediction[worst]:g} of "
        f"{ids[worst]}; use --clip to move them to the nearest legal score"
    ]


def _outside(prediction: Floats, task: Task) -> NDArray[np.bool_]:
    return (prediction < task.least) | (prediction > task.greatest)


def _select(ids: list[str], mask: NDArray[np.bool_]) -> list[str]:
    return [ids[row] for row in np.flatnonzero(mask)]


def _show(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
