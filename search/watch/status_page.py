"""`status`: the state of a search, from the files of its run directory alone, without Ray.

On the driver's own host it checks that the process is alive. Elsewhere it goes by the age of `pulse.json`, which the
driver writes every few seconds, and assumes that the clocks agree.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from data_prep.console import duration, duration_range
from search.run_dir.pulse_file import PULSE_SECONDS, LiveRun, Pulse, Spent, describe_ends
from search.run_dir.run_dir import RunDir
from search.watch.climbs import STATES, Climb, best_first
from search.watch.live_block import best_lines, progress_text
from search.watch.settings_apart import SettingsApart

SILENT_SECONDS = 60.0
"""A driver that has written nothing for this long hangs, or its host is down."""
ROWS = 10
"""Lines of a long list; `--all` shows the rest."""


@dataclass(frozen=True)
class Status:
    """The state of a search; prints itself with rich."""

    run: RunDir
    climbs: tuple[Climb, ...]
    """Best first: more folds, then the better mean, then the higher rung."""
    now: float
    """Seconds since 1970."""
    show_all: bool = False

    @property
    def is_over(self) -> bool:
        """Whether no driver works in the directory, as far as this host can tell."""
        return not self.run.has_driver

    def __rich__(self) -> RenderableType:
        """Return the page that a console shows."""
        parts: list[RenderableType] = [*self._head(), self._ladder_table()]
        if self._live():
            parts.append(self._running_table())
        if self.climbs:
            parts.append(self._candidates_table())
            parts.append(SettingsApart.of(self.run, [climb.candidate for climb in self._shown(self.climbs)]))
        parts.extend(self._troubles())
        return Group(*parts)

    def records(self) -> list[dict[str, Any]]:
        """Return every candidate that is shown, best first, with its step on the ladder."""
        return [
            {
                "candidate": climb.candidate,
                "name": self.run.names.get(climb.candidate, ""),
                "label": self.run.label(climb.candidate),
                "state": climb.state,
                "reason": climb.reason,
                "step": self._step(climb),
                "mean": climb.mean,
                "rung": climb.rung,
                "scores": climb.scores,
            }
            for climb in self._shown(self.climbs)
        ]

    def document(self) -> dict[str, Any]:
        """Return the whole state as plain values; `pulse` is what the driver wrote last, None where it never did."""
        study = {"study": self.run.study.get("name", ""), "run_dir": self.run.path}
        driver = {"driver": self._driver(), "is_over": self.is_over, "now": self.now, "pulse": self.run.pulse}
        return {**study, **driver, "candidates": self.records()}

    # The lines at the top

    def _head(self) -> list[Text]:
        study, pulse = self.run.study, self.run.pulse
        lines = [f"driver   {self._driver()}"]
        if pulse is not None:
            lines.append(
                f"runs     {progress_text(pulse)}; {len(self._live())} on workers, {describe_ends(pulse.counts)}; "
                f"candidates: {pulse.counts['promoted']} promoted, "
                f"{pulse.to_come} not started"
            )
            lines.append(f"time     {self._time(pulse)}")
            if price := study.get("price_per_hour"):
                lines.append(f"cost     {self._cost(pulse, price)}")
            lines.extend(best_lines(pulse, self.run.title))
        return [Text(f"{study.get('name', '')}  {self.run.path}", style="bold"), *map(Text, lines)]

    def _driver(self) -> str:
        lock, pulse = self.run.driver_lock, self.run.pulse
        silence = None if pulse is None else max(self.now - pulse.at, 0.0)
        updated = "not reported yet" if silence is None else f"updated {duration(silence)} ago"
        if lock is None:
            if pulse is None:
                return "not running; no driver has written its state here"
            ended = pulse.ended or "its driver.json was removed while it ran"
            return f"not running; the last one: {ended}, {updated}"
        who = f"process {lock.pid} on {lock.host}, since {lock.since}"
        if lock.is_stale:
            return f"killed: {who}; {updated}. The next `blendfold run` continues from the record"
        if silence is not None and silence > SILENT_SECONDS:
            return f"not responding: {who}; {updated}. It hangs, or {lock.host} is down"
        moved = f"; work last moved {duration(max(self.now - pulse.moved, 0.0))} ago" if pulse and pulse.moved else ""
        return f"{who}; {updated}{moved}"

    def _time(self, pulse: Pulse) -> str:
        parts = [f"{duration(pulse.at - pulse.begun)} in this run"]
        if pulse.seconds_left and not self.is_over:
            parts.append(f"{duration_range(pulse.seconds_left, pulse.seconds_left_most)} left")
        if pulse.rows_per_second and not self.is_over:
            parts.append(f"{pulse.rows_per_second:,.0f} training rows/s")
        spent = pulse.spent
        gpus = f" and {spent.gpu_hours:.2f} GPU hours" if spent.gpu_hours else ""
        parts.append(f"all runs: {spent.core_hours:.2f} core hours{gpus}")
        return "; ".join(parts)

    def _cost(self, pulse: Pulse, price: Mapping[str, float]) -> str:
        spent = f"{_money(pulse.spent, price)} so far"
        if pulse.left is None or self.is_over:
            return spent
        if pulse.left_most is None:
            return f"{spent}, at least {_money(pulse.left, price)} more"
        return f"{spent}, {_money(pulse.left, price)} to {_money(pulse.left_most, price)} more"

    # The tables

    def _live(self) -> tuple[LiveRun, ...]:
        """Return what runs now: nothing if the driver is gone, whatever it wrote last."""
        return () if self.run.pulse is None or self.is_over else self.run.pulse.running

    @property
    def _rungs(self) -> Sequence[float]:
        rungs: Sequence[float] = self.run.study.get("ladder", {}).get("rungs", ())
        return rungs

    def _steps(self) -> list[str]:
        early = ["fold 0 started", *(f"fold 0 at {rung:.0%}" for rung in self._rungs)]
        return [*early, *(f"{done} of {self.run.n_folds} folds" for done in range(1, self.run.n_folds + 1))]

    def _step(self, climb: Climb) -> str:
        if climb.scores:
            return f"{len(climb.scores)} of {self.run.n_folds} folds"
        passed = [rung for rung in self._rungs if rung <= climb.rung + 1e-9]
        return f"fold 0 at {passed[-1]:.0%}" if passed else "fold 0 started"

    def _ladder_table(self) -> Table:
        found = Counter((self._step(climb), climb.state) for climb in self.climbs)
        shown = [state for state in STATES if any(climb.state == state for climb in self.climbs)]
        table = Table(title="candidates on the ladder")
        table.add_column("step")
        for state in shown:
            table.add_column(state, justify="right")
        if self.run.pulse is not None and self.run.pulse.to_come:
            table.add_row(f"not started: {self.run.pulse.to_come}", *("" for _ in shown))
        for step in self._steps():
            table.add_row(step, *(str(found[step, state] or "") for state in shown))
        return table

    def _running_table(self) -> Table:
        table = Table(title="running now", box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("candidate", overflow="fold")
        for name in ("fold", "last rung", self.run.metric.name, "time"):
            table.add_column(name, justify="right", no_wrap=True)
        for run in self._shown(self._live()):
            fold = f"{run.fold} (retry)" if run.attempt else str(run.fold)
            rung = f"{run.progress:.0%}" if run.progress else ""
            score = f"{run.metric:.4f}" if run.metric is not None else ""
            table.add_row(self.run.title(run.candidate, run.label), fold, rung, score, duration(run.seconds))
        return table

    def _candidates_table(self) -> Table:
        shown = self._shown(self.climbs)
        more = len(self.climbs) - len(shown)
        caption = f"{more} more; show them with --all" if more else None
        table = Table(title="candidates, most folds first", caption=caption, box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("candidate", overflow="fold", ratio=2)
        for name in (self.run.metric.name, "step"):
            table.add_column(name, no_wrap=True)
        table.add_column("state and reason", overflow="fold", ratio=3)
        for climb in shown:
            mean = f"{climb.mean:.4f}" if climb.scores else ""
            table.add_row(self._name(climb), mean, self._step(climb), f"{climb.state}: {climb.reason}")
        return table

    def _shown(self, entries: tuple[Any, ...]) -> tuple[Any, ...]:
        return entries if self.show_all else entries[:ROWS]

    def _troubles(self) -> list[Text]:
        """Return which candidates failed and why, and what else went wrong in this run of the search."""
        failed = tuple(climb for climb in self.climbs if climb.state == "failed")
        lines = [f"failed   {self._name(climb)}: {climb.reason}" for climb in self._shown(failed)]
        if more := len(failed) - len(lines):
            lines.append(f"failed   {more} more; show them with --all")
        latest = self.run.pulse.troubles[::-1] if self.run.pulse else ()
        problems = [
            f"problem  {duration(max(self.now - trouble.at, 0))} ago: {trouble.what}" for trouble in self._shown(latest)
        ]
        return [*(Text(line, style="red") for line in lines), *(Text(line, style="yellow") for line in problems)]

    def _name(self, climb: Climb) -> str:
        return self.run.title(climb.candidate)


def _money(hours: Spent, price: Mapping[str, float]) -> str:
    amount = hours.core_hours * price.get("cpu", 0.0) + hours.gpu_hours * price.get("gpu", 0.0)
    return f"{amount:,.2f}" if amount >= 1 else f"{amount:.2g}"


class StatusReader:
    """Reads the state of a search again and again; what never changes is read once."""

    def __init__(self, run_dir: str, *, show_all: bool = False, today: Callable[[], float] = time.time) -> None:
        self._run = RunDir(run_dir)
        self._show_all = show_all
        self._today = today

    def read(self) -> Status:
        """Return the state of the search now.

        Raises:
            InputError: not a run directory, a file in it is damaged, or nothing names the metric (see `RunDir`).
        """
        run = self._run = self._run.reread()
        live = {live_run.candidate for live_run in run.pulse.running} if run.pulse and run.has_driver else set()
        return Status(run, tuple(best_first(run, live)), now=self._today(), show_all=self._show_all)


def follow(reader: StatusReader, console: Console, *, sleep: Callable[[float], None] = time.sleep) -> Status:
    """Show the state of a search, updated every few seconds, until its driver ends or Ctrl-C; return the last one."""
    found = reader.read()
    with (
        suppress(KeyboardInterrupt),
        Live(found, console=console, screen=console.is_terminal, auto_refresh=False) as page,
    ):
        while not found.is_over:
            page.update(found, refresh=True)
            sleep(PULSE_SECONDS)
            found = reader.read()
    return found
