"""Figures of the errors: slices, confusion, residuals."""

from typing import Any

import pandas as pd

from blendfold.report.figures.plotting import PLAIN, SEQUENTIAL, axis, hover, rounded, rows_height, short
from blendfold.report.page.blocks import Figure, Menu

UNORDERED = 8
"""With more values than this, the picture has them by metric, not in their own order."""
MOST_SLICES = 40
"""Values of one column that the picture shows: those with the most rows."""


def slices_figure(slices: pd.DataFrame, metric: str, overall: float) -> Figure:
    """Draw the metric with its standard error in each slice, one column at a time."""
    columns = list(dict.fromkeys(slices["column"]))
    traces: list[dict[str, Any]] = []
    longest = 0
    for column in columns:
        mine = slices[(slices["column"] == column) & slices["metric"].notna()]
        mine = mine.sort_values("n", ascending=False, kind="stable").head(MOST_SLICES).sort_index()
        if len(mine) > UNORDERED:
            mine = mine.sort_values("metric", ascending=False, kind="stable")
        if mine.empty:
            continue
        longest = max(longest, len(mine))
        values = [f"{short(str(value), 26)}" for value in mine["value"]]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": metric,
                "showlegend": False,
                "x": rounded(mine["metric"]),
                "y": values,
                "error_x": {
                    "type": "data",
                    "array": rounded(mine["metric_error"]),
                    "color": "@muted",
                    "thickness": 1.5,
                    "width": 4,
                },
                "marker": {
                    "size": 9,
                    "color": ["@dim" if few else "@c1" for few in mine["few"]],
                    "symbol": ["circle-open" if few else "circle" for few in mine["few"]],
                    "line": {"width": 2},
                },
                "text": [
                    hover(
                        f"{column} {each.value}",
                        f"{metric} {each.metric:.4f} (standard error {each.metric_error:.4f})",
                        f"bias {each.bias:+.4f}, rmse {each.rmse:.4f}, {each.n:,} rows in {each.groups:,} groups",
                        "few rows: it says little" if each.few else "",
                    )
                    for each in mine.itertuples()
                ],
                "hovertemplate": PLAIN,
                "meta": column,
            }
        )
    shown = [trace["meta"] for trace in traces]
    line = {"type": "line", "x0": overall, "x1": overall, "yref": "paper", "y0": 0, "y1": 1}
    return Figure(
        id="slice-picture",
        title=f"{metric} by slice",
        data=traces,
        layout={
            "xaxis": axis(metric),
            "yaxis": axis(type="category", autorange="reversed", showgrid=False, dtick=1),
            "shapes": [{**line, "line": {"color": "@muted", "dash": "dot", "width": 1.5}}],
        },
        height=rows_height(longest, each=19, least=300),
        note="The dotted line is all rows together. Bars are one standard error, from resampling groups; an open "
        "circle has fewer than 30 rows.",
        choice=Menu("Slice by", shown) if len(shown) > 1 else None,
    )


def confusion_figure(confusion: pd.DataFrame) -> Figure:
    """Draw which share of each true level is predicted nearest to each level."""
    levels = [f"{level:g}" for level in confusion.index]
    rows = confusion.to_numpy()
    shares = [[count / max(row.sum(), 1) for count in row] for row in rows]
    trace = {
        "type": "heatmap",
        "z": [rounded(row, 4) for row in shares],
        "x": levels,
        "y": levels,
        "zmin": 0,
        "zmax": 1,
        "colorscale": SEQUENTIAL,
        "showscale": False,
        "xgap": 2,
        "ygap": 2,
        "texttemplate": "%{z:.0%}",
        "text": [
            [
                hover(f"true {levels[i]}, predicted {levels[j]}", f"{rows[i][j]:,} rows, {shares[i][j]:.1%}")
                for j in range(len(levels))
            ]
            for i in range(len(levels))
        ],
        "hovertemplate": PLAIN,
    }
    return Figure(
        id="confusion",
        title="Confusion by level",
        data=[trace],
        layout={
            "xaxis": axis("nearest level to the prediction", type="category", showgrid=False),
            "yaxis": axis("true score", type="category", autorange="reversed", showgrid=False),
        },
        note="Each row sums to 100 %: where the rows of one true score are predicted.",
        is_half=True,
    )


def residuals_figure(histogram: pd.DataFrame) -> Figure:
    """Draw the distribution of errors."""
    trace = {
        "type": "bar",
        "x": rounded((histogram["low"] + histogram["high"]) / 2),
        "y": histogram["n"].tolist(),
        "width": rounded(histogram["high"] - histogram["low"]),
        "marker": {"color": "@c1", "line": {"color": "@panel", "width": 1}},
        "text": [
            hover(f"error {each.low:+.3f} to {each.high:+.3f}", f"{each.n:,} rows") for each in histogram.itertuples()
        ],
        "textposition": "none",
        "hovertemplate": PLAIN,
    }
    return Figure(
        id="residuals",
        title="Residuals",
        data=[trace],
        layout={"xaxis": axis("prediction − true score"), "yaxis": axis("rows"), "bargap": 0},
        note="To the right of zero, too much is predicted.",
        is_half=True,
    )
