"""Figures of the blend: weights, what members add, shared errors, ways to blend, calibration."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from blend.blend_record import BlendRecord, MakingRecord, MemberRecord, TargetsRecord, WholeRecord
from blendfold.report.facts.level_predictions import LevelPredictions
from blendfold.report.figures.plotting import PLAIN, SEQUENTIAL, axis, hover, rounded, rows_height, short
from blendfold.report.page.blocks import Figure
from data_prep.scoring.metrics import METRICS
from data_prep.wording import count

MOST_CORRELATED = 40
"""Members whose error correlations fit into a picture."""
NUMBERED = 12
"""With at most this many members, the picture shows the numbers."""


def expectation_figure(record: WholeRecord) -> Figure:
    """Draw the step from the best single model to the blend, and to what to expect on test."""
    scores, expected = record.scores, record.scores["blend"].expected
    steps = [
        ("best single, nested", scores["best_single"].nested.pooled, "@muted"),
        ("plain mean, nested", scores["mean"].nested.pooled, "@muted"),
        ("blend, in-sample", scores["blend"].in_sample.pooled, "@c2"),
        ("blend, nested", scores["blend"].nested.pooled, "@c1"),
    ]
    if (holdout := scores["blend"].holdout) is not None:
        steps.append(("blend, holdout", holdout, "@c3"))
    if expected is not None:
        steps.append(("blend, expected on test", expected.value, "@c1"))
    last = len(steps) - 1
    ends = [value for _, value, _ in steps] + ([] if expected is None else [expected.low, expected.high])
    margin = 0.04 * (max(ends) - min(ends)) or 0.01
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": rounded([value for _, value, _ in steps]),
        "y": list(range(len(steps))),
        "marker": {"size": 12, "color": [color for *_, color in steps]},
        "text": [hover(name, f"{record.metric} {value:.4f}") for name, value, _ in steps],
        "hovertemplate": PLAIN,
        "showlegend": False,
    }
    interval = {
        "type": "scatter",
        "mode": "lines",
        "x": [] if expected is None else rounded([expected.low, expected.high]),
        "y": [] if expected is None else [last, last],
        "line": {"color": "@dim", "width": 8},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    return Figure(
        id="expectation",
        title="From the best single model to test",
        data=[interval, points],
        layout={
            "xaxis": axis(record.metric, range=rounded([min(ends) - margin, max(ends) + margin])),
            "yaxis": _names_axis([name for name, *_ in steps]),
        },
        height=rows_height(len(steps), each=30, least=200, extra=70),
        note="All pooled over rows. The bar is the 95 % interval for the score that the test rows will give.",
    )


def weights_figure(members: Sequence[MemberRecord], names: Sequence[str]) -> Figure:
    """Draw each member's weight with the range over bootstrap draws and over the left-out units."""
    places = list(range(len(members)))
    drawn = [(member.resampled.low, member.resampled.high) for member in members]
    resampled = _ranges("resampled, 90 %", drawn, color="@dim", width=9)
    left_out = [(min(member.nested_weights), max(member.nested_weights)) for member in members]
    nested = _ranges("without a fold", left_out, color="@c5", width=3)
    weight = {
        "type": "scatter",
        "mode": "markers",
        "name": "weight",
        "x": rounded([member.weight for member in members]),
        "y": places,
        "marker": {"color": "@c1", "size": 10},
        "text": [
            hover(
                name,
                f"weight {member.weight:.3f}",
                f"without a fold {min(member.nested_weights):.3f} to {max(member.nested_weights):.3f}",
                f"resampled {member.resampled.low:.3f} to {member.resampled.high:.3f}, "
                f"present in {member.resampled.present:.0%} of the draws",
            )
            for name, member in zip(names, members, strict=True)
        ],
        "hovertemplate": PLAIN,
    }
    return Figure(
        id="weights",
        title="Weights and their ranges",
        data=[resampled, nested, weight],
        layout={"xaxis": axis("weight", zeroline=True, rangemode="tozero"), "yaxis": _names_axis(names)},
        height=rows_height(len(members), each=34),
        note="A weight that moves far when rows are resampled, or when a fold is left out, is hardly known; "
        "the blend's score is known much better than its weights.",
        is_half=True,
    )


