"""Draw rows with numeric columns, and see whether a stacked making is taken where it pays, and nowhere else.

    python benchmarks/bench_stacking.py [--draws 200] [--only KIND]

In three kinds the columns are noise (also one that is the same for all rows of a group, with four groups), and no
stacked making may win in any of the draws. In two they tell something: which models to believe, or how far all models
are off; there the blend must be better on rows set aside than the best making that does not stack. These need a tenth
of the draws. Only the fast makings compete with the stacked ones: all of them would be harder to beat.
"""

import argparse
from dataclasses import dataclass

import numpy as np

from blend.fit.makings import SeenRows, makings_for
from blend.fit.stacking import add_stackings, stackings
from blend.fit.tournament import all_rows, play, units_of
from data_prep.scoring.group_bootstrap import GroupBootstrap
from data_prep.scoring.metrics import METRICS

N_FOLDS, N_MODELS, N_TEST = 5, 5, 4_000
FAST = ("single", "mean", "z-mean", "nnls", "ridge", "free-ridge")
"""Weight methods that compete with the stacked makings."""


@dataclass(frozen=True)
class StackingKind:
    """How rows are drawn."""

    n_rows: int = 400
    n_groups: int | None = None
    """None: every row is its own."""
    believe: float = 0.0
    """Error of half of the models where the first column is positive, and of the other half where it is not."""
    shift: float = 0.0
    """By how much all models are off for one of the first column."""
    metric: str = "rmse"

    def draw(self, random: np.random.Generator, n_rows: int) -> tuple[SeenRows, np.ndarray]:
        """Return rows with four numeric columns, and the group of each."""
        group = np.arange(n_rows) * (self.n_groups or n_rows) // n_rows
        numeric = {
            "normal": random.normal(size=n_rows),
            "count": random.integers(1, 60, n_rows).astype(np.float64),
            "skewed": random.lognormal(sigma=1.5, size=n_rows),
            "of the group": random.normal(size=group.max() + 1)[group],
        }
        first = numeric["normal"][:, None]
        target = random.normal(size=n_rows)
        columns = 0.8 * target[:, None] + 0.3 * random.normal(size=(n_rows, 1)) + self.shift * first
        columns = columns + random.normal(size=(n_rows, N_MODELS)) * np.linspace(0.5, 0.8, N_MODELS)
        fails = (first > 0.0) == (np.arange(N_MODELS) % 2 == 0)
        columns = columns + self.believe * random.normal(size=columns.shape) * fails
        unit = units_of((np.arange(n_rows) % N_FOLDS).astype(np.int8), group.astype(np.int32))
        return all_rows(columns, target, unit, METRICS[self.metric], numeric=numeric), group.astype(np.int32)


NOISE = {
    "noise": StackingKind(),
    "noise, pearson": StackingKind(metric="pearson"),
    "noise, 4 groups": StackingKind(n_groups=4),
}
TELLING = {
    "whom to believe": StackingKind(n_rows=1_000, believe=1.5),
    "all models are off": StackingKind(n_rows=1_000, shift=0.3),
}


def report(name: str, world: StackingKind, n_draws: int) -> None:
    """Print what the draws of one kind say together."""
    metric, taken, gain = METRICS[world.metric], [], []
    makings = [making for making in makings_for(metric) if making.method in FAST and not making.calibration]
    for seed in range(n_draws):
        random = np.random.default_rng(seed)
        rows, group = world.draw(random, world.n_rows)
        other, _ = world.draw(random, N_TEST)
        bootstrap = GroupBootstrap(rows.target, np.zeros(len(group), dtype=np.int8), group, metric)
        found = add_stackings(rows, play(rows, makings), stackings(), bootstrap)
        truth = [metric.utility(metric(other.target, formula.predict(other.features))) for formula in found.formulas]
        taken.append(found.chosen >= len(makings))
        gain.append(truth[found.chosen] - truth[int(np.argmax(found.utility[: len(makings)]))])
    print(
        f"{name:20s} {n_draws} draws: a stacked making was taken in {sum(taken)}; on rows set aside, {metric.name} of "
        f"the blend is better than that of the best other making by {np.mean(gain):.4f}, by {min(gain):.4f} at worst",
        flush=True,
    )


def main() -> None:
    """Play every kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--only")
    options = parser.parse_args()
    for kinds, n_draws in ((NOISE, options.draws), (TELLING, max(1, options.draws // 10))):
        for name, world in kinds.items():
            if options.only in (None, name):
                report(name, world, n_draws)


if __name__ == "__main__":
    main()
