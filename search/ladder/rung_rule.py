"""The rule at a rung: a run that is too far behind its family stops."""

import math
from collections.abc import Sequence

from search.ladder.decisions import Decision
from search.ladder.settings import LadderSettings

_LATEST = 0.1
"""A report up to this share of the schedule after a rung counts for that rung; a later one is not compared."""


def rung_at(progress: float, rungs: Sequence[float]) -> float | None:
    """Return the rung that a report at `progress` counts for."""
    passed = [rung for rung in rungs if rung <= progress + 1e-9]
    return passed[-1] if passed and progress < 1 and progress - passed[-1] <= _LATEST else None


def judge_at_rung(
    utility: float, seen: Sequence[float], band: float, *, where: str, family: str, settings: LadderSettings
) -> Decision:
    """Cut a run that is more than `band` below the best `1 / rung_eta` of `seen`: all of its family here, ascending."""
    missing = settings.min_peers - (len(seen) - 1)
    if missing > 0:
        runs = "run" if missing == 1 else "runs"
        return Decision(
            True,
            f"{where}: utility {utility:.4f}, waiting for {missing} more {runs} to compare with; not cut at this rung",
        )
    rank = math.ceil(len(seen) / settings.rung_eta)
    cutoff = seen[-rank]
    against = f"the {cutoff:.4f} of rank {rank} of {len(seen)} in {family}"
    if utility >= cutoff - band:
        return Decision(True, f"{where}: utility {utility:.4f} is above or within {band:.4f} of {against}")
    return Decision(False, f"cut on {where}: utility {utility:.4f} is more than {band:.4f} below {against}")
