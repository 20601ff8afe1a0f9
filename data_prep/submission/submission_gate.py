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
from data_prep.task import Task

SHOWN = 5


@dataclass(frozen=True)
class SubmissionFormat:
    """The format of a submission: its two columns and the order of its rows."""

    id_column: str
    score_column: str
    ids: tuple[str, ...]
    """Every test id once, in the order of the rows."""
    id_first: bool = True
    """Whether the id is the first column."""


def read_sample_submission(path: str, expected_ids: Sequence[str], task: Task) -> SubmissionFormat:
    """Read the format (not the scores) of a `sample_submission.csv`; its id column has the task's name or comes first.

    Raises:
        InputError: not a UTF-8 CSV file, not two columns, ids missing, unknown or repeated; all faults at once.
    """
    faults = InputFaults()
    header = read_header(path, faults)
    if header is None:
        faults.raise_all()
    assert header is not None
    if len(header) != 2:
        faults.add(
            path,
            "a sample submission has two columns, an id and a score, with a comma between them; line 1 has "
            f"{len(header)} ({', '.join(map(quote, header))})",
        )
        faults.raise_all()
    if any(not _is_text(name) for name in header):
        faults.add(path, "column names must be UTF-8 text; save the file as UTF-8")
    id_column = task.submission_id if task.submission_id in header else header[0]
    score_column = header[1 - header.index(id_column)]
    records = read_records(path, required=[id_column], optional=[score_column], faults=faults)
    ids = records.table[id_column].to_pylist() if records else []
    for fault in _set_faults(ids, list(expected_ids)) if records else []:
        faults.add(f"{path}, column {id_column}", fault)
    faults.raise_all()
    return SubmissionFormat(id_column, score_column, tuple(ids), id_first=header[0] == id_column)


def clip(prediction: Floats, task: Task) -> tuple[Floats, int]:
    """Return predictions moved to the nearest legal score, and how many; those not finite stay, to be refused."""
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
    form = form or SubmissionFormat(task.submission_id, task.score_column, tuple(expected))
    if faults := _set_faults(list(form.ids), list(expected)):
        raise InputError(*(f"submission refused: in the sample submission {fault}" for fault in faults))
    spelled = {row: _spell(float(value), task) for row, value in zip(ids, prediction, strict=True)}
    rows = [(form.id_column, form.score_column), *((row, spelled[row]) for row in form.ids)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows if form.id_first else [row[::-1] for row in rows])
    return text.getvalue().encode()


def _spell(value: float, task: Task) -> str:
    """Return eight digits, or all digits if rounding would leave the range (2/3 becomes 0.66666667)."""
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
    finite = np.isfinite(prediction)
    if not finite.all():
        return [f"{int((~finite).sum())} predictions are NaN or infinite ({_show(_select(ids, ~finite))})"]
    faults = []
    outside = _outside(prediction, task)
    if outside.any():
        beyond = np.maximum(task.least - prediction, prediction - task.greatest)
        worst = int(np.argmax(beyond))
        faults.append(
            f"{int(outside.sum())} of {len(ids)} predictions are outside [{task.least:g}, {task.greatest:g}], the "
            f"range of task {task.name!r} ({_show(_select(ids, outside))}), the worst is {prediction[worst]:g} of "
            f"{ids[worst]}; use --clip to move them to the nearest legal score"
        )
    written = {_spell(float(value), task) for value in prediction}
    if len(prediction) > 1 and len(written) == 1:
        faults.append(f"all {len(prediction)} predictions are {written.pop()}")
    return faults


def _outside(prediction: Floats, task: Task) -> NDArray[np.bool_]:
    return (prediction < task.least) | (prediction > task.greatest)


def _select(ids: list[str], mask: NDArray[np.bool_]) -> list[str]:
    return [ids[row] for row in np.flatnonzero(mask)]


def _show(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
