"""`ConsoleLines`: prints what runs, what was stopped and why, what is best so far, how long the rest will take."""

from collections import deque
from collections.abc import Mapping

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from data_prep.console import duration, duration_range
from models.candidate import Candidate
from search.ladder.decisions import FINISHED, Decision
from search.run_dir.curves import CurvePoint
from search.watch.live_block import live_block
from search.watch.run_statistics import RunStatistics
from search.worker.messages import Assignment

LATEST = 4
"""Events that a block shows."""


class ConsoleLines:
    """Prints every event as a line; on a terminal it shows one block instead, and prints only what went wrong.

    The statistics receive every event first. `names` has the study's own names of candidates, by id.
    """

    def __init__(self, console: Console, statistics: RunStatistics, names: Mapping[str, str] | None = None) -> None:
        self.statistics = statistics
        self._console = console
        self._names = names or {}
        self._live: Live | None = None
        self._latest: deque[Text] = deque(maxlen=LATEST)

    def __enter__(self) -> "ConsoleLines":
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(get_renderable=self._block, console=self._console, refresh_per_second=2, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def started(self, assignment: Assignment) -> None:
        """Print that a fold run starts."""
        self.statistics.started(assignment)
        again = " again with another seed and lower learning rates" if assignment.attempt else ""
        self._say(assignment, f"starts{again}", "cyan")

    def reported(self, assignment: Assignment, point: CurvePoint, decision: Decision) -> None:
        """Print what a fold run reported and what was decided."""
        self.statistics.reported(assignment, point, decision)
        if point.progress >= FINISHED and decision.go:
            score = f"{self.statistics.metric.name} {point.metric:.4f}"
            self._say(assignment, f"done, {score} ({duration(point.seconds)}){self._best()}{self._left()}", "green")
        elif decision.go:
            self._say(assignment, decision.reason, "dim")
        else:
            self._say(assignment, f"stopped: {decision.reason}", "yellow")

    def failed(self, assignment: Assignment, reason: str) -> None:
        """Print that a fold run failed for good."""
        self.statistics.failed(assignment, reason)
        self._say(assignment, f"failed: {reason}", "bold red", keep=True)

    def lost(self, assignment: Assignment, reason: str) -> None:
        """Print that a fold run lost its worker."""
        self.statistics.lost(assignment, reason)
        self._say(assignment, reason, "red", keep=True)

    def recalled(self, candidate: Candidate, fold: int, metric: float) -> None:
        """Count a fold run that an earlier run finished."""
        self.statistics.recalled(candidate, fold, metric)

    def note(self, text: str) -> None:
        """Print a message about the whole search."""
        self._console.print(text, soft_wrap=True)

    def restart(self, text: str) -> None:
        """Print that Ray Tune died with all running fold runs, and that the search continues."""
        self.statistics.restarted(text)
        self.note(text)

    def _say(self, assignment: Assignment, text: str, style: str, *, keep: bool = False) -> None:
        """Print an event; where a block is shown, it is the last to be seen there, unless it is to be kept."""
        stamp = duration(self.statistics.clock() - self.statistics.since)
        line = Text.assemble((f"{stamp:>8}", "dim"), "  ", (assignment.label, "bold"), "  ", (text, style))
        if self._live is None or keep:
            self._console.print(line, soft_wrap=True)
        else:
            self._latest.append(line)

    def _best(self) -> str:
        leader = self.statistics.leader
        if leader is None:
            return ""
        folds = f"{leader.folds} of {self.statistics.n_folds} folds"
        return f"; best so far {leader.label} {leader.candidate[:6]}: {leader.mean:.4f} over {folds}"

    def _left(self) -> str:
        seconds = self.statistics.seconds_left()
        return f"; {duration_range(*seconds)} left" if seconds and seconds[1] else ""

    def _block(self) -> RenderableType:
        return live_block(self.statistics.snapshot(), title=self._title, latest=tuple(self._latest))

    def _title(self, candidate: str, label: str) -> str:
        return f"{self._names.get(candidate) or label} {candidate[:6]}"
