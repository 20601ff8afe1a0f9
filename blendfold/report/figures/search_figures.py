"""Figures of the search: the ladder, curves, slots over time, saved time."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from blendfold.report.facts.candidate_names import CandidateNames
from blendfold.report.facts.ladder_ways import Way
from blendfold.report.facts.saved_time import SavedTime
from blendfold.report.facts.slot_times import SlotTime
from blendfold.report.figures.plotting import COLORS, PLAIN, axis, hover, rounded, short
from blendfold.report.page.blocks import Figure, Menu
from data_prep.console import duration
from data_prep.wording import count
from search.run_dir.run_dir import RunDir

STATE_COLORS = {
    "finished": "@c1",
    "running": "@c3",
    "queued": "@c3",
    "waiting": "@c5",
    "stopped": "@muted",
    "failed": "@c2",
}
STATE_MARKERS = {"finished": "circle", "stopped": "x", "failed": "x", "waiting": "diamond"}
HIGHLIGHTED = 8
"""Candidates whose curves have a color and a name of their own."""
ALL_FOLDS = "all folds"


def ladder_figure(ways: Sequence[Way], names: CandidateNames, *, n_folds: int, metric: str) -> Figure:
    """Draw the way of every candidate over rungs and folds; the reason stands at its end."""
    traces = []
    for state, color in STATE_COLORS.items():
        mine = [way for way in ways if way.state == state and way.steps]
        if not mine:
            continue
        x: list[float | None] = []
        y: list[float | None] = []
        texts: list[str] = []
        symbols: list[str] = []
        for way in mine:
            for number, step in enumerate(way.steps, start=1):
                is_end = number == len(way.steps)
                x.append(step.place)
                y.append(round(step.metric, 5))
                symbols.append(STATE_MARKERS.get(state, "circle-open") if is_end else "circle")
                said = f"{state}: {way.reason}" if is_end else (way.promotion if step.place == 1 else "")
                texts.append(hover(names.of(way.candidate), f"{step.step}: {metric} {step.metric:.4f}", said))
            x.append(None)
            y.append(None)
            symbols.append("circle")
            texts.append("")
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": f"{state} ({len(mine)})",
                "x": x,
                "y": y,
                "text": texts,
                "hovertemplate": PLAIN,
                "line": {"color": color, "width": 1.6},
                "marker": {"symbol": symbols, "size": 8, "color": color},
                "opacity": 0.9 if state != "stopped" else 0.75,
            }
        )
    rungs = sorted({step.place for way in ways for step in way.steps if step.place < 1})
    ticks = [*rungs, *range(1, n_folds + 1)]
    words = [*(f"fold 0<br>at {rung:.0%}" for rung in rungs), "fold 0", *(f"{n} folds" for n in range(2, n_folds + 1))]
    least = min(rungs, default=1.0)
    return Figure(
        id="ladder",
        title="The ladder",
        data=traces,
        layout={
            "xaxis": axis(tickvals=ticks, ticktext=words, range=[least - 0.25, n_folds + 0.25], zeroline=False),
            "yaxis": axis(f"{metric}, mean over folds"),
        },
        height=420,
        min_width=560,
        note="Each line is a candidate: what it scored at the rungs of fold 0, then its mean over one, two and more "
        "folds. A line ends where the ladder stopped it; point at its end for the reason.",
    )


def curves_figure(run: RunDir, ways: Sequence[Way], names: CandidateNames, *, metric: str) -> Figure:
    """Draw the metric over training, a line for each candidate and fold; the best have a color and a name."""
    traces: list[dict[str, Any]] = []
    best = {way.candidate: place for place, way in enumerate(ways[:HIGHLIGHTED])}
    folds = sorted({point.fold for point in run.points})
    ordered = sorted((way.candidate for way in ways), key=lambda candidate: best.get(candidate, -1))
    for fold in folds:
        for candidate in ordered:
            curve = run.curves[candidate].get(fold, ())
            points = [point for point in curve if not math.isnan(point.metric)]
            if not points:
                continue
            place, name = best.get(candidate), names.of(candidate)
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": short(name, 28) if place is not None else "others",
                    "legendgroup": candidate if place is not None else "others",
                    "showlegend": place is not None or candidate == next(c for c in ordered if c not in best),
                    "x": rounded([point.epoch for point in points], 4),
                    "y": rounded([point.metric for point in points]),
                    "text": [
                        hover(name, f"fold {fold}, epoch {p.epoch:.2f}: {metric} {p.metric:.4f}, {duration(p.seconds)}")
                        for p in points
                    ],
                    "hovertemplate": PLAIN,
                    "line": {"color": "@dim" if place is None else COLORS[place], "width": 1 if place is None else 2},
                    "marker": {"size": 4 if place is None else 7, "color": "@dim" if place is None else COLORS[place]},
                    "meta": f"fold {fold}",
                }
            )
    return Figure(
        id="curves",
        title="Curves",
        data=traces,
        layout={"xaxis": axis("epoch", rangemode="tozero"), "yaxis": axis(metric)},
        note=f"The metric at each report of a fold run. The best {count(HIGHLIGHTED, 'candidate')} have colors; the "
        "others are gray. A click on a name hides it.",
        choice=Menu("Show", [f"fold {fold}" for fold in folds]) if len(folds) > 1 else None,
        height=420,
    )


def slots_figure(times: Sequence[SlotTime], names: CandidateNames, *, metric: str) -> Figure:
    """Draw which fold run held which slot when."""
    colors = {"finished": "@c1", "stopped": "@dim", "running": "@c3"}
    n_slots = 1 + max(time.slot for time in times)
    traces = []
    for kind, color in colors.items():
        mine = [time for time in times if time.kind == kind]
        if not mine:
            continue
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": f"{kind} ({len(mine)})",
                "base": [_clock(time.start) for time in mine],
                "x": [round(1000 * (time.end - time.start)) for time in mine],
                "y": [time.slot + 1 for time in mine],
                "text": [
                    hover(
                        f"{names.of(time.candidate)}, fold {time.fold}",
                        f"{kind} after {duration(time.end - time.start)}"
                        + ("" if math.isnan(time.metric) else f", {metric} {time.metric:.4f}"),
                    )
                    for time in mine
                ],
                "textposition": "none",
                "hovertemplate": PLAIN,
                "marker": {"color": color, "line": {"color": "@panel", "width": 1.5}},
                "width": 0.72,
            }
        )
    return Figure(
        id="slots",
        title="Slots over time",
        data=traces,
        layout={
            "barmode": "overlay",
            "xaxis": axis("UTC", type="date"),
            "yaxis": axis("slot", dtick=1, range=[n_slots + 0.6, 0.4], showgrid=False, zeroline=False),
        },
        height=max(180, 34 * n_slots + 120),
        note="Each bar is a fold run on a worker. Ends of finished fold runs are the times of their tables; stopped "
        "ones are put where a slot was free between the reports around theirs.",
    )


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def saved_figure(saved: SavedTime) -> Figure:
    """Draw the full grid's training time: what was trained, and what was not."""
    parts = (
        ("trained", saved.trained, "@c1"),
        ("may still come", saved.open, "@c3"),
        ("saved: cut at a rung", saved.cut, "@c5"),
        ("saved: later folds not started", saved.not_promoted, "@dim"),
    )
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "x": [round(minutes / 60, 4)],
            "y": [""],
            "text": [hover(name, f"{duration(60 * minutes)}, {minutes / saved.full:.0%} of the full grid")],
            "textposition": "none",
            "hovertemplate": PLAIN,
            "marker": {"color": color},
        }
        for name, minutes, color in parts
        if minutes > 0
    ]
    return Figure(
        id="saved",
        title="What early stopping saved",
        data=traces,
        layout={
            "barmode": "stack",
            "legend": {"traceorder": "normal"},
            "xaxis": axis("hours of training"),
            "yaxis": axis(showticklabels=False),
        },
        height=230,
        is_half=True,
        note="The full grid is every candidate on every fold to the end, each as fast as its own fold runs were.",
    )
