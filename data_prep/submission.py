"""The gate before `submission.csv`: nothing passes that the competition would refuse."""

import csv
import io
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data_prep.combination import Floats
from data_prep.errors import InputError
from data_prep.task import Task

SHOWN = 5


def check_submission(ids: Sequence[str], prediction: Floats, *, expected: Sequence[str], task: Task) -> None:
    """Refuse a submission that does not fit the test table.

    Args:
        ids: one for each prediction.
        prediction: [rows].
        expected: the ids of the test table, in its order.
        task: fixes the range.

    Raises:
        InputError: ids missing, unknown, repeated or in another order; predictions not finite, outside the range of
            the task, or all the same; all faults at once.
    """
    faults = [*_id_faults(list(ids), list(expected)), *_value_faults(list(ids), prediction, task)]
    if faults:
        raise InputError(*(f"submission refused: {fault}" for fault in faults))


def render_submission(ids: Sequence[str], prediction: Floats, *, expected: Sequence[str], task: Task) -> bytes:
    """Check, then return the CSV as UTF-8, with the task's own column names.

    Raises:
        InputError: as `check_submission`.
    """
    check_submission(ids, prediction, expected=expected, task=task)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([task.id_column, task.score_column])
    writer.writerows((row, f"{value:.8g}") for row, value in zip(ids, prediction, strict=True))
    return text.getvalue().encode()


def _id_faults(ids: list[str], expected: list[str]) -> list[str]:
    if ids == expected:
        return []
    faults = []
    counts, known = Counter(ids), set(expected)
    if missing := [name for name in expected if name not in counts]:
        faults.append(f"{len(missing)} of {len(expected)} test ids are missing ({_show(missing)})")
    if unknown := [name for name in counts if name not in known]:
        faults.append(f"{len(unknown)} ids are not in the test table ({_show(unknown)})")
    if repeated := [name for name, times in counts.items() if times > 1]:
        faults.append(f"{len(repeated)} ids stand more than once ({_show(repeated)})")
    return faults or ["ids stand in another order than in the test table"]


def _value_faults(ids: list[str], prediction: Floats, task: Task) -> list[str]:
    if len(prediction) != len(ids):
        return [f"{len(prediction)} predictions for {len(ids)} ids"]
    finite = np.isfinite(prediction)
    if not finite.all():
        return [f"{int((~finite).sum())} predictions are NaN or infinite ({_show(_select(ids, ~finite))})"]
    faults = []
    outside = (prediction < task.least) | (prediction > task.greatest)
    if outside.any():
        faults.append(
            f"{int(outside.sum())} predictions are outside [{task.least:g}, {task.greatest:g}], the range of task "
            f"{task.name!r} ({_show(_select(ids, outside))})"
        )
    if len(prediction) > 1 and np.ptp(prediction) == 0.0:
        faults.append(f"all {len(prediction)} predictions are {prediction[0]:g}")
    return faults


def _select(ids: list[str], mask: NDArray[np.bool_]) -> list[str]:
    return [ids[row] for row in np.flatnonzero(mask)]


def _show(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
