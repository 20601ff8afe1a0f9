"""`BlendWatch`: how good the best blend so far is, reckoned away from the thread that decides."""

from typing import Protocol

from search.ladder.decisions import BestBlend
from search.run_dir.time_share import Ration

SHARE = 0.2
"""Share of its thread's time that fitting blends may take: hundreds of members take seconds."""


class Blending(Protocol):
    """What of a ladder is needed."""

    def finished(self) -> tuple[str, ...]: ...  # noqa: D102
    def blended(self, candidates: tuple[str, ...]) -> BestBlend | None: ...  # noqa: D102


class BlendWatch:
    """Is told by the deciding thread when candidates finish, and fits their blend when another thread asks."""

    def __init__(self) -> None:
        self.best: BestBlend | None = None
        self._ration = Ration(SHARE)
        self._asked: tuple[Blending, tuple[str, ...]] | None = None
        self._known: tuple[str, ...] = ()

    def look(self, ladder: Blending) -> None:
        """Note who has finished; costs next to nothing."""
        self._asked = (ladder, ladder.finished())

    def refresh(self) -> None:
        """Fit the blend of those who have finished, if they are others than last time and time allows."""
        if self._asked is not None and self._asked[1] != self._known:
            self._ration.offer(self._fit)

    def _fit(self) -> None:
        assert self._asked is not None
        ladder, names = self._asked
        self.best, self._known = ladder.blended(names), names
