"""The figure of the ledger: CV against the leaderboard."""

from typing import Any

from blend.ledger.cv_vs_leaderboard import CvVsLeaderboard, Line, TrackedSubmission
from blendfold.report.figures.plotting import COLORS, PLAIN, axis, hover, rounded, short
from blendfold.report.page.blocks import Figure


def ledger_figure(tracking: CvVsLeaderboard, metric: str) -> Figure:
    """Draw every submission with CV and leaderboard score, with the line of each scheme; flagged ones have a ring."""
    rows = [row for row in tracking.rows if row.entry.cv is not None and _board(row, tracking.board) is not None]
    schemes = list(dict.fromkeys(row.entry.scheme for row in rows))
    traces: list[dict[str, Any]] = []
    for scheme, color in zip(schemes, COLORS * 2, strict=False):
        mine = [row for row in rows if row.entry.scheme == scheme]
        cvs = [row.entry.cv or 0.0 for row in mine]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": f"{scheme} ({len(mine)})",
                "x": rounded(cvs),
                "y": rounded([_board(row, tracking.board) or 0.0 for row in mine]),
                "marker": {
                    "size": 10,
                    "color": color,
                    "line": {"width": [2.5 if row.flags else 0 for row in mine], "color": "@ink"},
                },
                "text": [
                    hover(
                        row.entry.title,
                        f"CV {row.entry.cv:.5f}, {tracking.board} {_board(row, tracking.board):.5f}",
                        *(f"{flag.kind}: {flag.reason}" for flag in row.flags),
                    )
                    for row in mine
                ],
                "hovertemplate": PLAIN,
            }
        )
        for line in dict.fromkeys(row.line for row in mine if row.line is not None):
            traces.append(_line(line, min(cvs), max(cvs), color))
    return Figure(
        id="cv-board",
        title="CV against the leaderboard",
        data=traces,
        layout={"xaxis": axis(f"CV ({metric}, mean over folds)"), "yaxis": axis(f"{tracking.board} leaderboard")},
        height=460,
        note="A ring marks a submission with a flag; point at it for the reason.",
    )


def _board(row: TrackedSubmission, board: str) -> float | None:
    score: float | None = getattr(row.entry, board)
    return score


def _line(line: Line, low: float, high: float, color: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": short(f"{line.of}: {line.slope:.2f} CV {line.intercept:+.3f}", 44),
        "x": rounded([low, high]),
        "y": rounded([line.at(low), line.at(high)]),
        "line": {"color": color, "width": 1.6},
        "hoverinfo": "skip",
    }
