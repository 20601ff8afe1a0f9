"""The block that a terminal shows while a search runs: how far it is, what runs, what is best, what just happened."""

from collections.abc import Callable, Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from data_prep.console import duration, duration_range
from data_prep.wording import count
from search.run_dir.pulse_file import LiveRun, Pulse

BAR_WIDTH = 30
"""Columns of the bar."""
MOST_RUNNING = 8
"""Fold runs on workers that are listed; more are counted."""

Title = Callable[[str, str], str]
"""Returns how a person recognizes a candidate, from its id and label."""


def live_block(pulse: Pulse, *, title: Title, latest: Sequence[Text]) -> RenderableType:
    """Return the block for a moment of the search; `latest` are the last events, oldest first."""
    lines = [_one_line(Text(f"  {line}")) for line in best_lines(pulse, title)]
    running = [_running(pulse, title)] if pulse.running else []
    return Group(_bar(pulse), *lines, *running, *(_one_line(event) for event in latest))


def progress_text(pulse: Pulse) -> str:
    """Return how many fold runs have ended, of how many to expect, such as `8 / 12 to 21 fold runs`."""
    if pulse.runs_least is None or pulse.runs_most is None:
        return count(pulse.ended_runs, "fold run")
    least, most = pulse.runs_least, round(pulse.runs_most)
    at_least = "" if most <= least else f"{least:,} to "
    return f"{pulse.ended_runs:,} / {at_least}{count(max(least, most), 'fold run')}"


def best_lines(pulse: Pulse, title: Title) -> list[str]:
    """Return a line about the best candidate and one about the blend so far, where they are known."""
    lines = []
    if best := pulse.best:
        where = f"{best.folds} of {pulse.n_folds} folds"
        lines.append(f"best     {title(best.candidate, best.label)}: {pulse.metric} {best.mean:.4f} over {where}")
    if blend := pulse.blend:
        lines.append(
            f"blend    {blend.members} of {count(blend.candidates, 'complete candidate')}: pearson "
            f"{blend.pearson:.4f} on rows that its weights were not fitted on"
        )
    return lines


def _bar(pulse: Pulse) -> Table:
    row = Table.grid(padding=(0, 2))
    most = max(pulse.runs_most or 0.0, 1.0)
    texts = [progress_text(pulse), duration(pulse.at - pulse.begun)]
    if pulse.seconds_left:
        texts.append(f"{duration_range(pulse.seconds_left, pulse.seconds_left_most)} left")
    row.add_row(ProgressBar(total=most, completed=min(pulse.ended_runs, most), width=BAR_WIDTH), *texts)
    return row


def _running(pulse: Pulse, title: Title) -> Table:
    table = Table.grid(padding=(0, 2))
    for run in pulse.running[:MOST_RUNNING]:
        table.add_row("  running", *_running_cells(run, pulse.metric, title), style="cyan")
    if len(pulse.running) > MOST_RUNNING:
        table.add_row(f"  and {len(pulse.running) - MOST_RUNNING} more")
    return table


def _running_cells(run: LiveRun, metric: str, title: Title) -> tuple[str, ...]:
    where = "" if run.metric is None else f"{run.progress:.0%}, {metric} {run.metric:.4f}"
    again = " (retry)" if run.attempt else ""
    return title(run.candidate, run.label), f"fold {run.fold}{again}", duration(run.seconds), where


def _one_line(event: Text) -> Text:
    shown = event.copy()
    shown.no_wrap, shown.overflow = True, "ellipsis"
    return shown
