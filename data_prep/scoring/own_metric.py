"""`own_metric`: a metric that a person wrote, a function `metric(target, prediction)` in a Python file."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data_prep.errors import InputError
from data_prep.scoring.class_metrics import to_shares
from data_prep.scoring.metrics import Metric, Targets

SIGN = ".py:"
"""Between the name of the file and that of the function: `metric.py:score`."""


def own_metric(name: str, source: str, targets: Targets) -> Metric:
    """Return the metric that function `file.py:function` is, for numbers or classes; `source` is the file's text.

    Raises:
        InputError: the file cannot be run, or has no such function with `greater_is_better`.
    """
    function = _function(name, source)

    def measure(target: ArrayLike, prediction: ArrayLike) -> float:
        made = to_shares(prediction) if targets is Targets.CLASSES else np.array(prediction, np.float64)
        try:
            return float(function(np.array(target, np.float64), made))
        except Exception as error:
            raise InputError(f"metric {name}: fails with {type(error).__name__}: {error}") from error

    return Metric(name, measure, greater_is_better=function.greater_is_better, targets=targets)


@lru_cache(maxsize=8)
def _function(name: str, source: str) -> Any:
    file, _, wanted = name.rpartition(":")
    variables: dict[str, Any] = {"__name__": "own_metric"}
    try:
        exec(compile(source, file, "exec"), variables)
    except Exception as error:
        raise InputError(f"{file}: cannot be run ({type(error).__name__}: {error})") from error
    function = variables.get(wanted)
    if not isinstance(function, Callable):  # type: ignore[arg-type]
        raise InputError(f"{file}: has no function {wanted!r}, which the task's metric names")
    if not isinstance(getattr(function, "greater_is_better", None), bool):
        raise InputError(f"{file}: say which way is better: `{wanted}.greater_is_better = True` or `False`, below it")
    return function


def check_own_metric(metric: Metric, truth: NDArray[np.float64]) -> None:
    """Check a metric on made-up targets [rows] or [rows, classes]: the truth, the same out of order, a constant.

    Raises:
        InputError: it fails, is not a finite number for the first two, or finds the truth worse.
    """
    noise = np.random.default_rng(0).permutation(truth)
    best, other = metric(truth, truth), metric(truth, noise)
    metric(truth, np.broadcast_to(truth.mean(axis=0), truth.shape))
    if not np.isfinite([best, other]).all():
        raise InputError(f"metric {metric.name}: must be a finite number, is {best} for the truth, {other} for noise")
    if metric.utility(best) < metric.utility(other):
        raise InputError(
            f"metric {metric.name}: noise scores {other:g}, the truth only {best:g}; is greater_is_better = "
            f"{metric.greater_is_better} right?"
        )
