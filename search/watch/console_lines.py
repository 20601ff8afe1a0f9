"""`Progress`: tells a person what runs, what was stopped and why, what is best so far, how long it will take."""

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from data_prep.console import duration
from models.candidate import Candidate
from search.ladder.decisions import FINISHED, Decision
from search.run_dir.curves import CurvePoint
from search.watch.run_statistics import Slot, Tally
from search.worker.messages import Assignment


class Progress:
    """A line for each event; on a terminal also a few live lines about what runs now.

    Args:
        console: where to write.
        tally: is told of every event first; has the numbers.
    """

    def __init__(self, console: Console, tally: Tally) -> None:
        self.tally = tally
        self._console = console
        self._live: Live | None = None

    def __enter__(self) -> "Progress":
        if self._console.is_terminal:
            self._live = Live(get_renderable=self._status, console=self._console, refresh_per_second=2, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def started(self, assignment: Assignment) -> None:
        """Tell that a fold run starts."""
        self.tally.started(assignment)
        again = " again, with another seed and lower rates" if assignment.attempt else ""
        self._say(assignment, f"starts{again}", "cyan")

    def reported(self, assignment: Assignment, point: CurvePoint, decision: Decision) -> None:
        """Tell what a fold run reported and what was decided."""
        self.tally.reported(assignment, point, decision)
        metric = self.tally.metric
        if point.progress >= FINISHED and decision.go:
            score = f"{metric.name} {point.metric:.4f}"
            self._say(assignment, f"done, {score} ({duration(point.seconds)}){self._best()}{self._left()}", "green")
        elif decision.go:
            utility = f"{'' if metric.greater_is_better else '-'}{metric.name}"
            self._say(assignment, f"{utility} on {decision.reason}", "dim")
        else:
            self._say(assignment, f"stopped: {decision.reason}", "yellow")

    def failed(self, assignment: Assignment, reason: str) -> None:
        """Tell that a fold run cannot be done."""
        self.tally.failed(assignment, reason)
        self._say(assignment, f"failed: {reason}", "bold red")

    def lost(self, assignment: Assignment, reason: str) -> None:
        """Tell that a fold run has no worker any more."""
        self.tally.lost(assignment, reason)
        self._say(assignment, reason, "red")

    def recalled(self, candidate: Candidate, fold: int, metric: float) -> None:
        """Take note of a fold run that an earlier run finished."""
        self.tally.recalled(candidate, fold, metric)

    def note(self, text: str) -> None:
        """Tell something about the whole search."""
        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def restart(self, text: str) -> None:
        """Tell that everything that runs has ended and that the search goes on."""
        self.tally.restarted(text)
        self.note(text)

    def _say(self, assignment: Assignment, text: str, style: str) -> None:
        stamp = duration(self.tally.clock() - self.tally.since)
        line = f"[dim]{stamp:>8}[/]  [bold]{escape(assignment.label)}[/]  [{style}]{escape(text)}[/]"
        self._console.print(line, highlight=False, soft_wrap=True)

    def _best(self) -> str:
        leader = self.tally.leader
        if leader is None:
            return ""
        folds = f"{leader.folds} of {self.tally.n_folds} folds"
        return f"; best so far {leader.label} {leader.candidate[:6]}: {leader.mean:.4f} over {folds}"

    def _left(self) -> str:
        seconds = self.tally.seconds_left()
        return f"; at least {duration(seconds)} left" if seconds else ""

    def _status(self) -> Group:
        now = self.tally.clock()
        lines = [
            Text(f"  running  {label}  {duration(now - slot.since)}  {self._where(slot)}", style="cyan")
            for label, slot in self.tally.slots.items()
        ]
        counts = ", ".join(f"{number} {name}" for name, number in self.tally.counts.items() if name != "started")
        summary = f"{self.tally.to_come()} candidates still to begin; fold runs: {counts}{self._left()}"
        return Group(*lines, Text(f"  {summary}", style="bold"))

    def _where(self, slot: Slot) -> str:
        return f"{slot.progress:.0%}, {self.tally.metric.name} {slot.metric:.4f}" if slot.progress else ""
