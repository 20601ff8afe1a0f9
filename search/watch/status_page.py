"""`status`: how a search stands, told from the files of its run directory alone.

Any machine that sees the directory can tell, without Ray and without a word to the driver. Whether the driver lives is
known on its own host; elsewhere the age of its last word (`pulse.json`, every few seconds) has to do, by clocks that
are taken to agree.
"""

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from data_prep.candidate_label import candidate_label
from data_prep.console import duration
from data_prep.scoring.metrics import METRICS
from data_prep.store.files import join, read_bytes
from search.ladder.decisions import CandidateStatus
from search.run_dir.curves import CurvePoint, Curves
from search.run_dir.driver_lock import Claim, read_claim
from search.run_dir.kept_study import kept_study
from search.run_dir.pulse_file import PULSE_SECONDS, LiveRun, Pulse, Spent, read_pulse
from search.run_dir.status_file import read_outcomes
from search.watch.tracked_run import measured

SILENT_SECONDS = 60.0
"""A driver that has said nothing for so long hangs, or is gone."""
ROWS = 10
"""Lines of a list that has no end; `--all` shows the others, too."""
STATES = ("running", "due", "waiting", "stopped", "failed", "finished")
"""`due`: goes on, and no worker has it now."""


@dataclass(frozen=True)
class Climb:
    """How far one candidate has come."""

    candidate: str
    state: str
    """One of `STATES`."""
    reason: str
    scores: Mapping[int, float]
    """The metric of each fold that is done."""
    rung: float
    """Progress of the last report on fold 0; 0 before the first."""

    @property
    def mean(self) -> float:
        """Mean over the folds done; NaN where there are none."""
        return sum(self.scores.values()) / len(self.scores) if self.scores else math.nan


