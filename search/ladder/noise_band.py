"""How far apart two runs may be and still count as equal: over whole folds, and at a rung."""

import math

from search.ladder.settings import LadderSettings


def noise_band(squares: float, freedom: int, settings: LadderSettings) -> float:
    """Return the standard deviation over folds of the difference of two candidates.

    The errors that candidate and fold effects leave (their sum of squares and degrees of freedom are given) have
    variance s^2; a difference of two has 2 s^2. The prior `noise` counts for `prior_folds` degrees of freedom.
    """
    prior = settings.prior_folds
    return math.sqrt((prior * settings.noise**2 + 2 * squares) / (prior + freedom))


def rung_band(noise: float, squares: float, freedom: int, settings: LadderSettings) -> float:
    """Return how far behind the cut-off a run may be at a rung: the noise or what it can make up, the larger.

    What runs gain from there to the end of the fold (the sum of squared deviations from the mean of their family and
    its degrees of freedom are given) has variance g^2; a slow starter may be `z` standard deviations behind.
    """
    prior = settings.prior_folds
    growth = math.sqrt((prior * settings.growth**2 + squares) / (prior + freedom))
    return max(noise, settings.z * growth)
