"""`CheckpointTimer`: how often a fold run saves its state."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SAVE_SHARE = 0.1
"""Share of the time that checkpoints between rungs may take."""


class CheckpointTimer:
    """Says when the next checkpoint is due: after a pause that grows where saving takes long; 0: after each step."""

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._pause, self._saved = seconds, clock()

    @property
    def due(self) -> bool:
        """Whether the pause is over."""
        return self._clock() - self._saved >= self._pause

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Measure how long a save takes; the next pause starts at its end."""
        begun = self._clock()
        yield
        self._saved = self._clock()
        if self._seconds:
            self._pause = max(self._seconds, (self._saved - begun) / SAVE_SHARE)
