"""Makings: whole ways to make a blend, from predictions and targets to a formula that predicts other rows.

A making is a weight method with what is fitted before it (a calibration of each column) and after it (a readout). It
chooses everything from the rows it is given, so that leaving rows out shows how it does on rows it has not seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from blend.fit.calibration import CALIBRATIONS, cross_fitted
from blend.fit.cut_points import fit_cuts
from blend.fit.elimination import eliminate
from blend.fit.family_shares import raise_families
from blend.fit.objective import MOMENT_METRICS, FittedLine, MetricOnMoments, MetricOnRows, Objective, Readout, fit_line
from blend.fit.weight_methods import METHODS, MOST_SEARCHED, WeightFit, exact
from blend.members.moment_sums import MomentSums, measure
from data_prep.scoring.combination import Floats, Scaling, decide
from data_prep.scoring.metrics import Metric, Targets, midpoints
from data_prep.scoring.stack import Stack

STEPPED = ("multiclass_accuracy", "macro_f1", "map@3", "map@5", "map@10")
"""Metrics of classes that jump: weights are searched by the squared error of probabilities, which does not."""


@dataclass(frozen=True, eq=False)
class SeenRows:
    """What a making may see: raw out-of-fold `columns` [rows, candidates] of some units of rows, and their targets."""

    columns: Floats
    target: Floats
    """[rows]"""
    unit: NDArray[np.intp]
    """[rows]"""
    parts: Sequence[MomentSums]
    """The sums of each unit."""
    metric: Metric
    families: Sequence[str] = ()
    """Of the candidates, where every family takes part; else empty."""
    numeric: Mapping[str, Floats] = field(default_factory=dict)
    """Columns [rows] that are no predictions, for makings that stack."""
    others: "SeenRows | None" = None
    """The rows that makings are fitted on, where these are scored alone."""

    @property
    def fitted(self) -> "SeenRows":
        """The rows that makings are fitted on."""
        return self.others or self

    def without(self, number: int) -> "SeenRows":
        """Return the rows of the other units."""
        rows, names = self.unit != number, np.unique(self.unit)
        parts = [part for name, part in zip(names, self.parts, strict=True) if name != number]
        numeric = {name: column[rows] for name, column in self.numeric.items()}
        columns, target, unit = self.columns[rows], self.target[rows], self.unit[rows]
        return SeenRows(columns, target, unit, parts, self.metric, self.families, numeric)

    def of(self, places: NDArray[np.intp]) -> "SeenRows":
        """Return the same rows with some of the candidates."""
        families = [self.families[place] for place in places.tolist()] if self.families else ()
        parts = [part.of(places.tolist()) for part in self.parts]
        others = self.others.of(places) if self.others else None
        columns = self.columns[:, places]
        return SeenRows(columns, self.target, self.unit, parts, self.metric, families, self.numeric, others)

    @cached_property
    def features(self) -> Floats:
        """All that a formula may predict from, [rows, candidates + numeric columns]."""
        return np.column_stack([self.columns, *self.numeric.values()]) if self.numeric else self.columns

    @cached_property
    def _calibrated(self) -> dict[str, "ChosenRows"]:
        return {}

    def calibrated(self, name: str) -> "ChosenRows":
        """Return these rows with the strongest candidates alone, after a calibration."""
        if name not in self._calibrated:
            places = np.sort(_strongest(self, MOST_SEARCHED))
            fit, raw = CALIBRATIONS[name], self.columns[:, places]
            columns = np.column_stack([cross_fitted(column, self.target, self.unit, fit) for column in raw.T])
            scalings = tuple(fit(column, self.target) for column in raw.T)
            self._calibrated[name] = ChosenRows(places, scalings, self._of(places, columns))
        return self._calibrated[name]

    @cached_property
    def _fewer(self) -> dict[int, "ChosenRows"]:
        return {}

    def fewer(self, most: int) -> "ChosenRows":
        """Return these rows with the candidates alone that serve best together, at most so many."""
        if most not in self._fewer:
            places = eliminate(MetricOnMoments(self.parts, Readout.LINE), most)
            self._fewer[most] = ChosenRows(places, (), self._of(places, self.columns[:, places]))
        return self._fewer[most]

    def _of(self, places: NDArray[np.intp], columns: Floats) -> "SeenRows":
        """Return these rows with `columns` made from some candidates."""
        masks = [self.unit == number for number in np.unique(self.unit)]
        parts = [measure(columns[rows], self.target[rows]) for rows in masks]
        families = [self.families[place] for place in places] if self.families else ()
        return SeenRows(columns, self.target, self.unit, parts, self.metric, families, self.numeric)

    def objective(self, readout: Readout) -> Objective:
        """Return what weights are worth with a readout."""
        if self.metric.decides or self.metric.name in (*MOMENT_METRICS, *STEPPED):
            return MetricOnMoments(self.parts, readout)
        return MetricOnRows(self.columns, self.target, self.metric, self.parts, readout)


@dataclass(frozen=True, eq=False)
class ChosenRows:
    """Rows with some of the candidates, perhaps after a calibration."""

    places: NDArray[np.intp]
    """Of the candidates, ascending."""
    scalings: tuple[Scaling, ...]
    """Their curves for other rows; none: they are raw."""
    seen: SeenRows


def _strongest(seen: SeenRows, most: int) -> NDArray[np.intp]:
    """Return the candidates with the greatest weights in the exact optimum, `most` at most."""
    weights = exact(MetricOnMoments(seen.parts, Readout.LINE)).weights
    return np.argsort(-weights, kind="stable")[: min(most, int(np.count_nonzero(weights)))]


class CurvedColumns:
    """Columns [rows, candidates] after curves, each computed once however many formulas share a curve."""

    def __init__(self, columns: Floats) -> None:
        self._columns = columns
        self._after: dict[tuple[int, int], tuple[Scaling, Floats]] = {}

    def after(self, curves: Sequence[Scaling], places: NDArray[np.intp]) -> Floats:
        """Return the columns at `places`, each after its curve."""
        return np.column_stack([self._one(curve, place) for curve, place in zip(curves, places.tolist(), strict=True)])

    def _one(self, curve: Scaling, place: int) -> Floats:
        key = (place, id(curve))  # the curve is kept, so that no other one gets its id
        if key not in self._after:
            self._after[key] = curve, curve(self._columns[:, place])
        return self._after[key][1]


@dataclass(frozen=True, eq=False)
class Formula:
    """A fitted making."""

    members: NDArray[np.intp]
    """The candidates with weight, ascending."""
    search: WeightFit
    """`weights` are those of `members`."""
    scalings: tuple[Scaling, ...]
    """One for each member; none: raw predictions are weighted."""
    line: FittedLine
    cuts: Floats | None
    """Between the task's levels; None: the prediction is a number."""
    levels: tuple[float, ...]
    stack: Stack | None = None
    """What is stacked on the line."""

    def weigh(self, columns: Floats, curved: "CurvedColumns | None" = None) -> Floats:
        """Return the weighted sum [rows] on the line, and what is stacked on it, before the cuts.

        `columns` are raw predictions [rows, all candidates]; numeric columns may follow them, for a stack must.
        `curved` keeps what curves made of them, for other formulas.
        """
        if self.scalings:
            used = (curved or CurvedColumns(columns)).after(self.scalings, self.members)
        else:
            used = columns[:, self.members]
        values = self.line(used @ self.search.weights)
        if self.stack is None:
            return values
        numeric = columns[:, columns.shape[1] - len(self.stack.columns) :]
        return self.stack(values, np.column_stack([used, numeric]))

    def decide(self, values: Floats) -> Floats:
        """Return the prediction [rows] for weighted sums [rows]."""
        return values if self.cuts is None else decide(values, self.cuts, self.levels)

    def predict(self, columns: Floats) -> Floats:
        """Return the prediction [rows] for `columns` as `weigh` takes them."""
        return self.decide(self.weigh(columns))