@dataclass(frozen=True)
class Status:
    """How a search stands; prints itself with rich."""

    run_dir: str
    name: str
    metric: str
    n_folds: int
    rungs: tuple[float, ...]
    price: Mapping[str, float] | None
    """`price_per_hour` of the study."""
    climbs: tuple[Climb, ...]
    """Best first: more folds, then the better mean, then the higher rung."""
    claim: Claim | None
    pulse: Pulse | None
    now: float
    """Seconds since 1970."""
    label: Callable[[str], str]
    show_all: bool = False

    @property
    def is_over(self) -> bool:
        """Whether no driver works in the directory, as far as this host can tell."""
        return self.claim is None or self.claim.is_stale

    def __rich__(self) -> RenderableType:
        """Return the page that a console shows."""
        parts: list[RenderableType] = [*self._head(), self._ladder_table()]
        if self._live():
            parts.append(self._running_table())
        if self.climbs:
            parts.append(self._candidates_table())
        parts.extend(self._troubles())
        return Group(*parts)

    # The lines at the top

    def _head(self) -> list[Text]:
        lines = [Text(f"{self.name}  {self.run_dir}", style="bold"), Text(f"driver   {self._driver()}")]
        pulse = self.pulse
        if pulse is None:
            return lines
        counts = pulse.counts
        told = ", ".join(f"{counts[name]} {name}" for name in ("finished", "stopped", "dead", "failed"))
        lines.append(
            Text(
                f"runs     {len(self._live())} on workers; of {counts['started']} started: {told}; "
                f"{counts['promoted']} candidates went on, {pulse.to_come} to begin"
            )
        )
        lines.append(Text(f"time     {self._time(pulse)}"))
        if self.price is not None:
            lines.append(Text(f"cost     {self._cost(pulse)}"))
        lines.extend(Text(line) for line in self._best(pulse))
        return lines

    def _driver(self) -> str:
        claim, pulse = self.claim, self.pulse
        silence = None if pulse is None else max(self.now - pulse.at, 0.0)
        word = "has not told of itself yet" if silence is None else f"last word {duration(silence)} ago"
        if claim is None:
            if pulse is None:
                return "none works here, and none that tells of itself ever did"
            ended = pulse.ended or "gone without a word; its driver.json was removed"
            return f"none works here; the last one: {ended}, {word}"
        who = f"process {claim.pid} on {claim.host}, since {claim.since}"
        if claim.is_stale:
            return f"killed: {who}; {word}. The next `python -m search run` goes on from the record"
        if silence is not None and silence > SILENT_SECONDS:
            return f"silent: {who}; {word}. It hangs, or {claim.host} is gone"
        return f"{who}; {word}"

    def _time(self, pulse: Pulse) -> str:
        parts = [f"{duration(pulse.at - pulse.begun)} in this run"]
        if pulse.seconds_left and not self.is_over:
            parts.append(f"at least {duration(pulse.seconds_left)} left")
        if pulse.rows_per_second and not self.is_over:
            parts.append(f"{pulse.rows_per_second:,.0f} training rows/s")
        spent = pulse.spent
        gpus = f" and {spent.gpu_hours:.2f} GPU hours" if spent.gpu_hours else ""
        parts.append(f"all runs: {spent.core_hours:.2f} core hours{gpus}")
        return "; ".join(parts)

    def _cost(self, pulse: Pulse) -> str:
        spent = f"{self._money(pulse.spent)} so far"
        if pulse.left is None or self.is_over:
            return spent
        return f"{spent}, at least {self._money(pulse.left)} to come"

    def _money(self, hours: Spent) -> str:
        price = self.price or {}
        amount = hours.core_hours * price.get("cpu", 0.0) + hours.gpu_hours * price.get("gpu", 0.0)
        return f"{amount:,.2f}" if amount >= 1 else f"{amount:.2g}"

    def _best(self, pulse: Pulse) -> list[str]:
        lines = []
        if best := pulse.best:
            where = f"{best.folds} of {self.n_folds} folds"
            lines.append(f"best     {best.label} {best.candidate[:6]}: {self.metric} {best.mean:.4f} over {where}")
        if blend := pulse.blend:
            lines.append(
                f"blend    {blend.members} of {blend.candidates} complete candidates: pearson {blend.pearson:.4f} on "
                "halves that its weights have not seen"
            )
        return lines

    # The tables

    def _live(self) -> tuple[LiveRun, ...]:
        """Return what runs now; what a driver that is gone last told of runs no more."""
        return () if self.pulse is None or self.is_over else self.pulse.running

    def _steps(self) -> list[str]:
        early = ["fold 0 begun", *(f"fold 0 at {rung:.0%}" for rung in self.rungs)]
        return [*early, *(f"{done} of {self.n_folds} folds" for done in range(1, self.n_folds + 1))]

    def _step(self, climb: Climb) -> str:
        if climb.scores:
            return f"{len(climb.scores)} of {self.n_folds} folds"
        passed = [rung for rung in self.rungs if rung <= climb.rung + 1e-9]
        return f"fold 0 at {passed[-1]:.0%}" if passed else "fold 0 begun"

    def _ladder_table(self) -> Table:
        found = Counter((self._step(climb), climb.state) for climb in self.climbs)
        shown = [state for state in STATES if any(climb.state == state for climb in self.climbs)]
        table = Table(title="candidates on the ladder")
        table.add_column("step")
        for state in shown:
            table.add_column(state, justify="right")
        if self.pulse is not None and self.pulse.to_come:
            table.add_row(f"not begun: {self.pulse.to_come}", *("" for _ in shown))
        for step in self._steps():
            table.add_row(step, *(str(found[step, state] or "") for state in shown))
        return table

    def _running_table(self) -> Table:
        table = Table(title="running now")
        table.add_column("candidate", overflow="fold")
        for name in ("fold", "last rung", self.metric, "for"):
            table.add_column(name, justify="right", no_wrap=True)
        for run in self._shown(self._live()):
            fold = f"{run.fold} again" if run.attempt else str(run.fold)
            rung = f"{run.progress:.0%}" if run.progress else ""
            score = f"{run.metric:.4f}" if run.metric is not None else ""
            table.add_row(Text(f"{run.label} {run.candidate[:6]}"), fold, rung, score, duration(run.seconds))
        return table

    def _candidates_table(self) -> Table:
        shown = self._shown(self.climbs)
        more = len(self.climbs) - len(shown)
        caption = f"and {more} more: --all shows them" if more else None
        table = Table(title="candidates, those with most folds first", caption=caption)
        table.add_column("candidate", overflow="fold", ratio=2)
        for name in (self.metric, "step", "state"):
            table.add_column(name, no_wrap=True)
        table.add_column("reason", overflow="fold", ratio=3)
        for climb in shown:
            mean = f"{climb.mean:.4f}" if climb.scores else ""
            name = f"{self.label(climb.candidate)} {climb.candidate[:6]}"
            table.add_row(Text(name), mean, self._step(climb), climb.state, Text(climb.reason))
        return table

    def _shown(self, entries: tuple[Any, ...]) -> tuple[Any, ...]:
        return entries if self.show_all else entries[:ROWS]

    def _troubles(self) -> list[Text]:
        """Return what failed and why, and what else went wrong in this run of the search."""
        failed = [climb for climb in self.climbs if climb.state == "failed"]
        lines = [
            Text(f"failed   {self.label(climb.candidate)} {climb.candidate[:6]}: {climb.reason}", style="red")
            for climb in self._shown(tuple(failed))
        ]
        if len(failed) > len(lines):
            lines.append(Text(f"failed   {len(failed) - len(lines)} more: --all shows them", style="red"))
        for trouble in self._shown(self.pulse.troubles[::-1] if self.pulse else ()):
            lines.append(
                Text(f"trouble  {duration(max(self.now - trouble.at, 0))} ago: {trouble.what}", style="yellow")
            )
        return lines


