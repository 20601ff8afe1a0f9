"""Part 2, the search: leaderboard, ladder, curves, slots, saved time, Optuna's plots."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from blendfold.report.facts.report_source import ReportSource
from blendfold.report.facts.saved_time import SavedTime
from blendfold.report.facts.slot_times import slot_times
from blendfold.report.figures.optuna_figures import Scored, optuna_figures
from blendfold.report.figures.search_figures import curves_figure, ladder_figure, saved_figure, slots_figure
from blendfold.report.page.blocks import Block, Column, DataTable, Heading, Part, Remark, Row, Value
from blendfold.report.parts.panels import panels
from data_prep.console import duration
from search.watch.leaderboard import LeaderboardRow, Unscored

MOST_SETTINGS = 14
"""Differing settings that have a column of their own in the leaderboard."""


def search_part(source: ReportSource) -> Part:
    """Return the part."""
    if source.is_imported:
        said = "These predictions were imported: nothing was searched here, so there is no ladder and no curve."
        return Part("search", "Search", [Remark(said)])
    return Part(
        "search",
        "Search",
        [
            *panels("Leaderboard", lambda: [_leaderboard(source)]),
            *panels("The ladder", lambda: _ladder(source)),
            *panels("Slots over time", lambda: _slots(source)),
            *panels("Saved time", lambda: _saved(source)),
            *panels("Optuna's plots", lambda: _optuna(source)),
        ],
    )


def _leaderboard(source: ReportSource) -> DataTable:
    board = source.board
    settings = dict(list(source.names.differing.items())[:MOST_SETTINGS])
    columns = [
        Column("rank", "#", 0, hint="Candidates with all folds, by their mean"),
        Column("name", "candidate", hint="Name in the study, or model with the start of the id"),
        Column("folds", "folds", 0, hint=f"Finished, of {board.n_folds}"),
        Column("mean", f"mean {board.metric}", 4, hint="Over the finished folds"),
        Column("spread", "sd", 4, hint="Standard deviation over folds"),
        Column("pooled", "pooled", 4, hint="Over all rows of the finished folds at once"),
        Column("difference", "to leader", 4, signed=True, hint="On the folds that both have finished"),
        Column("error", "± se", 4, hint="Standard error of the difference, by a bootstrap over groups"),
        Column("tie", "verdict", hint="Whether the difference is within noise"),
        Column("minutes", "minutes", 1, hint="Training, over all folds"),
        Column("state", "state"),
        *(Column(f"set-{key}", key) for key in settings),
        Column("id", "id", is_code=True),
        Column("reason", "reason"),
    ]
    rows = [_scored_row(source, place, row, settings) for place, row in enumerate(board.rows, start=1)]
    rows += [_unscored_row(source, entry, settings) for entry in board.unscored]
    return DataTable(
        "leaderboard",
        f"Leaderboard: {board.metric} over {board.n_folds} folds",
        columns,
        rows,
        note="A click on a head sorts. Differences are paired, row by row; two candidates tie where the 95 % "
        "interval of their difference holds zero.",
    )


def _setting(value: object) -> Value:
    return value if isinstance(value, bool | int | float) or value is None else str(value)


def _scored_row(
    source: ReportSource, place: int, row: LeaderboardRow, settings: Mapping[str, Mapping[str, Any]]
) -> Row:
    complete = len(row.folds) == source.board.n_folds
    difference = row.difference
    verdict = "leader" if place == 1 else ""
    if difference is not None:
        verdict = "tie" if difference.is_noise else ("better" if difference.value > 0 else "behind")
    name = source.names.of(row.candidate) + (" (retried)" if row.retried else "")
    values: list[Value] = [
        place if complete else None,
        name,
        len(row.folds),
        row.mean,
        row.spread,
        row.pooled,
        None if difference is None else difference.value,
        None if difference is None else difference.standard_error,
        verdict,
        row.minutes,
        row.state,
        *(_setting(values[row.candidate]) for values in settings.values()),
        row.candidate,
        row.reason,
    ]
    return Row(row.candidate, values, muted=not complete)


def _unscored_row(source: ReportSource, entry: Unscored, settings: Mapping[str, Mapping[str, Any]]) -> Row:
    minutes = source.run.minutes.get(entry.candidate)
    values: list[Value] = [
        None,
        source.names.of(entry.candidate),
        0,
        *([None] * 5),
        "",
        minutes,
        entry.state,
        *(_setting(values[entry.candidate]) for values in settings.values()),
        entry.candidate,
        entry.reason,
    ]
    return Row(entry.candidate, values, muted=True)


def _ladder(source: ReportSource) -> Iterator[Block]:
    metric = source.run.metric.name
    if not any(way.steps for way in source.ways):
        yield Remark("No fold run has reported yet, so there is no way to show.", title="The ladder")
        return
    yield ladder_figure(source.ways, source.names, n_folds=source.run.n_folds, metric=metric)
    yield curves_figure(source.run, source.ways, source.names, metric=metric)


def _slots(source: ReportSource) -> Iterator[Block]:
    times = slot_times(source.run)
    if times:
        yield slots_figure(times, source.names, metric=source.run.metric.name)
    else:
        said = "No fold run has finished here, or the times of its files contradict the order of reports (a copy)."
        yield Remark(said, title="Slots over time")


def _saved(source: ReportSource) -> Iterator[Block]:
    saved = source.saved
    if not saved.full:
        yield Remark("Nothing was trained here, so early stopping saved nothing.", title="What early stopping saved")
        return
    yield saved_figure(saved)
    yield _saved_table(saved)


def _saved_table(saved: SavedTime) -> DataTable:
    columns = [
        Column("what", "training time"),
        Column("minutes", "minutes", 1),
        Column("share", "of the full grid", 1, percent=True),
        Column("shown", "as time"),
    ]
    parts = {
        "full grid": saved.full,
        "trained": saved.trained,
        "may still come": saved.open,
        "saved: cut at a rung": saved.cut,
        "saved: later folds not started": saved.not_promoted,
    }
    rows = [
        Row(name, [name, minutes, minutes / saved.full, duration(60 * minutes)])
        for name, minutes in parts.items()
        if minutes or name != "may still come"
    ]
    return DataTable("saved-time", "Training time in numbers", columns, rows, is_half=True)


def _optuna(source: ReportSource) -> Iterator[Block]:
    yield Heading("Optuna’s view of the study")
    latest = {name: curves[0][-1].metric for name, curves in source.run.curves.items() if 0 in curves}
    values = {**latest, **{row.candidate: row.mean for row in source.board.rows}}
    scored = [Scored(name, value) for name, value in values.items() if not math.isnan(value)]
    yield from optuna_figures(
        scored,
        source.names.differing,
        metric=source.board.metric,
        maximize=source.run.metric.greater_is_better,
    )
