"""`NestedRanking`: several ways to predict, each compared with the best of them on rows that it was not fitted on."""

from dataclasses import dataclass

import numpy as np

from data_prep.scoring.combination import Floats
from data_prep.scoring.group_bootstrap import GroupBootstrap, PairedDifference


@dataclass(frozen=True, eq=False)
class NestedRanking:
    """Nested predictions by name, and how far each is behind the best."""

    predictions: dict[str, Floats]
    """[rows] each."""
    best: str
    """Name of the best; empty where none has a metric value."""
    behind: dict[str, PairedDifference]
    """Less the best, so 0 or less; predictions without a metric value, being constant, are left out."""


def rank_nested(predictions: dict[str, Floats], bootstrap: GroupBootstrap) -> NestedRanking:
    """Compare nested predictions with the best of them, in the order given, on the same draws of groups."""
    draws = bootstrap.draws(np.column_stack(list(predictions.values())))
    places = {name: place for place, name in enumerate(predictions) if np.isfinite(draws.value[place])}
    best = max(places, key=lambda name: draws.value[places[name]], default="")
    return NestedRanking(
        predictions, best, {name: draws.difference(place, places[best]) for name, place in places.items()}
    )
