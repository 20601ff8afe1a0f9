"""Fit blends on a part of the rows and measure them on rows that were set aside: real predictions, and drawn ones.

    python benchmarks/bench_blend_truth.py [--draws 20] [--only KIND] [--essays FILE] [--hurricane FILE] [--all]
        [--earlier FOLDER]

The kinds that are drawn differ in what they do to a blend: rows that are exchangeable, few groups, levels or scales
that drift from group to group, one broken model, near copies, models that help with a negative weight, and many models
with few groups. The files are out-of-fold predictions of real competitions (`id`, `score`, one column a model; the
essays also `topic` and `fold`); of the essays, rows or two whole topics are set aside.

For each kind, means over draws: the nested utility and the truth of the blend that is written (and of what an earlier
version writes), the best making on average in hindsight and how far behind it the blend is, the best single model, how
often "better than the best single model" was said and true, and how often the 95 % interval held the truth. Utilities:
more is better, so errors are negative. `--all` lists every making.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from blend.blend_record import ExpectationRecord
from blend.evidence.comparisons import compare_with_baselines
from blend.evidence.expected_test import expect
from blend.fit.blend_settings import BlendSettings
from blend.fit.fit_blend import fit_blend
from blend.members.member_predictions import Member, MemberColumns, MemberPredictions
from data_prep.scoring.combination import Floats
from data_prep.scoring.metrics import METRICS, Metric

N_FOLDS = 5


@dataclass(frozen=True)
class Rows:
    """Predictions of all models for some rows."""

    columns: Floats
    """[rows, models]"""
    target: Floats
    group: np.ndarray
    fold: np.ndarray

    def take(self, mask: np.ndarray) -> "Rows":
        """Return some of the rows."""
        return Rows(self.columns[mask], self.target[mask], self.group[mask], self.fold[mask])


@dataclass(frozen=True)
class RowsKind:
    """How rows are drawn."""

    n_models: int = 12
    n_groups: int = 200
    per_group: int = 10
    test_groups: int = 200
    level_drift: float = 0.0
    """Of the level of all predictions, from group to group."""
    own_level_drift: float = 0.0
    """Of each model's level, from group to group."""
    scale_drift: float = 0.0
    broken: bool = False
    """The last model predicts noise of a large scale."""
    copies: int = 1
    """So many models are near copies of each other."""
    suppressor: bool = False
    """Two models share an error that a third one shows alone, so that a negative weight removes it."""
    metric: str = "rmse"

    def draw(self, seed: int) -> tuple[Rows, Rows]:
        """Return rows to fit on, and rows set aside."""
        random = np.random.default_rng(seed)
        n_kinds = -(-self.n_models // self.copies)
        kinds = np.repeat(np.arange(n_kinds), self.copies)[: self.n_models]
        slope, noise = random.uniform(0.7, 1.0, n_kinds)[kinds], random.uniform(0.4, 1.0, n_kinds)[kinds]
        both = []
        for n_groups, first in ((self.n_groups, 0), (self.test_groups, self.n_groups)):
            group = np.repeat(np.arange(n_groups), self.per_group)
            n_rows = len(group)
            target = random.normal(size=n_rows) + 0.5 * random.normal(size=n_groups)[group]
            shared = 0.4 * random.normal(size=n_rows)
            own = random.normal(size=(n_rows, n_kinds))[:, kinds] * noise
            columns = slope * target[:, None] + shared[:, None] + own + 0.05 * random.normal(size=own.shape)
            columns += self.level_drift * random.normal(size=n_groups)[group][:, None]
            columns += self.own_level_drift * random.normal(size=(n_groups, self.n_models))[group]
            columns *= np.exp(self.scale_drift * random.normal(size=(n_groups, self.n_models)))[group]
            if self.suppressor:
                error = random.normal(size=n_rows)
                columns[:, :2] += 0.8 * error[:, None]
                columns[:, 2] = error + 0.3 * random.normal(size=n_rows) + 0.2 * target
            if self.broken:
                columns[:, -1] = 50.0 * random.normal(size=n_rows)
            both.append(Rows(columns, target, group + first, group % min(N_FOLDS, n_groups)))
        return both[0], both[1]


KINDS: dict[str, RowsKind] = {
    "exchangeable": RowsKind(),
    "few groups": RowsKind(n_groups=4, per_group=500, test_groups=40),
    "drifting levels": RowsKind(n_groups=12, per_group=300, n_models=2, level_drift=1.0, test_groups=60),
    "drifting scales": RowsKind(n_groups=40, per_group=50, scale_drift=0.4),
    "one broken model": RowsKind(broken=True),
    "near copies": RowsKind(copies=4),
    "negative weights help": RowsKind(suppressor=True),
    "122 models, 4 groups": RowsKind(n_models=122, n_groups=4, per_group=1750, test_groups=8, own_level_drift=0.3),
    "exchangeable, pearson": RowsKind(metric="pearson"),
}


Draw = Callable[[int], tuple[Rows, Rows]]
"""Returns rows to fit on and rows set aside, from a seed."""


def real(path: str, kind: str) -> Draw:
    """Return what draws fit rows and rows set aside from a file of out-of-fold predictions."""
    table = pd.read_parquet(path)
    about = ["id", "score", "topic", "fold", "source", "persuade_corpus"]
    columns = table.drop(columns=about, errors="ignore").to_numpy(dtype=np.float64)
    n_rows = len(table)
    topic = table["topic"].to_numpy() if "topic" in table else np.zeros(n_rows, dtype=int)

    def draw(seed: int) -> tuple[Rows, Rows]:
        random = np.random.default_rng(seed)
        fold = table["fold"].to_numpy() if "fold" in table else random.permutation(n_rows) % N_FOLDS
        group = topic if kind == "topics" else np.arange(n_rows)
        rows = Rows(columns, table["score"].to_numpy(dtype=np.float64), group, fold)
        large = np.flatnonzero(np.bincount(topic) > 100)
        aside = (
            np.isin(topic, random.choice(large, 2, replace=False)) if kind == "topics" else random.random(n_rows) < 0.3
        )
        return rows.take(~aside), rows.take(aside)

    return draw


def as_predictions(rows: Rows, test: Rows) -> MemberPredictions:
    """Return what `load_predictions` would: rows sorted by fold, and one test column for each model."""
    order = np.argsort(rows.fold, kind="stable")
    fold = rows.fold[order].astype(np.int8)
    ends = np.cumsum(np.unique(fold, return_counts=True)[1])[:-1]
    names = [f"m{number}" for number in range(rows.columns.shape[1])]
    return MemberPredictions(
        members=tuple(Member(name, name, name, "run", "split") for name in names),
        left_out=(),
        columns=tuple(
            MemberColumns(
                oof=tuple(np.split(rows.columns[order, place].astype(np.float32), ends)),
                test=(test.columns[:, place].astype(np.float32),),
                holdout=(),
            )
            for place in range(len(names))
        ),
        ids=pa.array([str(row) for row in order]),
        target=rows.target[order],
        fold=fold,
        group=rows.group[order].astype(np.int32),
        holdout_target=None,
    )


@dataclass(frozen=True)
class DrawResult:
    """What one draw says; all metrics as utilities, more is better."""

    truth: dict[str, float]
    """Of each making on the rows set aside; `written` is the blend, `earlier` what the earlier version writes."""
    nested: float
    expected: ExpectationRecord | None
    said_better: bool
    """Than the best single model, by the nested comparison."""


def play(draw: Draw, metric: Metric, n_draws: int, earlier: str | None) -> Iterator[DrawResult]:
    """Yield what each draw says."""
    for seed in range(n_draws):
        rows, test = draw(seed)
        fit = fit_blend(as_predictions(rows, test), metric, BlendSettings())
        played, formulas = fit.tournament, dict(zip(fit.tournament.names, fit.tournament.formulas, strict=True))
        predicted = {name: formula.predict(test.columns) for name, formula in formulas.items()}
        predicted["written"] = predicted[fit.making.name]
        if earlier:
            predicted["earlier"] = predict_by_earlier(earlier, rows, test, metric)
        against = compare_with_baselines(fit)[0]
        yield DrawResult(
            truth={name: metric.utility(metric(test.target, values)) for name, values in predicted.items()},
            nested=metric.utility(metric(fit.predictions.target, played.prediction)),
            expected=expect(
                played.prediction,
                0.0,
                target=fit.predictions.target,
                group=fit.predictions.group,
                metric=metric,
                test_groups=len(np.unique(test.group)),
            ),
            said_better=against.difference > 0.0 and not against.is_noise,
        )


def predict_by_earlier(folder: str, rows: Rows, test: Rows, metric: Metric) -> Floats:
    """Return what the code in another folder, an earlier version, predicts for the rows set aside by its defaults."""
    with tempfile.TemporaryDirectory() as name:
        np.savez(f"{name}/rows.npz", *vars(rows).values(), test.columns)
        script = str(Path(__file__).with_name("earlier_blend.py"))
        environment = {**os.environ, "PYTHONPATH": folder}
        subprocess.run([sys.executable, script, name, metric.name], check=True, cwd=name, env=environment)
        return np.asarray(np.load(f"{name}/prediction.npy"))


def report(name: str, outcomes: list[DrawResult], *, everything: bool) -> None:
    """Print what the draws of one kind say together."""
    truth = pd.DataFrame([outcome.truth for outcome in outcomes])
    mean, single = truth.mean(), "single+line" if "single" not in truth else "single"
    best = str(mean.drop(["written", "earlier", "consensus"], errors="ignore").idxmax())
    behind, said = mean[best] - mean["written"], np.array([outcome.said_better for outcome in outcomes])
    gap = truth["written"] - truth[single]
    error = float(gap.std()) / len(gap) ** 0.5
    known = [(o.expected, written) for o, written in zip(outcomes, truth["written"], strict=True) if o.expected]
    held = np.mean([expected.low <= abs(written) <= expected.high for expected, written in known])
    beside = f" | earlier {mean['earlier']:+.5f}" if "earlier" in truth else ""
    true = f"{np.mean(gap[said] > 0.0):.0%}" if said.any() else "-"
    print(
        f"{name:22s} nested {np.mean([outcome.nested for outcome in outcomes]):+.5f} | truth {mean['written']:+.5f}"
        f"{beside} | best {mean[best]:+.5f} {best}, behind it {behind:+.5f} ({behind / abs(mean[best]):+.2%}) | "
        f"single {mean[single]:+.5f}, gap {gap.mean():+.5f} ± {error:.5f} | said better {said.mean():.0%}, "
        f"true {true} | interval held {held:.0%}",
        flush=True,
    )
    if everything:
        print(mean.sort_values(ascending=False).to_string())


def main() -> None:
    """Draw and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--only", help="this kind alone")
    parser.add_argument("--essays", metavar="FILE")
    parser.add_argument("--hurricane", metavar="FILE")
    parser.add_argument("--earlier", metavar="FOLDER", help="a checkout of an earlier version, to stand beside")
    parser.add_argument("--all", action="store_true", help="list every making")
    options = parser.parse_args()
    kinds: dict[str, tuple[Draw, Metric]] = {name: (world.draw, METRICS[world.metric]) for name, world in KINDS.items()}
    if options.essays:
        kinds["essays, rows"] = real(options.essays, "rows"), METRICS["rmse"]
        kinds["essays, topics"] = real(options.essays, "topics"), METRICS["rmse"]
    if options.hurricane:
        kinds["hurricane"] = real(options.hurricane, "rows"), METRICS["rmse"]
        kinds["hurricane, pearson"] = real(options.hurricane, "rows"), METRICS["pearson"]
    for name, (draw, metric) in kinds.items():
        if options.only in (None, name):
            report(name, list(play(draw, metric, options.draws, options.earlier)), everything=options.all)


if __name__ == "__main__":
    main()
