"""The rule that promotes a candidate after fold 0 because it raises the blend."""

import math
from collections.abc import Mapping

from search.ladder.decisions import BlendGain
from search.ladder.settings import LadderSettings


def promoted_by_blend(gains: Mapping[str, BlendGain], min_gain: float) -> str | None:
    """Return which candidate alone raises the blend of fold 0 most, the first of equals; None: nobody does enough."""
    enough = [name for name, gain in gains.items() if reaches(gain, min_gain)]
    return max(enough, key=lambda name: gains[name].mean, default=None)


def reaches(gain: BlendGain, min_gain: float) -> bool:
    """Tell whether the mean of both halves is at least `min_gain` and both show a rise."""
    return gain.mean >= min_gain and min(gain.halves) > 0


def may_promote_by_blend(n_promoted: int, n_judged: int, *, new_available: bool, settings: LadderSettings) -> bool:
    """Tell whether the blend may promote now.

    While new candidates are still to come it may not; with `promote_early` it may as long as promotions of both kinds
    are fewer than one in `eta` of all that fold 0 has judged.
    """
    if not new_available:
        return True
    return settings.promote_early and n_promoted < math.floor(n_judged / settings.eta)
