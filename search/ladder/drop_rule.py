"""The rule that drops a candidate: hopelessly behind the leader on the same folds, and of no use to the blend."""

import math
from collections.abc import Callable, Mapping

from search.ladder.decisions import BlendGain
from search.ladder.settings import LadderSettings


def shortfall(
    mine: Mapping[int, float],
    leaders: Mapping[int, float],
    folds: tuple[int, ...],
    *,
    noise: float,
    leader: str,
    settings: LadderSettings,
) -> str | None:
    """Say how far a hopeless candidate is behind the leader; None: `z` standard errors could make up for it.

    Both have a utility for each of `folds`; the difference on a fold has standard deviation `noise`.
    """
    difference = mean_over(mine, folds) - mean_over(leaders, folds)
    at_best = difference + settings.z * noise / math.sqrt(len(folds))
    if at_best >= 0:
        return None
    where = f"fold{'s' * (len(folds) > 1)} {', '.join(map(str, folds))}"
    return f"mean difference to {leader} on {where} {difference:+.4f}, at best {at_best:+.4f} with noise {noise:.4f}"


def mean_over(utilities: Mapping[int, float], folds: tuple[int, ...]) -> float:
    """Return the mean utility over some folds."""
    return sum(utilities[fold] for fold in folds) / len(folds)


def is_useful(gain: BlendGain | None, *, is_kept: bool, settings: LadderSettings) -> bool:
    """Tell whether a hopeless candidate still runs: the blend gains from it, or nothing is known and `is_kept` holds.

    Here the mean of both halves counts: if both had to rise at every fold, whoever adds a little would be dropped.
    """
    return is_kept if gain is None else gain.mean >= settings.min_gain


def why_dropped(
    behind: str | None, blend_gain: Callable[[], BlendGain | None], *, is_kept: bool, settings: LadderSettings
) -> str | None:
    """Return why a promoted candidate is dropped, if so; only with a shortfall (`behind`) `blend_gain` is measured."""
    if behind is None:
        return None
    gain = blend_gain()
    if is_useful(gain, is_kept=is_kept, settings=settings):
        return None
    adds = f"adds {gain}, {settings.min_gain:g} needed" if gain else "what it adds to a blend is not known"
    return f"dropped: {behind}; {adds}"
