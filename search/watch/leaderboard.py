"""`leaderboard`: the candidates of a run directory, ranked, with standard errors by a bootstrap over groups."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from data_prep.prepared import Prepared
from data_prep.scoring.group_bootstrap import GroupBootstrap, PairedDifference
from data_prep.scoring.metrics import Metric
from data_prep.store.oof_store import Provenance, retried_note
from data_prep.store.tables import QUANTITIES
from data_prep.target_views import target_views
from data_prep.targets.target_columns import numbers_of
from data_prep.wording import count
from search.ladder.decisions import FINISHED, CandidateStatus
from search.run_dir.fold_rows import FoldRows
from search.run_dir.run_dir import RunDir
from search.watch.settings_apart import SettingsApart

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LeaderboardRow:
    """One candidate with at least one finished fold."""

    candidate: str
    name: str
    """In the study; empty for one that the sampler drew."""
    label: str
    family: str
    state: str
    reason: str
    folds: tuple[int, ...]
    scores: Mapping[int, float]
    """The metric on each finished fold."""
    mean: float
    spread: float
    """Standard deviation over the finished folds; NaN for one fold."""
    pooled: float
    """The metric over all rows of the finished folds at once."""
    targets: Mapping[str, float]
    """`pooled` for each of several targets, whose mean it is; empty where there is one, or classes."""
    difference: PairedDifference | None
    """To the leader, over the folds that both have finished; None for the leader, and if there is no such fold."""
    retried: tuple[int, ...]
    """Folds whose first run failed to learn."""
    minutes: float
    """Time spent training, over all folds."""


@dataclass(frozen=True)
class Unscored:
    """One candidate without a finished fold."""

    candidate: str
    name: str
    label: str
    state: str
    reason: str


@dataclass(frozen=True)
class Leaderboard:
    """The ranking; prints itself with rich."""

    metric: str
    n_folds: int
    rows: tuple[LeaderboardRow, ...]
    """Complete candidates by mean, then those with fewer folds, by difference to the leader on the same folds."""
    unscored: tuple[Unscored, ...]
    counts: Mapping[str, int]
    """How many candidates are in each state, also of those that are not shown."""
    targets: tuple[str, ...] = ()
    """Names of several targets, over which the metric is the mean."""
    greater_is_better: bool = True
    """Whether that is so of the metric."""
    apart: SettingsApart = field(default_factory=SettingsApart)
    """The settings in which those that are shown differ."""

    @property
    def can_be_blended(self) -> bool:
        """Whether any candidate is complete; only those can be members of a blend."""
        return any(len(row.folds) == self.n_folds for row in self.rows)

    def records(self) -> list[dict[str, Any]]:
        """Return every candidate that is shown, best first, with the settings in which they differ."""
        entries: list[LeaderboardRow | Unscored] = [*self.rows, *self.unscored]
        common, own = self.apart.common, self.apart.own
        return [{**vars(entry), "settings": {**common, **own.get(entry.candidate, {})}} for entry in entries]

    def document(self) -> dict[str, Any]:
        """Return the whole ranking as plain values."""
        counts = {"metric": self.metric, "n_folds": self.n_folds, "counts": self.counts}
        return {**counts, "candidates": self.records()}

    def brief(self) -> RenderableType:
        """Return the ranking and what tells candidates apart, without the reasons why some were stopped."""
        return Group(self._ranking(), self.apart, *self._count_lines())

    def __rich__(self) -> RenderableType:
        """Return the tables that a console shows."""
        entries: list[LeaderboardRow | Unscored] = [*self.rows, *self.unscored]
        dropped = [entry for entry in entries if entry.state in ("stopped", "failed")]
        reasons = [_reasons_table(dropped)] if dropped else []
        return Group(self._ranking(), *reasons, self.apart, *self._count_lines())

    def _ranking(self) -> RenderableType:
        if not self.rows:
            return "no fold run has finished yet"
        return Group(_ranking_table(self), *([_targets_table(self)] if self.targets else []))

    def _count_lines(self) -> list[str]:
        lines = [", ".join(f"{number} {state}" for state, number in self.counts.items())]
        if more := sum(self.counts.values()) - len(self.rows) - len(self.unscored):
            lines.append(f"{count(more, 'candidate')} more; show them with --all")
        return lines


def leaderboard(run_dir: str, *, most: int | None = None) -> Leaderboard:
    """Rank the candidates of a run directory; `most` is how many to show, with and without a finished fold (None: all).

    Only the tables of candidates that are shown are read; who is shown follows from the recorded metrics.

    Raises:
        InputError: not a run directory, its prepared folder is gone, or a table holds other rows.
    """
    run = RunDir(run_dir)
    data = run.data
    folds: dict[str, list[int]] = {}
    for name, fold in run.store.fold_runs():
        folds.setdefault(name, []).append(fold)
    tables = FoldRows(run.store, data)

    def read(name: str) -> _ScoredCandidate:
        found = {fold: _read_fold(tables, name, fold, measure) for fold in folds[name]}
        return _ScoredCandidate(name, found, measure)

    measure = data.task.measure
    names = list(folds)
    if most is not None and most < len(names):
        known = {name: _recorded(run, name, folds[name]) for name in names} if measure.name == run.metric.name else {}
        names = _best_first({name: known.get(name) or read(name).values for name in names}, measure.utility)[:most]
    scored = {name: read(name) for name in names}
    names = _best_first({name: entry.values for name, entry in scored.items()}, measure.utility)
    leader = scored[names[0]] if names else None
    noise = _Noise.of(data)
    targets = data.task.score_columns or () if data.task.classes is None else ()
    n_folds = data.manifest.n_folds
    states = {
        name: _state_and_reason(run.statuses.get(name), done=len(folds.get(name, ())), n_folds=n_folds)
        for name in [*folds, *(name for name in run.candidates if name not in folds)]
    }
    rows = [
        _row(
            scored[name],
            run,
            targets,
            state_and_reason=states[name],
            difference=noise.difference(scored[name], leader) if leader is not None else None,
        )
        for name in names
    ]
    silent = [name for name in states if name not in folds][:most]
    return Leaderboard(
        metric=measure.name,
        greater_is_better=measure.greater_is_better,
        n_folds=n_folds,
        rows=tuple(rows),
        unscored=tuple(Unscored(name, run.names.get(name, ""), run.label(name), *states[name]) for name in silent),
        counts=Counter(state for state, _ in states.values()),
        targets=targets,
        apart=SettingsApart.of(run, [*names, *silent]),
    )


# Reading the run directory


@dataclass(frozen=True)
class _ScoredFold:
    target: Floats
    """[rows], or [rows, numbers] where several are predicted."""
    prediction: Floats
    value: float
    """The metric over the fold."""
    retried: bool


@dataclass(frozen=True)
class _ScoredCandidate:
    candidate: str
    folds: dict[int, _ScoredFold]
    metric: Metric

    @property
    def values(self) -> dict[int, float]:
        return {number: fold.value for number, fold in self.folds.items()}


def _recorded(run: RunDir, name: str, folds: list[int]) -> dict[int, float] | None:
    """Return the metric of each finished fold as it was reported; None if some reports are missing."""
    curves = run.curves.get(name, {})
    reported = {fold: curve[-1].metric for fold, curve in curves.items() if curve[-1].progress >= FINISHED}
    return {fold: reported[fold] for fold in folds} if reported.keys() >= set(folds) else None


def _read_fold(rows: FoldRows, candidate: str, fold: int, metric: Metric) -> _ScoredFold:
    table = rows.read(candidate, fold)
    target, prediction = (numbers_of(table, quantity).astype(np.float64) for quantity in QUANTITIES)
    return _ScoredFold(target, prediction, metric(target, prediction), retried=Provenance.of(table).attempt > 0)


def _state_and_reason(status: CandidateStatus | None, *, done: int, n_folds: int) -> tuple[str, str]:
    """Return state and reason; the tables that exist outweigh what was last written."""
    if done == n_folds:
        return "finished", f"all {n_folds} folds done"
    if status is not None and status.state != "finished":
        return status.state, status.reason
    return "unfinished", f"{done} of {n_folds} folds done, no decision on record"


# Ranking


def _best_first(values: Mapping[str, Mapping[int, float]], utility: Callable[[float], float]) -> list[str]:
    """Rank candidates by their metric on each finished fold: most folds first, then by distance to the leader.

    The leader has the best mean of those with the most folds (if equally many: with the lowest folds).
    """
    if not values:
        return []

    def mean(name: str, folds: Sequence[int]) -> float:
        return sum(utility(values[name][fold]) for fold in folds) / len(folds)

    fullest = min((-len(folds), tuple(folds)) for folds in values.values())[1]
    leader = max((name for name, folds in values.items() if tuple(folds) == fullest), key=lambda n: mean(n, fullest))

    def key(name: str) -> tuple[int, tuple[int, ...], float]:
        common = [fold for fold in values[name] if fold in values[leader]]
        behind = mean(leader, common) - mean(name, common) if common else math.inf
        return -len(values[name]), tuple(values[name]), behind

    return sorted(values, key=key)


def _row(
    entry: _ScoredCandidate,
    run: RunDir,
    targets: Sequence[str],
    *,
    state_and_reason: tuple[str, str],
    difference: PairedDifference | None,
) -> LeaderboardRow:
    folds = tuple(entry.folds)
    values = [entry.folds[fold].value for fold in folds]
    target, prediction = (
        np.concatenate([getattr(entry.folds[fold], quantity) for fold in folds])
        for quantity in ("target", "prediction")
    )
    return LeaderboardRow(
        candidate=entry.candidate,
        name=run.names.get(entry.candidate, ""),
        label=run.label(entry.candidate),
        family=run.family(entry.candidate),
        state=state_and_reason[0],
        reason=state_and_reason[1],
        folds=folds,
        scores=entry.values,
        mean=float(np.mean(values)),
        spread=float(np.std(values, ddof=1)) if len(values) > 1 else float("nan"),
        pooled=entry.metric(target, prediction),
        targets=dict(zip(targets, entry.metric.of_each(target, prediction) if targets else (), strict=True)),
        difference=difference,
        retried=tuple(fold for fold in folds if entry.folds[fold].retried),
        minutes=run.minutes.get(entry.candidate, 0.0),
    )


# Differences and their noise


@dataclass(frozen=True)
class _Noise:
    """What differences between candidates are held against: draws of groups, for each question of the task."""

    fold_of_row: NDArray[np.int8]
    questions: tuple[tuple[NDArray[np.bool_], GroupBootstrap], ...]
    """The numbers [rows, numbers] that answer it, and their draws; rows are the train rows, once in every repeat."""

    @classmethod
    def of(cls, data: Prepared) -> Self:
        repeats = data.manifest.repeats
        targets, group = np.tile(_wide(data.targets), (repeats, 1)), np.tile(data.train["group"].to_numpy(), repeats)
        fold, group = (np.broadcast_to(column[:, None], targets.shape) for column in (data.folds.ravel(), group))
        views, number, known = target_views(data.task), np.arange(targets.shape[1]), ~np.isnan(targets)
        chosen = [known] if len(views) == 1 else [known & (number == place) for place in range(len(views))]
        draws = (
            GroupBootstrap(targets[mine], fold[mine], group[mine], view.task.measure)
            for view, mine in zip(views, chosen, strict=True)
        )
        return cls(fold[:, 0], tuple(zip(chosen, draws, strict=True)))

    def difference(self, entry: _ScoredCandidate, leader: _ScoredCandidate) -> PairedDifference | None:
        """Return how much better a candidate is than the leader, over the folds that both have finished.

        Of several questions it is the mean, with noise as if theirs were the same: no less than there is.
        """
        common = [fold for fold in entry.folds if fold in leader.folds]
        if entry is leader or not common:
            return None
        columns = [self._columns(each) for each in (entry, leader)]
        found = [draws.compare(*(each[mine] for each in columns), parts=common) for mine, draws in self.questions]
        return PairedDifference(*np.mean([astuple(each) for each in found], axis=0).tolist())

    def _columns(self, entry: _ScoredCandidate) -> Floats:
        """Return the predictions [rows, numbers], NaN in folds that are not finished."""
        columns = np.full(self.questions[0][0].shape, np.nan)
        for number, fold in entry.folds.items():
            columns[self.fold_of_row == number] = _wide(fold.prediction)
        return columns


def _wide(numbers: NDArray[np.floating]) -> Floats:
    """Return [rows, numbers] for [rows] or [rows, numbers]."""
    return numbers.astype(np.float64).reshape(len(numbers), -1)


# Printing


def _ranking_table(board: Leaderboard) -> Table:
    of = f", mean of {count(len(board.targets), 'target')}," if board.targets else ""
    table = Table(title=f"{board.metric}{of} over {board.n_folds} folds", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    table.add_column("candidate", overflow="fold", min_width=11)
    for name in ("folds", "mean", "sd", "pooled", "to leader", "minutes"):
        table.add_column(name, justify="right", no_wrap=name != "to leader")
    for number, row in enumerate(board.rows, start=1):
        complete = len(row.folds) == board.n_folds
        table.add_row(
            str(number) if complete else "",
            _name(row),
            f"{len(row.folds)}/{board.n_folds}",
            f"{row.mean:.4f}",
            f"{row.spread:.4f}" if len(row.folds) > 1 else "",
            f"{row.pooled:.4f}",
            _difference_text(row, leads=number == 1),
            f"{row.minutes:.1f}",
            style=None if complete else "dim",
        )
    return table


def _targets_table(board: Leaderboard) -> Table:
    """Return the candidates in their order with the metric of each target; the best of a target stands out."""
    better = max if board.greater_is_better else min
    best = {name: better(row.targets[name] for row in board.rows) for name in board.targets}
    table = Table(title=f"{board.metric} of each target, pooled", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("candidate", overflow="fold", min_width=11)
    for name in board.targets:
        table.add_column(Text(name), justify="right")
    for row in board.rows:
        values = (Text(f"{row.targets[name]:.4f}", "bold" if row.targets[name] == best[name] else "") for name in best)
        table.add_row(_title(row), *values)
    return table


def _name(row: LeaderboardRow) -> str:
    return f"{_title(row)}{retried_note(row.retried)}"


def _title(entry: LeaderboardRow | Unscored) -> str:
    return f"{entry.name or entry.label} {entry.candidate[:6]}"


def _difference_text(row: LeaderboardRow, *, leads: bool) -> str:
    if row.difference is None:
        return "leader" if leads else ""
    difference = row.difference
    return f"{difference.value:+.4f} ±{difference.standard_error:.4f}" + (" tie" if difference.is_noise else "")


def _reasons_table(entries: list[LeaderboardRow | Unscored]) -> Table:
    table = Table(title="stopped and failed", box=None, title_justify="left", show_header=False)
    table.add_column("candidate", overflow="fold")
    table.add_column("reason", overflow="fold", ratio=1)
    for entry in entries:
        table.add_row(_title(entry), f"{entry.state}: {entry.reason}")
    return table
