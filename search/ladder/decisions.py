"""What goes into the ladder and comes out of it: fold runs, decisions, states of candidates, gains of a blend."""

import math
from dataclasses import dataclass, field
from typing import Literal

FINISHED = 1.0
"""Progress of a fold run that has reached the end of its schedule."""

StateName = Literal["running", "waiting", "stopped", "failed", "finished"]


@dataclass(frozen=True)
class FoldRun:
    """One candidate on one fold: the unit that is started, compared and stopped."""

    candidate: str
    family: str
    fold: int


@dataclass(frozen=True)
class Decision:
    """Whether a fold run that has just reported continues, with the reason in one sentence."""

    go: bool
    reason: str
    retry: bool = False
    """The run failed to learn for the first time: `next_run` returns it again, and `attempt` is then 1."""


@dataclass(frozen=True)
class CandidateStatus:
    """The state of a candidate, with the reason in one sentence."""

    state: StateName
    reason: str
    promotion: str = field(default="", compare=False)
    """Why it was promoted after fold 0, as decided then; empty if it was not. A replay may not know it."""


@dataclass(frozen=True)
class BlendGain:
    """Rise of the blend's Pearson on each half of the rows, with weights fitted on the other half."""

    halves: tuple[float, float]
    n_members: int
    """Candidates in the blend before this one joins."""

    @property
    def mean(self) -> float:
        """The mean of both halves."""
        return (self.halves[0] + self.halves[1]) / 2

    def __str__(self) -> str:
        """Return the numbers as a clause."""
        first, second = self.halves
        return f"{self.mean:+.4f} to the blend of {self.n_members} ({first:+.4f} and {second:+.4f} on the halves)"


@dataclass(frozen=True)
class BestBlend:
    """The non-negative blend of all candidates that have finished every fold."""

    pearson: float
    """On each half of every fold's rows with weights fitted on the other halves; the mean of both."""
    members: int
    """Candidates with weight."""
    candidates: int
    """Candidates to choose from."""


def is_dead(utility: float, dead_below: float | None) -> bool:
    """Tell whether a fold run failed to learn: its utility is NaN or under the setting `dead_below`."""
    return math.isnan(utility) or (dead_below is not None and utility < dead_below)
