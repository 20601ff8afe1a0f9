"""Fit blends on a part of the rows and measure them on rows that were set aside: real predictions, and drawn ones.

    python benchmarks/bench_blend_truth.py [--draws 20] [--only KIND] [--essays FILE] [--hurricane FILE] [--all]

The kinds that are drawn differ in what they do to a blend: rows that are exchangeable, few groups, levels or scales
that drift from group to group, one broken model, near copies, models that help with a negative weight, and many models
with few groups. The files are out-of-fold predictions of real competitions (`id`, `score`, one column a model; the
essays also `topic` and `fold`); of the essays, rows or two whole topics are set aside.

For each kind: what was nested, expected and true of the blend that is written, of the best making in hindsight (on
average) and of the best single model; how often "better than the best single model" was said and true; how often the
95 % interval held the truth. `--all` lists every making.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from blend.evidence.comparisons import compare_with_baselines
from blend.evidence.expected_test import expect
from blend.fit.blend_settings import BlendSettings
from blend.fit.fit_blend import baselines_of, fit_blend
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
        return Rows(self.columns[mask], self.target[mask], self.group[mask], self.fold[mask])


@dataclass(frozen=True)
class World:
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


KINDS: dict[str, World] = {
    "exchangeable": World(),
    "few groups": World(n_groups=4, per_group=500, test_groups=40),
    "drifting levels": World(n_groups=12, per_group=300, n_models=2, level_drift=1.0, test_groups=60),
    "drifting scales": World(n_groups=40, per_group=50, scale_drift=0.4),
    "one broken model": World(broken=True),
    "near copies": World(copies=4),
    "negative weights help": World(suppressor=True),
    "122 models, 4 groups": World(n_models=122, n_groups=4, per_group=1750, test_groups=8, own_level_drift=0.3),
    "exchangeable, pearson": World(metric="pearson"),
}


def real(path: str, kind: str) -> Callable[[int], tuple[Rows, Rows]]:
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
                own_fold=None,
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


def play(draw: Callable[[int], tuple[Rows, Rows]], metric: Metric, n_draws: int) -> Iterator[dict[str, object]]:
    """Yield what each draw says."""
    for seed in range(n_draws):
        rows, test = draw(seed)
        fit = fit_blend(as_predictions(rows, test), metric, BlendSettings())
        played = fit.tournament
        truth = {
            making.name: metric.utility(metric(test.target, formula.predict(test.columns)))
            for making, formula in zip(played.makings, played.formulas, strict=True)
        }
        expected = expect(
            played.prediction,
            0.0,
            target=fit.predictions.target,
            group=fit.predictions.group,
            metric=metric,
            test_groups=len(np.unique(test.group)),
        )
        against = compare_with_baselines(fit)[0]
        yield {
            "truth": truth,
            "chosen": fit.making.name,
            "nested": metric.utility(metric(fit.predictions.target, played.prediction)),
            "expected": expected,
            "better": against.difference > 0.0 and not against.is_noise,
            "single": truth[baselines_of(metric)[0].name],
            "error": against.standard_error,
        }


def report(name: str, draws: list[dict[str, object]], metric: Metric, *, everything: bool) -> None:
    """Print what the draws of one kind say together."""
    truth = pd.DataFrame([draw["truth"] for draw in draws])
    written = np.array([draw["truth"][draw["chosen"]] for draw in draws])
    single = np.array([draw["single"] for draw in draws])
    said = np.array([draw["better"] for draw in draws])
    nested = np.array([draw["nested"] for draw in draws])
    values = np.array([metric.utility(value) for value in written])
    held = np.mean([d["expected"].low <= v <= d["expected"].high for d, v in zip(draws, values, strict=True)])
    best = truth.mean()
    print(
        f"{name:24s} nested {nested.mean():+.5f} truth {written.mean():+.5f} | best making {best.max():+.5f} "
        f"({best.idxmax()}), behind it {best.max() - written.mean():.5f} ({(best.max() - written.mean()) / abs(best.max()):.2%}) | single {single.mean():+.5f}, "
        f"worse than it in {np.mean(written < single):.0%} | said better {said.mean():.0%}, true in "
        f"{np.mean((written > single)[said]) if said.any() else np.nan:.0%} | interval held {held:.0%}",
        flush=True,
    )
    if everything:
        chosen = pd.Series([draw["chosen"] for draw in draws]).value_counts()
        print(pd.DataFrame({"truth": best, "chosen": chosen}).sort_values("truth", ascending=False).to_string())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--only")
    parser.add_argument("--essays")
    parser.add_argument("--hurricane")
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    kinds = {name: (world.draw, METRICS[world.metric]) for name, world in KINDS.items()}
    if options.essays:
        kinds["essays, rows"] = real(options.essays, "rows"), METRICS["rmse"]
        kinds["essays, topics"] = real(options.essays, "topics"), METRICS["rmse"]
    if options.hurricane:
        kinds["hurricane"] = real(options.hurricane, "rows"), METRICS["rmse"]
    for name, (draw, metric) in kinds.items():
        if options.only in (None, name):
            report(name, list(play(draw, metric, options.draws)), metric, everything=options.all)


if __name__ == "__main__":
    main()
