"""`optuna_study`: candidates with their scores as a study of Optuna, for its plots and importances."""

from collections.abc import Mapping, Sequence
from typing import Any

LOGARITHMIC = 20.0
"""A positive setting whose values differ by this factor has a logarithmic axis."""


def optuna_study(values: Sequence[float], settings: Mapping[str, Sequence[Any]], *, maximize: bool) -> Any:
    """Return a study with one finished trial for each of `values`, in their order.

    `settings` are those in which the candidates differ: by name, a value for each candidate.
    """
    import optuna  # noqa: PLC0415 - slow to import

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize" if maximize else "minimize")
    columns = {name: [_plain(value) for value in column] for name, column in settings.items()}
    distributions = {name: _distribution(optuna.distributions, column) for name, column in columns.items()}
    columns = {name: _typed(column, distributions[name]) for name, column in columns.items()}
    for place, value in enumerate(values):
        parameters = {name: column[place] for name, column in columns.items()}
        study.add_trial(optuna.trial.create_trial(params=parameters, distributions=distributions, value=value))
    return study


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) or value is None else str(value)


def _distribution(known: Any, values: Sequence[Any]) -> Any:
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        return known.CategoricalDistribution(sorted({str(value) for value in values}))
    low, high = min(values), max(values)
    logarithmic = low > 0 and high / low >= LOGARITHMIC
    if all(isinstance(value, int) for value in values):
        return known.IntDistribution(low, high, log=logarithmic)
    return known.FloatDistribution(float(low), float(high), log=logarithmic)


def _typed(values: Sequence[Any], distribution: Any) -> list[Any]:
    return [str(value) if hasattr(distribution, "choices") else value for value in values]
