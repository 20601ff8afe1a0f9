"""Optuna's own plots of the study, rebuilt from the candidates of a run directory."""

import json
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from blendfold.optuna_study import optuna_study
from blendfold.report.page.blocks import Block, Figure, Remark
from data_prep.wording import count

MOST_PARAMETERS = 8
"""Settings that slices and parallel coordinates show: the most important ones."""
OWN_LOOK = ("template", "title", "plot_bgcolor", "paper_bgcolor", "legend")
"""What Optuna sets for its own pages."""
SCALE = [[0.0, "@dim"], [1.0, "@c1"]]
"""From the first candidate to the last."""
FEWEST = 3
"""Candidates that plots of parameters need."""


@dataclass(frozen=True)
class Scored:
    """A candidate with its value for Optuna."""

    candidate: str
    value: float
    """The mean over its finished folds; before the first, the last metric that it reported."""


def optuna_figures(
    scored: Sequence[Scored], differing: Mapping[str, Mapping[str, Any]], *, metric: str, maximize: bool
) -> list[Block]:
    """Return optimization history, importance, parallel coordinates and slices; a sentence for each that has no data.

    `scored` stand in the order in which they were tried.
    """
    parameters = {
        key: values for key, values in differing.items() if _differ(values[each.candidate] for each in scored)
    }
    if len(scored) < 2:
        return [Remark("Optuna's plots need at least two candidates that have reported.", title="Optuna's plots")]
    columns = {key: [values[each.candidate] for each in scored] for key, values in parameters.items()}
    study = optuna_study([each.value for each in scored], columns, maximize=maximize)
    name = f"mean {metric}"
    blocks: list[Block] = [
        _figure(
            "history",
            "Optimization history",
            lambda plots: plots.plot_optimization_history(study, target_name=name),
            "Optuna. Candidates in the order in which they were tried; the line is the best so far. A candidate "
            "stands with its mean over the folds that it finished; one that was stopped earlier, with the last metric "
            "it reported.",
            half=True,
        )
    ]
    if len(scored) < FEWEST or not parameters:
        needed = count(FEWEST, "candidate")
        said = f"Plots of parameters need {needed} that have reported and a setting in which they differ."
        return [*blocks, Remark(said, title="Importance, parallel coordinates, slices")]
    importance = _importance(study)
    if importance:
        blocks.append(
            _figure(
                "importance",
                "Parameter importance",
                lambda plots: plots.plot_param_importances(study, params=list(importance), target_name=name),
                "Optuna. The share of the variance of the mean that each setting explains in a random forest (fANOVA). "
                "With few candidates it is a hint at most.",
                half=True,
            )
        )
    shown = (list(importance) or list(parameters))[:MOST_PARAMETERS]
    parallel = _figure(
        "parallel",
        "Parallel coordinates",
        lambda plots: plots.plot_parallel_coordinate(study, params=shown, target_name=name),
        "Optuna. Each line is a candidate: the best quarter blue, the next one gold, the others gray.",
        min_width=100 + 118 * (len(shown) + 1),
    )
    blocks.append(_by_quarter(parallel, scored, maximize=maximize))
    blocks.append(
        _figure(
            "slices",
            "Slices",
            lambda plots: plots.plot_slice(study, params=shown, target_name=name),
            "Optuna. Each point is a candidate; a darker one was tried later.",
            min_width=120 + 132 * len(shown),
        )
    )
    return blocks


def _differ(values: Iterable[Any]) -> bool:
    return len({repr(value) for value in values}) > 1


def _importance(study: Any) -> dict[str, float]:
    import optuna  # noqa: PLC0415 - slow to import

    values = [trial.value for trial in study.trials]
    if math.isclose(min(values), max(values)):
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return dict(list(found.items())[:MOST_PARAMETERS])


def _figure(
    name: str, title: str, plot: Callable[[Any], Any], note: str, *, half: bool = False, min_width: int = 0
) -> Figure:
    import optuna  # noqa: PLC0415 - slow to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = json.loads(plot(optuna.visualization).to_json())
    layout = {key: value for key, value in content["layout"].items() if key not in OWN_LOOK}
    for part in (*layout.get("annotations", ()), *layout.get("shapes", ())):
        part.get("font", part.get("line", {}))["color"] = "@soft"
    data = [_in_our_colors(trace) for trace in content["data"]]
    return Figure(name, title, data, layout, note=note, is_half=half, min_width=min_width, height=360)


def _in_our_colors(trace: dict[str, Any]) -> dict[str, Any]:
    """Return a trace of Optuna with the page's colors; points that stand for a number get its scale."""
    if trace.get("mode") != "markers":
        return trace
    marker = trace.get("marker", {})
    if "colorscale" in marker:
        marker = {**marker, "colorscale": SCALE, "line": {"width": 0}}
        marker.pop("reversescale", None)
    return {**trace, "marker": {**marker, "size": 8}}


def _by_quarter(figure: Figure, scored: Sequence[Scored], *, maximize: bool) -> Figure:
    """Return parallel coordinates whose lines show how good a candidate is: the best quarter stands out."""
    order = sorted(range(len(scored)), key=lambda place: scored[place].value, reverse=maximize)
    rank = {place: position / len(order) for position, place in enumerate(order)}
    lines = [trace for trace in figure.data if trace.get("mode") == "lines"]
    looks: list[tuple[dict[str, Any], float]] = [
        ({"color": "@c1", "width": 2}, 0.95),
        ({"color": "@c5", "width": 1.4}, 0.7),
        ({"color": "@muted"}, 0.45),
    ]
    data = []
    for place, trace in enumerate(lines):
        line, opacity = looks[0 if rank[place] < 0.25 else 1 if rank[place] < 0.5 else 2]
        data.append({**trace, "line": {"width": 1.2, **line}, "opacity": opacity})
    return replace(figure, data=data)
