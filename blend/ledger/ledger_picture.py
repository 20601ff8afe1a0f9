"""The picture of CV against the leaderboard: schemes, lines, residuals, flags."""

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from blend.ledger.cv_vs_leaderboard import CvVsLeaderboard, TrackedSubmission
from blend.ledger.ledger_entry import KNOWN_SCHEMES, UNKNOWN
from blend.ledger.ledger_report import verdict
from data_prep.errors import InputError
from data_prep.store.files import write_bytes
from data_prep.wording import visible

KINDS = ("svg", "png", "pdf")
COLOURS = dict(zip(KNOWN_SCHEMES, ("#d55e00", "#e69f00", "#009e73", "#0072b2", "#6e6e6e"), strict=True))
"""By scheme, from the palette of Okabe and Ito: warm if groups are split, cool if they are kept together."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
"""For the splits of a scheme, in the order of the ledger."""
ALL = "all of "
RINGS = {"leaking": "#b00020", "out of line": "#222222"}
SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "blendfold",
    "svg.fonttype": "none",
    "font.size": 10,
    "text.parse_math": False,
}
WIDEST_TITLE = 96


def check_kind(out: str) -> str:
    """Return the kind of picture that a file name asks for; InputError if there is no such kind."""
    kind = Path(out).suffix.removeprefix(".")
    if kind not in KINDS:
        raise InputError(f"--out {out}: the suffix must be one of {', '.join('.' + kind for kind in KINDS)}")
    return kind


def write_picture(tracking: CvVsLeaderboard, out: str) -> None:
    """Write the picture, whole or not at all, as the kind of file that the suffix of its name says."""
    write_bytes(render_picture(tracking, check_kind(out)), out)


def render_picture(tracking: CvVsLeaderboard, kind: str) -> bytes:
    """Return the picture as a file of one of `KINDS`; the same ledger gives the same bytes."""
    content = io.BytesIO()
    with mpl.rc_context(SETTINGS):
        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
        draw(tracking).savefig(content, format=kind, dpi=150, metadata=metadata)
    return content.getvalue()


def draw(tracking: CvVsLeaderboard) -> Figure:
    """Draw every submission that has a CV and a leaderboard score, with the legend at the side."""
    figure = Figure(figsize=(10.5, 6.3), layout="constrained")
    axes = figure.add_subplot()
    axes.margins(0.08)
    rows = [row for row in tracking.rows if row.entry.cv is not None and _board(row, tracking) is not None]
    handles = [*_draw_points(axes, rows, tracking), *_draw_lines(axes, rows), *_draw_flags(axes, rows, tracking)]
    handles.append(_draw_equality(axes))
    axes.set_xlabel(f"CV ({rows[0].entry.metric}, mean over folds)")
    axes.set_ylabel(f"{tracking.board} leaderboard")
    axes.set_title(_wrapped(verdict(tracking)), loc="left", fontsize=11.5, fontweight="bold")
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9)
    return figure


def _board(row: TrackedSubmission, tracking: CvVsLeaderboard) -> float | None:
    score: float | None = getattr(row.entry, tracking.board)
    return score


def _points(rows: list[TrackedSubmission], tracking: CvVsLeaderboard) -> tuple[list[float], list[float]]:
    pairs = [(row.entry.cv, _board(row, tracking)) for row in rows]
    known = [(cv, score) for cv, score in pairs if cv is not None and score is not None]
    return [cv for cv, _ in known], [score for _, score in known]


def _draw_points(axes: Axes, rows: list[TrackedSubmission], tracking: CvVsLeaderboard) -> list[Line2D]:
    """Draw points and their residuals; return a handle for each split."""
    handles = []
    for scheme in dict.fromkeys(row.entry.scheme for row in rows):
        splits = dict.fromkeys(row.entry.split for row in rows if row.entry.scheme == scheme)
        for place, split in enumerate(splits):
            of_split = [row for row in rows if row.entry.split == split]
            style: dict[str, Any] = {
                "color": COLOURS[scheme],
                "marker": MARKERS[place % len(MARKERS)],
                "linestyle": "none",
            }
            name = "scheme not known" if split == UNKNOWN else split
            (handle,) = axes.plot(
                *_points(of_split, tracking),
                **style,
                markersize=7,
                markeredgecolor="white",
                markeredgewidth=0.8,
                zorder=3,
                label=f"{visible(name)} ({len(of_split)})",
            )
            handles.append(handle)
            for row in of_split:
                _draw_stem(axes, row)
    return handles


def _draw_stem(axes: Axes, row: TrackedSubmission) -> None:
    cv, line = row.entry.cv, row.line
    if line is None or cv is None or row.residual is None:
        return
    on_line = line.at(cv)
    axes.plot(
        [cv, cv], [on_line, on_line + row.residual], color=COLOURS[row.entry.scheme], alpha=0.45, linewidth=1, zorder=2
    )


def _draw_lines(axes: Axes, rows: list[TrackedSubmission]) -> list[Line2D]:
    """Draw each line over the range of CVs that it is fitted to."""
    handles = []
    lines = list(dict.fromkeys((row.line, row.entry.scheme) for row in rows if row.line is not None))
    for place, (line, scheme) in enumerate(lines):
        fitted = [row.entry for row in rows if line.of in (row.entry.scheme, row.entry.split)]
        cvs = [entry.cv for entry in fitted if entry.cv is not None]
        ends = [min(cvs), max(cvs)]
        kind = f"{line.slope:.2f} CV {line.intercept:+.3f}" if line.slope != 1.0 else f"CV {line.intercept:+.4f}"
        (handle,) = axes.plot(
            ends,
            [line.at(end) for end in ends],
            color=COLOURS[scheme],
            linestyle=("-", "--", ":", "-.")[place % 4],
            linewidth=1.4,
            zorder=2,
            label=f"{ALL if line.of == scheme else ''}{visible(line.of)}: {kind}",
        )
        handles.append(handle)
    return handles


def _draw_flags(axes: Axes, rows: list[TrackedSubmission], tracking: CvVsLeaderboard) -> list[Line2D]:
    """Put a ring and a name on flagged submissions."""
    handles = []
    for kind, colour in RINGS.items():
        flagged = [row for row in rows if any(flag.kind == kind for flag in row.flags)]
        if not flagged:
            continue
        ring: dict[str, Any] = {
            "marker": "o",
            "linestyle": "none",
            "markerfacecolor": "none",
            "markeredgecolor": colour,
        }
        axes.plot(*_points(flagged, tracking), **ring, markersize=13, markeredgewidth=1.4, zorder=4)
        handles.append(Line2D([], [], **ring, markersize=9, label=kind))
        for row, cv, score in zip(flagged, *_points(flagged, tracking), strict=True):
            axes.annotate(
                visible(row.entry.title),
                (cv, score),
                xytext=(0, -12),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=9,
                color=colour,
            )
    return handles


def _draw_equality(axes: Axes) -> Line2D:
    """Draw where leaderboard and CV are equal, without widening the view."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    (handle,) = axes.plot(
        [left, right],
        [left, right],
        color="#8a8a8a",
        linewidth=1,
        linestyle=(0, (1, 2)),
        zorder=1,
        label="leaderboard = CV",
    )
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    return handle


def _wrapped(sentence: str) -> str:
    """Break a text at the end of each clause, or where it is too wide."""
    lines = [""]
    for word in sentence.split():
        if len(lines[-1]) + len(word) > WIDEST_TITLE or lines[-1].endswith((";", ".")):
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
