"""Figures of the data: leakage, lengths, drift between train and test."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from blendfold.report.facts.data_facts import ColumnLengths, ShareDrift
from blendfold.report.figures.plotting import PLAIN, axis, hover, rounded, short
from blendfold.report.page.blocks import Figure, Menu
from data_prep.audit.leakage import Leakage

MOST_BARS = 60


def leakage_figure(leakage: Leakage, metric: str) -> Figure:
    """Draw how a nearest-neighbor model scores under each split scheme."""
    trace = {
        "type": "bar",
        "x": [scheme.scheme for scheme in leakage.schemes],
        "y": rounded([scheme.metric for scheme in leakage.schemes]),
        "error_y": {
            "type": "data",
            "array": rounded([scheme.standard_error for scheme in leakage.schemes]),
            "color": "@muted",
        },
        "marker": {"color": ["@c1" if scheme.scheme == leakage.reference else "@dim" for scheme in leakage.schemes]},
        "text": [
            hover(scheme.scheme, f"{metric} {scheme.metric:.4f}, inflated by {scheme.inflation:+.4f}")
            for scheme in leakage.schemes
        ],
        "textposition": "none",
        "hovertemplate": PLAIN,
        "width": 0.6,
    }
    return Figure(
        id="leakage",
        title="How much a leaky split inflates CV",
        data=[trace],
        layout={"yaxis": axis(metric, rangemode="tozero"), "xaxis": axis(type="category")},
        height=320,
        note="A model that only looks up similar rows, under each way to split. Whatever it gains over the safest one "
        f"({leakage.reference}), any model could gain by memorizing. Bars are the standard error "
        "of the difference to it.",
        is_half=True,
    )


def lengths_figure(lengths: Sequence[ColumnLengths]) -> Figure:
    """Draw the distribution of lengths in tokens, train against test."""
    traces: list[dict[str, Any]] = []
    for part in lengths[::-1]:
        top = int(max(part.train.max(initial=0), part.test.max(initial=0)))
        step = max(1, -(-top // MOST_BARS))
        edges = np.arange(0, top + step + 1, step)
        for name, values, color in (("train", part.train, "@c1"), ("test", part.test, "@c2")):
            if not len(values):
                continue
            counts = np.histogram(values, edges)[0]
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "name": name,
                    "line": {"shape": "hvh", "color": color, "width": 2},
                    "x": edges[:-1].tolist(),
                    "y": rounded((counts / len(values)).tolist()),
                    "text": [
                        hover(
                            f"{name}: {low} to {low + step - 1} tokens" if step > 1 else f"{name}: {low} tokens",
                            f"{n:,} rows, {n / len(values):.1%}",
                        )
                        for low, n in zip(edges[:-1].tolist(), counts.tolist(), strict=True)
                    ],
                    "hovertemplate": PLAIN,
                    "meta": part.name,
                }
            )
    names = [part.name for part in lengths[::-1]]
    return Figure(
        id="lengths",
        title="Lengths in tokens, train and test",
        data=traces,
        layout={
            "xaxis": axis("tokens", rangemode="tozero"),
            "yaxis": axis("share of rows", tickformat=".0%", rangemode="tozero"),
        },
        height=380,
        note="Estimated as in a plan, without a tokenizer: a word has one token for each seven letters, a sign has its "
        "own. On patent phrases that is 9 % more than WordPiece makes.",
        choice=Menu("Texts", names) if len(names) > 1 else None,
        is_half=True,
    )


def contexts_figure(column: str, shares: Sequence[ShareDrift]) -> Figure:
    """Draw how often the values of the context occur in train and in test."""
    places = list(range(len(shares)))
    link = {
        "type": "scatter",
        "mode": "lines",
        "x": [x for each in shares for x in (round(each.train_share, 5), round(each.test_share, 5), None)],
        "y": [y for place in places for y in (place, place, None)],
        "line": {"color": "@dim", "width": 2},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    points = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "x": rounded([getattr(each, f"{name}_share") for each in shares]),
            "y": places,
            "marker": {"size": 9, "color": color, "symbol": symbol},
            "cliponaxis": False,
            "text": [
                hover(each.value, f"{name}: {getattr(each, name):,} rows, {getattr(each, f'{name}_share'):.2%}")
                for each in shares
            ],
            "hovertemplate": PLAIN,
        }
        for name, color, symbol in (("train", "@c1", "circle"), ("test", "@c2", "diamond"))
    ]
    return Figure(
        id="contexts",
        title=f"Where test differs most: {column}",
        data=[link, *points],
        layout={
            "xaxis": axis("share of rows", tickformat=".1%", rangemode="tozero"),
            "yaxis": axis(
                tickvals=places,
                ticktext=[short(each.value, 24) for each in shares],
                range=[len(shares) - 0.4, -0.6],
                showgrid=False,
                zeroline=False,
            ),
        },
        height=410,
        is_half=True,
    )
