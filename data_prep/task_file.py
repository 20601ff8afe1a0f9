"""`read_task`: a task from its file, with the source of a metric that a person wrote."""

import re
from pathlib import Path

from data_prep.errors import InputError
from data_prep.scoring.own_metric import check_own_metric
from data_prep.store.files import open_file
from data_prep.store.yaml_documents import read_document
from data_prep.task import Task


def read_task(path: str | Path) -> Task:
    """Read a task file; a metric `file.py:function` is read from beside it, and tried on made-up targets.

    Raises:
        InputError: every fault of the task, or the first of the metric's file.
    """
    task = read_document(path, Task)
    if not task.has_own_metric:
        return task
    place = re.sub(r"[^/]*$", "", str(path)) + task.metric.rpartition(":")[0]
    try:
        with open_file(place) as file:
            source = file.read().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{place}: the file of metric {task.metric} cannot be read ({error})") from error
    settled = task.model_copy(update={"metric_source": source})
    check_own_metric(settled.measure, settled.target.made_up())
    return settled
