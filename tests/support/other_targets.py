"""Prepared data with other targets than one number."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.prepared import Prepared, train_schema
from data_prep.store.tables import column_names
from data_prep.task import Task


def with_targets(
    data: Prepared, targets: Mapping[str, np.ndarray], *, weights: np.ndarray | None = None, **settings: Any
) -> Prepared:
    """Return data of a task for the same task but with these targets [rows] by name; NaN is missing."""
    own = {"score_levels", "score_column", "score_columns", "score_range", "classes", "weight_column", "metric"}
    kept = data.task.model_dump(exclude=own)
    task = Task.model_validate({**kept, **settings, **({} if weights is None else {"weight_column": "weight"})})
    columns = {name: data.train[name] for name in data.train.column_names if name != "score"}
    names = column_names("score", list(targets)) if task.target.names else ["score"]
    columns |= {
        name: pa.array(column, pa.float32(), from_pandas=True)
        for name, column in zip(names, targets.values(), strict=True)
    }
    if weights is not None:
        columns["weight"] = pa.array(weights, pa.float32())
    schema = train_schema(task)
    train = pa.table({name: columns[name] for name in schema.names}, schema=schema)
    return dataclasses.replace(data, manifest=data.manifest.model_copy(update={"task": task}), train=train)


def several_numbers(data: Prepared, **settings: Any) -> Prepared:
    """Return data with two numbers for each row: the score, and 5 less 4 times the score; some are missing."""
    score = data.targets.astype(np.float64)
    missing = np.random.default_rng(0).integers(0, 5, len(score))
    targets = {"near": np.where(missing == 0, np.nan, score), "far": np.where(missing == 1, np.nan, 5 - 4 * score)}
    defaults = {"score_columns": list(targets), "score_range": [0, 5], "metric": "rmse"}
    return with_targets(data, targets, **{**defaults, **settings})


def three_classes(data: Prepared, **settings: Any) -> Prepared:
    """Return data with three classes, by the score: below 0.3, above 0.7, or between."""
    number = np.digitize(data.targets, [0.3, 0.7])
    classes = ["low", "mid", "high"]
    targets = dict(zip(classes, np.eye(3)[number].T, strict=True))
    defaults = {"score_column": "level", "classes": classes, "metric": "multiclass_log_loss"}
    return with_targets(data, targets, **{**defaults, **settings})
