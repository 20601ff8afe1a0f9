"""What a blend predicts for the rows of each true score."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_prep.scoring.combination import Floats

BINS = 10
"""Groups of rows with similar scores, where any score is legal."""


@dataclass(frozen=True)
class LevelPredictions:
    """The predictions for the rows of one true score, or of one range of scores."""

    name: str
    level: float
    """The true score; of a range the mean."""
    rows: int
    mean: float
    quantiles: tuple[float, float, float, float, float]
    """5, 25, 50, 75 and 95 % of the predictions are lower."""


def by_level(target: Floats, prediction: Floats, levels: Sequence[float] | None) -> tuple[LevelPredictions, ...]:
    """Return the predictions for each true score; where any score is legal, for each tenth of the rows."""
    if levels and len(levels) <= 2 * BINS:
        parts = [(f"{level:g}", np.flatnonzero(np.isclose(target, level))) for level in levels]
    else:
        tenths = [part for part in np.array_split(np.argsort(target, kind="stable"), BINS) if len(part)]
        parts = [(f"{target[part].min():.3g} to {target[part].max():.3g}", part) for part in tenths]
    return tuple(_level(name, target[rows], prediction[rows]) for name, rows in parts if len(rows))


def _level(name: str, target: Floats, prediction: Floats) -> LevelPredictions:
    low, quarter, middle, upper, high = np.quantile(prediction, [0.05, 0.25, 0.5, 0.75, 0.95]).tolist()
    return LevelPredictions(
        name, float(target.mean()), len(target), float(prediction.mean()), (low, quarter, middle, upper, high)
    )
