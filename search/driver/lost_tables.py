"""`LostTables`: finished fold runs whose prediction tables are gone, to be trained again before anything else."""

from collections import deque
from collections.abc import Iterable

from search.ladder.decisions import FoldRun


class LostTables:
    """Hands out each fold run with lost tables once; with part of the evidence missing no decision can be repeated."""

    def __init__(self) -> None:
        self._waiting: deque[FoldRun] = deque()
        self._live: set[FoldRun] = set()
        self._ended: set[FoldRun] = set()

    def add(self, runs: Iterable[FoldRun]) -> None:
        """Add fold runs, except those that were trained again before."""
        self._waiting.extend(run for run in runs if run not in self._ended)

    def __bool__(self) -> bool:
        return bool(self._waiting or self._live)

    @property
    def n_waiting(self) -> int:
        """How many no worker has yet."""
        return len(self._waiting)

    def start_next(self) -> FoldRun | None:
        """Return the fold run to train again now; None while all are on workers."""
        if not self._waiting:
            return None
        run = self._waiting.popleft()
        self._live.add(run)
        return run

    def is_live(self, run: FoldRun) -> bool:
        """Return whether a worker trains this fold run again."""
        return run in self._live

    def wait_again(self, run: FoldRun) -> None:
        """Let the fold run wait for another worker."""
        self._live.discard(run)
        self._waiting.append(run)

    def end(self, run: FoldRun) -> None:
        """Count the fold run as done, whether its tables are there now or not."""
        self._live.discard(run)
        self._ended.add(run)