class StatusReader:
    """Reads how the search of a run directory stands, again and again; what never changes is read once.

    Args:
        run_dir: a folder or `pyarrow.fs` URI.
        show_all: whether lists are shown to their end.
        today: seconds since 1970.
    """

    def __init__(self, run_dir: str, *, show_all: bool = False, today: Callable[[], float] = time.time) -> None:
        self._run_dir = run_dir
        self._show_all = show_all
        self._today = today
        self._labels: dict[str, str] = {}

    def read(self) -> Status:
        """Return how the search stands.

        Raises:
            InputError: no run directory, a file in it is damaged, or it is of a version that kept no `pulse.json` and
                its prepared folder, which else tells metric and folds, is not seen from here.
        """
        study = kept_study(self._run_dir)
        claim, pulse = read_claim(self._run_dir), read_pulse(self._run_dir)
        metric, n_folds = measured(self._run_dir, study, pulse)
        over = claim is None or claim.is_stale
        live = frozenset(run.candidate for run in pulse.running) if pulse and not over else frozenset()
        climbs = _climbs(Curves(self._run_dir).points, read_outcomes(self._run_dir), live)
        utility = METRICS[metric].utility
        return Status(
            run_dir=self._run_dir,
            name=study.get("name", ""),
            metric=metric,
            n_folds=n_folds,
            rungs=tuple(study.get("ladder", {}).get("rungs", ())),
            price=study.get("price_per_hour"),
            climbs=tuple(sorted(climbs, key=lambda c: (-len(c.scores), -utility(c.mean) if c.scores else -c.rung))),
            claim=claim,
            pulse=pulse,
            now=self._today(),
            label=self._label,
            show_all=self._show_all,
        )

    def _label(self, candidate: str) -> str:
        if candidate not in self._labels:
            content = read_bytes(join(self._run_dir, "candidates", f"{candidate}.json"))
            self._labels[candidate] = candidate_label(json.loads(content))
        return self._labels[candidate]


def follow(reader: StatusReader, console: Console) -> Status:
    """Show how a search stands, anew every few seconds, until its driver ends or Ctrl-C; return what was read last."""
    found = reader.read()
    with (
        suppress(KeyboardInterrupt),
        Live(found, console=console, screen=console.is_terminal, auto_refresh=False) as page,
    ):
        while not found.is_over:
            page.update(found, refresh=True)
            time.sleep(PULSE_SECONDS)
            found = reader.read()
    return found


@dataclass
class _Climbing:
    scores: dict[int, float] = field(default_factory=dict)
    rung: float = 0.0

    def take(self, point: CurvePoint) -> None:
        if point.fold == 0:
            self.rung = point.progress
        if point.progress >= 1 and not math.isnan(point.metric):
            self.scores[point.fold] = point.metric


def _climbs(points: list[CurvePoint], outcomes: Mapping[str, CandidateStatus], live: frozenset[str]) -> list[Climb]:
    """Return every candidate that has begun, in order of first report."""
    climbing: dict[str, _Climbing] = {}
    for point in points:
        climbing.setdefault(point.candidate, _Climbing()).take(point)
    names = dict.fromkeys([*climbing, *outcomes, *live])
    return [_climb(name, climbing.get(name, _Climbing()), outcomes.get(name), name in live) for name in names]


def _climb(name: str, climbing: _Climbing, outcome: CandidateStatus | None, is_live: bool) -> Climb:
    status = outcome or CandidateStatus("running", "no decision on record yet")
    if is_live and status.state == "waiting":  # `status.json` may be older than the pulse
        status = CandidateStatus("running", "its next fold has started")
    state = "due" if status.state == "running" and not is_live else status.state
    return Climb(name, state, status.reason, climbing.scores, climbing.rung)