def _ranges(name: str, ends: Sequence[tuple[float, float]], *, color: str, width: int) -> dict[str, object]:
    """Return a trace with a bar from low to high for each member."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [x for low, high in ends for x in (low, high, None)],
        "y": [y for place in range(len(ends)) for y in (place, place, None)],
        "line": {"color": color, "width": width},
        "hoverinfo": "skip",
    }


def costs_figure(members: Sequence[MemberRecord], names: Sequence[str], metric: str) -> Figure:
    """Draw how much worse the nested metric gets without each member."""
    costs = [member.drop_cost for member in members]
    known = [(place, cost) for place, cost in enumerate(costs) if cost is not None]
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": rounded([cost.difference for _, cost in known]),
        "y": [place for place, _ in known],
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": rounded([cost.high - cost.difference for _, cost in known]),
            "arrayminus": rounded([cost.difference - cost.low for _, cost in known]),
            "color": "@muted",
            "thickness": 1.6,
            "width": 5,
        },
        "marker": {
            "size": 10,
            "color": ["@muted" if cost.is_noise else "@c1" for _, cost in known],
            "symbol": ["circle-open" if cost.is_noise else "circle" for _, cost in known],
        },
        "text": [
            hover(
                names[place],
                f"{cost.difference:+.4f} (95 % {cost.low:+.4f} to {cost.high:+.4f})",
                "within noise" if cost.is_noise else "beyond noise",
            )
            for place, cost in known
        ],
        "hovertemplate": PLAIN,
    }
    return Figure(
        id="costs",
        title="What each member adds",
        data=[trace],
        layout={"xaxis": axis(f"nested {metric} lost without it, 95 %", zeroline=True), "yaxis": _names_axis(names)},
        height=rows_height(len(members), each=34),
        note="The blend is made again without the member. An open circle means that the difference is within noise.",
        is_half=True,
    )


def _names_axis(names: Sequence[str]) -> dict[str, object]:
    return axis(
        tickvals=list(range(len(names))),
        ticktext=[short(name, 30) for name in names],
        range=[len(names) - 0.4, -0.6],
        showgrid=False,
        zeroline=False,
    )


def correlations_figure(record: BlendRecord, names: Sequence[str]) -> Figure:
    """Draw how the members' errors correlate."""
    shown = names[:MOST_CORRELATED]
    ticks = [short(name, 24) for name in shown]
    values = [list(row[: len(shown)]) for row in record.error_correlations[: len(shown)]]
    least = min((value for row in values for value in row), default=0.0)
    texts = [
        [hover(f"{one} and {other}", f"correlation {value:.3f}") for other, value in zip(shown, row, strict=True)]
        for one, row in zip(shown, values, strict=True)
    ]
    return Figure(
        id="correlations",
        title="Correlation of errors",
        data=[_heatmap(values, texts, least=min(least, 0.5), greatest=1.0)],
        layout=_heatmap_layout(ticks, ticks),
        height=max(300, 34 * len(shown) + 190),
        min_width=max(300, 40 * len(shown) + 240) if len(shown) > 4 else 0,
        note="Members that err on different rows (low numbers) gain most from being blended.",
        is_half=True,
    )


def target_weights_figure(record: TargetsRecord, names: Mapping[str, str]) -> Figure:
    """Draw what each member weighs in the blend of each target; `names` are those of the members, by id."""
    shown, targets = list(record.weights)[:MOST_CORRELATED], record.targets
    blends = record.by_target.values()
    values = [[blend.weights.get(member, 0.0) for blend in blends] for member in shown]
    texts = [
        [
            hover(f"{names[member]} for {target}", f"weight {value:.3f}")
            for target, value in zip(record.targets, row, strict=True)
        ]
        for member, row in zip(shown, values, strict=True)
    ]
    greatest = max((value for row in values for value in row), default=1.0)
    return Figure(
        id="target-weights",
        title="Weights by target",
        data=[_heatmap(values, texts, least=0.0, greatest=greatest)],
        layout=_heatmap_layout([short(target, 24) for target in targets], [short(names[m], 32) for m in shown]),
        height=max(240, 34 * len(shown) + 190),
        min_width=max(300, 40 * len(targets) + 320),
        note="Every target has weights of its own, which sum to 1.",
    )


