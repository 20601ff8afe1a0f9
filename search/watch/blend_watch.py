"""`BlendWatch`: how good the best blend so far is, computed outside the thread that decides."""

import time
from collections.abc import Callable
from typing import Protocol

from search.ladder.decisions import BestBlend
from search.run_dir.time_share import TimeShare

SHARE = 0.2
"""Share of its thread's time that fitting blends may take: a fit of hundreds of members takes seconds."""


class Blending(Protocol):
    """What it needs of a ladder."""

    def finished(self) -> tuple[str, ...]: ...  # noqa: D102
    def best_blend(self, candidates: tuple[str, ...]) -> BestBlend | None: ...  # noqa: D102


class BlendWatch:
    """Learns from the deciding thread which candidates have finished, and fits their blend in another thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.best: BestBlend | None = None
        self._time_share = TimeShare(SHARE, clock)
        self._latest: tuple[Blending, tuple[str, ...]] | None = None
        self._fitted: tuple[str, ...] = ()

    def look(self, ladder: Blending) -> None:
        """Remember which candidates have finished; this takes almost no time."""
        self._latest = (ladder, ladder.finished())

    def refresh(self) -> None:
        """Fit the blend of the finished candidates, if they have changed and the share of time allows it."""
        if self._latest is not None and self._latest[1] != self._fitted:
            self._time_share.offer(self._fit)

    def _fit(self) -> None:
        assert self._latest is not None
        ladder, names = self._latest
        self.best, self._fitted = ladder.best_blend(names), names