@dataclass(frozen=True)
class Making:
    """A whole way to make a blend."""

    method: str
    readout: Readout
    calibration: str | None = None
    most: int | None = None
    """As many members, at most; None: any number."""

    @property
    def name(self) -> str:
        """Return how the command line and the record call it."""
        name = f"{self.calibration}:{self.method}" if self.calibration else self.method
        return name if self.readout is Readout.RAW else f"{name}+{self.readout}"

    def of(self, places: NDArray[np.intp]) -> "Making":  # noqa: ARG002
        """Return the same making for some of the candidates."""
        return self

    def fit(self, seen: SeenRows) -> Formula:
        """Choose everything from the rows seen."""
        places, scalings = np.arange(seen.columns.shape[1]), tuple[Scaling, ...]()
        if self.most is not None:
            chosen = seen.fewer(self.most)
            places, seen = chosen.places, chosen.seen
        if self.calibration:
            chosen = seen.calibrated(self.calibration)
            places, scalings, seen = places[chosen.places], chosen.scalings, chosen.seen
        search = self._weigh(seen)
        used = np.flatnonzero(search.weights)
        search = WeightFit(search.weights[used], search.converged, search.evaluations, search.restarts)
        values = seen.columns[:, used] @ search.weights
        line = fit_line(values, seen.target, self.readout, seen.metric)
        curves = tuple(scalings[place] for place in used) if scalings else ()
        cuts = cut(line(values), seen, self.readout)
        return Formula(places[used], search, curves, line, cuts, seen.metric.levels)

    def _weigh(self, seen: SeenRows) -> WeightFit:
        """Return weights of all candidates that are left."""
        objective = seen.objective(self.readout)
        found = METHODS[self.method].fit(objective)
        if not seen.families:
            return found
        alone = objective.steps(np.zeros(objective.n_columns), 0.0, 1.0)
        return replace(found, weights=raise_families(found.weights, seen.families, alone))


def cut(values: Floats, seen: SeenRows, readout: Readout) -> Floats | None:
    """Return the cut points between levels for weighted sums [rows]; None where the metric takes numbers."""
    if not seen.metric.decides:
        return None
    return fit_cuts(values, seen.target, seen.metric) if readout is Readout.CUTS else midpoints(seen.metric.levels)


def last_readout(metric: Metric) -> Readout:
    """Return the readout that suits a metric; a line would lead probabilities beyond 0 and 1."""
    if metric.targets in (Targets.PROBABILITIES, Targets.CLASSES):
        return Readout.RAW
    return Readout.CUTS if metric.decides else Readout.LINE


def makings_for(metric: Metric, most: int | None = None) -> list[Making]:
    """Return every making that suits a metric, with at most so many members; of equals, the first is taken."""
    found = []
    for name, method in METHODS.items():
        for readout in method.readouts:
            searched_twice = name == "nelder-mead" and readout is Readout.INTERCEPT
            if readout is Readout.LINE or not (metric.scale_free or searched_twice):
                found.append(Making(name, readout, most=most))
        if metric.decides:
            found.append(Making(name, Readout.CUTS, most=most))
    last = last_readout(metric)
    curved = [("rank", "mean")] if metric.scale_free else []
    curved += [("isotonic", name) for name in ("nelder-mead", "greedy", "ridge", "mean")]
    return [*found, *(Making(name, last, calibration, most) for calibration, name in curved)]
