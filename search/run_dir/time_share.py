"""`TimeShare`: limits work that keeps something up to date to a share of the time."""

import time
from collections.abc import Callable


class TimeShare:
    """The longer the work took, the longer it waits before it is done again; `clock` returns seconds, rising."""

    def __init__(self, share: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._share = share
        self._clock = clock
        self._due = clock()

    def offer(self, work: Callable[[], object]) -> bool:
        """Do the work unless it is too early after the last time; return whether it was done."""
        begun = self._clock()
        if begun < self._due:
            return False
        work()
        self._due = self._clock() + (self._clock() - begun) / self._share
        return True
