"""`Ration`: work that only keeps something fresh, done as often as its share of the time allows."""

import time
from collections.abc import Callable


class Ration:
    """Lets work that took long wait long before it is done again.

    Args:
        share: of the time that the work may take.
        clock: seconds, rising.
    """

    def __init__(self, share: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._share = share
        self._clock = clock
        self._due = clock()

    def offer(self, work: Callable[[], object]) -> bool:
        """Do the work, unless the last time took so long that it is too early again; return whether it was done."""
        begun = self._clock()
        if begun < self._due:
            return False
        work()
        self._due = self._clock() + (self._clock() - begun) / self._share
        return True
