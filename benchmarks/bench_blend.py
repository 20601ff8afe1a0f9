"""Compare Nelder-Mead on moments with the same Nelder-Mead on the rows.

    python benchmarks/bench_blend.py [--rows 36473] [--members 30] [--seed 0]

Both searches run one after the other on the same synthetic columns, from equal weights, with the same simplex,
tolerances and evaluation limit. Only the objective differs. A third line times what `blendfold blend` really does
for one weight vector: from the exact optimum, with restarts until it converges.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from blend.fit.objective import MetricOnMoments, MetricOnRows, Readout
from blend.fit.weight_methods import BUDGET, WeightFit, exact, nelder_mead, search_simplex
from blend.members.moment_sums import measure
from data_prep.scoring.combination import Floats
from data_prep.scoring.metrics import METRICS, pearson


def synthetic_columns(n_rows: int, n_members: int, seed: int) -> tuple[Floats, Floats]:
    """Return standardised columns [rows, members] of Pearson about .80 to .86 with shared errors, and scores [rows]."""
    random = np.random.default_rng(seed)
    score = random.choice([0.0, 0.25, 0.5, 0.75, 1.0], size=n_rows, p=[0.205, 0.316, 0.337, 0.110, 0.032])
    shared = random.normal(size=(n_rows, 1)) * 0.13
    family = (random.normal(size=(n_rows, 4)) * 0.06)[:, np.arange(n_members) % 4]
    own = random.normal(size=(n_rows, n_members)) * random.uniform(0.05, 0.12, n_members)
    columns = score[:, None] + shared + family + own
    return (columns - columns.mean(axis=0)) / columns.std(axis=0), score


def timed(work: Callable[[], WeightFit], repeats: int = 3) -> tuple[WeightFit, float, float]:
    """Return what `work` returns, with the least wall and CPU seconds of a few repeats."""
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        found = work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return found, min(walls), min(cpus)


def main() -> None:
    """Run both searches and print one line each."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=36_473)
    arguments.add_argument("--members", type=int, default=30)
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    columns, score = synthetic_columns(options.rows, options.members, options.seed)
    start = np.full(options.members, 1.0 / options.members)
    budget = BUDGET * options.members

    def on_moments() -> WeightFit:
        return search_simplex(MetricOnMoments([measure(columns, score)], Readout.LINE), start, budget=budget)[0]

    def on_rows() -> WeightFit:
        objective = MetricOnRows(columns, score, METRICS["pearson"], [measure(columns, score)], Readout.LINE)
        objective.tolerance = MetricOnMoments.tolerance
        return search_simplex(objective, start, budget=budget)[0]

    def whole() -> WeightFit:
        return nelder_mead(MetricOnMoments([measure(columns, score)], Readout.LINE))

    print(
        f"{options.rows} rows, {options.members} members, seed {options.seed}; "
        "best of 3; seconds include measuring the moments"
    )
    print(f"{'search':34} {'wall s':>8} {'CPU s':>8} {'evaluations':>12} {'converged':>10} {'Pearson on rows':>16}")
    seconds = {}
    for name, work in (
        ("on moments, one start", on_moments),
        ("on rows, the same", on_rows),
        ("on moments, from the optimum", whole),
    ):
        fit, wall, cpu = timed(work)
        seconds[name] = cpu
        value = pearson(score, columns @ fit.weights)
        print(f"{name:34} {wall:8.3f} {cpu:8.3f} {fit.evaluations:12d} {fit.converged!s:>10} {value:16.8f}")
    optimum = exact(MetricOnMoments([measure(columns, score)], Readout.LINE))
    print(
        f"{'exact optimum (nnls)':34} {'':8} {'':8} {'':12} {'':10} {pearson(score, columns @ optimum.weights):16.8f}"
    )
    ratio = seconds["on rows, the same"] / seconds["on moments, one start"]
    print(f"moments take {ratio:.0f} times less CPU than rows")


if __name__ == "__main__":
    main()