def _heatmap(
    values: Sequence[Sequence[float]], texts: Sequence[Sequence[str]], *, least: float, greatest: float
) -> dict[str, Any]:
    """Return the trace of `values` [rows, columns]; where there is room, it shows the numbers."""
    trace: dict[str, Any] = {
        "type": "heatmap",
        "z": [rounded(row, 4) for row in values],
        "x": list(range(len(values[0]))),
        "y": list(range(len(values))),
        "zmin": least,
        "zmax": greatest,
        "colorscale": SEQUENTIAL,
        "xgap": 2,
        "ygap": 2,
        "colorbar": {"thickness": 10, "outlinewidth": 0, "len": 0.9},
        "text": texts,
        "hovertemplate": PLAIN,
    }
    if len(values[0]) <= NUMBERED:
        trace |= {"customdata": trace["z"], "texttemplate": "%{z:.2f}", "textfont": {"size": 11}}
    return trace


def _heatmap_layout(columns: Sequence[str], rows: Sequence[str]) -> dict[str, Any]:
    return {
        "xaxis": axis(tickvals=list(range(len(columns))), ticktext=columns, tickangle=-40, showgrid=False),
        "yaxis": axis(tickvals=list(range(len(rows))), ticktext=rows, autorange="reversed", showgrid=False),
    }


def makings_figure(record: BlendRecord) -> Figure:
    """Draw the tournament: nested and in-sample metric of every way to blend."""
    makings = list(record.makings.items())
    places = list(range(len(makings)))
    nested = {
        "type": "scatter",
        "mode": "markers",
        "name": "nested",
        "x": rounded([making.nested for _, making in makings]),
        "y": places,
        "error_x": {
            "type": "data",
            "array": rounded([making.behind.standard_error for _, making in makings]),
            "color": "@muted",
            "thickness": 1.4,
            "width": 4,
        },
        "marker": {
            "size": 10,
            "color": ["@c1" if _is_level(making) else "@dim" for _, making in makings],
        },
        "text": [
            hover(
                name,
                f"nested {making.nested:.5f}, in-sample {making.in_sample:.5f}, {count(making.members, 'member')}",
                f"behind the best {-making.behind.difference:.5f} (standard error {making.behind.standard_error:.5f})",
                f"share in the consensus {making.share:.3f}" if making.share else "",
            )
            for name, making in makings
        ],
        "hovertemplate": PLAIN,
    }
    in_sample = {
        "type": "scatter",
        "mode": "markers",
        "name": "in-sample",
        "x": rounded([making.in_sample for _, making in makings]),
        "y": places,
        "marker": {"size": 8, "symbol": "line-ns-open", "color": "@c2", "line": {"width": 2}},
        "hovertemplate": "in-sample %{x:.5f}<extra></extra>",
    }
    names = [f"{name}  ◂ chosen" if name == record.method else name for name, _ in makings]
    return Figure(
        id="tournament",
        title="The tournament of ways to blend",
        data=[nested, in_sample],
        layout={"xaxis": axis(record.metric), "yaxis": _names_axis(names)},
        height=rows_height(len(makings), each=24),
        note="Best first. Bars are one standard error of the difference to the best; gray ones are behind beyond "
        "noise. The in-sample mark shows how much each way flatters itself.",
    )


def _is_level(making: MakingRecord) -> bool:
    return making.behind.is_noise or not making.behind.difference


def sizes_figure(record: BlendRecord) -> Figure:
    """Draw the nested and in-sample metric of every way to blend against its number of members."""
    makings = list(record.makings.items())
    is_error = record.metric in METRICS and not METRICS[record.metric].greater_is_better
    kinds = (("nested", "@c1", "circle"), ("in-sample", "@c2", "line-ew-open"))
    traces = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": kind,
            "x": [making.members for _, making in makings],
            "y": rounded([making.nested if kind == "nested" else making.in_sample for _, making in makings]),
            "marker": {"size": 10, "color": color, "symbol": symbol, "line": {"width": 2, "color": color}},
            "text": [
                hover(
                    name,
                    f"{count(making.members, 'member')}",
                    f"{kind} {(making.nested if kind == 'nested' else making.in_sample):.5f}",
                )
                for name, making in makings
            ],
            "hovertemplate": PLAIN,
        }
        for kind, color, symbol in kinds
    ]
    return Figure(
        id="sizes",
        title="Score against the number of members",
        data=traces,
        layout={
            "xaxis": axis("members", rangemode="tozero", **({"dtick": 1} if _most(record) <= 12 else {})),
            "yaxis": axis(record.metric, **({"autorange": "reversed"} if is_error else {})),
        },
        height=380,
        note="Each point is a way to blend. Where few members score as well, nested, as many, take few.",
        is_half=True,
    )


