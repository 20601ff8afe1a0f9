"""`Progress`: tells a person what runs, what was stopped and why, what is best so far, how long it will take."""

import math
import time
from collections.abc import Callable

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from data_prep.metrics import Metric
from models.candidate import Candidate
from search.conductor import FINISHED, Assignment
from search.curves import CurvePoint
from search.ladder import Decision


class Progress:
    """A line for each event; on a terminal also a few live lines about what runs now.

    Args:
        console: where to write.
        metric: of the task, to tell which score is best.
        n_folds: folds of the split.
        clock: seconds, rising.
    """

    def __init__(
        self, console: Console, *, metric: Metric, n_folds: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._metric = metric
        self._n_folds = n_folds
        self._clock = clock
        self._since = clock()
        self._running: dict[str, tuple[float, str]] = {}
        self._scores: dict[str, dict[int, float]] = {}
        self._leaders: dict[int, tuple[str, float]] = {}
        self._labels: dict[str, str] = {}
        self._begun: set[str] = set()
        self._live: Live | None = None
        self._to_come: Callable[[], int] = lambda: 0
        self._busy = 0.0
        self.counts = {"started": 0, "finished": 0, "stopped": 0, "dead": 0, "failed": 0}

    def __enter__(self) -> "Progress":
        if self._console.is_terminal:
            self._live = Live(get_renderable=self._status, console=self._console, refresh_per_second=2, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def expect(self, candidates: Callable[[], int]) -> None:
        """Take the function that says how many candidates have not begun."""
        self._to_come = candidates

    def started(self, assignment: Assignment) -> None:
        """Tell that a fold run starts."""
        self.counts["started"] += 1
        self._labels[assignment.candidate.id] = assignment.candidate.label
        self._begun.add(assignment.candidate.id)
        self._running[assignment.label] = (self._clock(), "")
        again = " again, with another seed and lower rates" if assignment.attempt else ""
        self._say(assignment, f"starts{again}", "cyan")

    def reported(self, assignment: Assignment, point: CurvePoint, decision: Decision) -> None:
        """Tell what a fold run reported and what was decided."""
        score = f"{self._metric.name} {point.metric:.4f}"
        if point.progress >= FINISHED and decision.go:
            self._end(assignment)
            self.counts["finished"] += 1
            self._rank(assignment.candidate.id, assignment.fold, point.metric)
            self._say(assignment, f"done, {score} ({duration(point.seconds)}){self._best()}{self._left()}", "green")
        elif decision.go:
            started, _ = self._running.get(assignment.label, (self._clock(), ""))
            self._running[assignment.label] = (started, f"{point.progress:.0%}, {score}")
            utility = f"{'' if self._metric.greater_is_better else '-'}{self._metric.name}"
            self._say(assignment, f"{utility} on {decision.reason}", "dim")
        else:
            self._end(assignment)
            self.counts["dead" if decision.retry else "stopped"] += 1
            self._say(assignment, f"stopped: {decision.reason}", "yellow")

    def failed(self, assignment: Assignment, reason: str) -> None:
        """Tell that a fold run cannot be done."""
        self._end(assignment)
        self.counts["failed"] += 1
        self._say(assignment, f"failed: {reason}", "bold red")

    def lost(self, assignment: Assignment, reason: str) -> None:
        """Tell that a fold run has no worker any more."""
        self._running.pop(assignment.label, None)
        self._say(assignment, reason, "red")

    def recalled(self, candidate: Candidate, fold: int, metric: float) -> None:
        """Take note of a fold run that an earlier run finished."""
        if not math.isnan(metric):
            self._labels[candidate.id] = candidate.label
            self._rank(candidate.id, fold, metric)

    def note(self, text: str) -> None:
        """Tell something about the whole search."""
        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def restart(self, text: str) -> None:
        """Tell that everything that runs has ended and that the search goes on."""
        self._running.clear()
        self.note(text)

    def _say(self, assignment: Assignment, text: str, style: str) -> None:
        stamp = duration(self._clock() - self._since)
        line = f"[dim]{stamp:>8}[/]  [bold]{escape(assignment.label)}[/]  [{style}]{escape(text)}[/]"
        self._console.print(line, highlight=False, soft_wrap=True)

    def _end(self, assignment: Assignment) -> None:
        started, _ = self._running.pop(assignment.label, (self._clock(), ""))
        self._busy += self._clock() - started

    def _rank(self, candidate: str, fold: int, metric: float) -> None:
        """Take a score, and note the candidate where no other with as many folds has as good a mean."""
        scores = self._scores.setdefault(candidate, {})
        scores[fold] = metric
        mean = sum(scores.values()) / len(scores)
        best = self._leaders.get(len(scores))
        if best is None or self._metric.utility(mean) > self._metric.utility(best[1]):
            self._leaders[len(scores)] = candidate, mean

    def _best(self) -> str:
        """Return the candidate with the best mean over the folds it has done, among those with most folds."""
        most = max(self._leaders)
        leader, mean = self._leaders[most]
        folds = f"{most} of {self._n_folds} folds"
        return f"; best so far {self._labels.get(leader, leader)} {leader[:6]}: {mean:.4f} over {folds}"

    def _left(self) -> str:
        """Estimate the time left from the work per candidate that this run has seen; promotions to come are not in."""
        ended = sum(self.counts.values()) - self.counts["started"]
        if not ended:
            return ""
        to_come = self._to_come() * self.counts["started"] / len(self._begun)
        seconds = (to_come + len(self._running) / 2) * self._busy / ended / max(len(self._running), 1)
        return f"; at least {duration(seconds)} left" if seconds else ""

    def _status(self) -> Group:
        now = self._clock()
        lines = [
            Text(f"  running  {label}  {duration(now - started)}  {state}", style="cyan")
            for label, (started, state) in self._running.items()
        ]
        counts = ", ".join(f"{number} {name}" for name, number in self.counts.items() if name != "started")
        summary = f"{self._to_come()} candidates still to begin; fold runs: {counts}{self._left()}"
        return Group(*lines, Text(f"  {summary}", style="bold"))


def duration(seconds: float) -> str:
    """Write seconds as a person says them."""
    if math.isnan(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