def _most(record: BlendRecord) -> int:
    return max((making.members for making in record.makings.values()), default=0)


def levels_figure(levels: Sequence[LevelPredictions]) -> Figure:
    """Draw the spread of predictions for each true score."""
    names = [level.name for level in levels]
    box = {
        "type": "box",
        "name": "predictions",
        "x": list(range(len(levels))),
        "lowerfence": rounded([level.quantiles[0] for level in levels]),
        "q1": rounded([level.quantiles[1] for level in levels]),
        "median": rounded([level.quantiles[2] for level in levels]),
        "q3": rounded([level.quantiles[3] for level in levels]),
        "upperfence": rounded([level.quantiles[4] for level in levels]),
        "line": {"color": "@c1", "width": 1.6},
        "fillcolor": "@low",
        "hoverinfo": "skip",
        "showlegend": False,
    }
    means = {
        "type": "scatter",
        "mode": "markers",
        "name": "mean prediction",
        "x": list(range(len(levels))),
        "y": rounded([level.mean for level in levels]),
        "marker": {"color": "@c1", "size": 8},
        "text": [
            hover(f"true {level.name}, {level.rows:,} rows", f"mean prediction {level.mean:.4f}") for level in levels
        ],
        "hovertemplate": PLAIN,
    }
    true = {
        "type": "scatter",
        "mode": "markers",
        "name": "true score",
        "x": list(range(len(levels))),
        "y": rounded([level.level for level in levels]),
        "marker": {"color": "@c2", "size": 22, "symbol": "line-ew-open", "line": {"width": 2.5}},
        "hovertemplate": "true %{y:.4g}<extra></extra>",
    }
    return Figure(
        id="calibration",
        title="Predicted by true score",
        data=[box, means, true],
        layout={
            "xaxis": axis("true score", tickvals=list(range(len(levels))), ticktext=[short(name) for name in names]),
            "yaxis": axis("prediction, nested"),
        },
        note="Boxes hold the middle half of the predictions, whiskers nine tenths. Predictions shrink towards the "
        "mean: that is right for a model that is not sure.",
        is_half=True,
    )


def reliability_figure(tenths: pd.DataFrame) -> Figure:
    """Draw the true mean of each tenth of the predictions, as `blend.errors` counts them."""
    ends = [*tenths["mean_prediction"], *tenths["mean_score"]]
    low, high = round(min(ends), 4), round(max(ends), 4)
    diagonal = {
        "type": "scatter",
        "mode": "lines",
        "name": "calibrated",
        "x": [low, high],
        "y": [low, high],
        "line": {"color": "@muted", "dash": "dot", "width": 1.5},
        "hoverinfo": "skip",
    }
    points = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": "tenths of the rows",
        "x": rounded(tenths["mean_prediction"]),
        "y": rounded(tenths["mean_score"]),
        "error_y": {
            "type": "data",
            "array": rounded(2 * tenths["standard_error"]),
            "color": "@muted",
            "thickness": 1.4,
            "width": 4,
        },
        "line": {"color": "@c1", "width": 1.8},
        "marker": {"size": 8, "color": "@c1"},
        "text": [
            hover(
                f"{each.n:,} rows predicted {each.low:.3f} to {each.high:.3f}",
                f"mean prediction {each.mean_prediction:.4f}",
                f"mean true score {each.mean_score:.4f} (standard error {each.standard_error:.4f})",
            )
            for each in tenths.itertuples()
        ],
        "hovertemplate": PLAIN,
    }
    return Figure(
        id="reliability",
        title="True by predicted score",
        data=[diagonal, points],
        layout={"xaxis": axis("mean prediction"), "yaxis": axis("mean true score")},
        note="On the dotted line, a prediction means what it says. Bars are two standard errors, by group.",
        is_half=True,
    )
