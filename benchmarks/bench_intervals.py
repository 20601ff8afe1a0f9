"""Check whether 95 % intervals for the error on other groups hold it, by how many groups there are.

    python benchmarks/bench_intervals.py [--draws 800]

Mean squared errors of groups are drawn from three distributions: alike, moderately skewed, and squares of a normal
number (a level that drifts from group to group). The interval for the root mean squared error of 60 other groups is
that of a blend: in logarithms, with half the degrees of freedom; beside it the textbook's, symmetric and with all.
"""

import argparse
from collections.abc import Callable

import numpy as np
from scipy.special import stdtrit

from data_prep.scoring.group_bootstrap import reach_95, standard_error

KINDS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "alike": lambda random, n: random.uniform(0.5, 1.5, n),
    "skewed": lambda random, n: np.exp(0.3 * random.normal(size=n)),
    "squares": lambda random, n: 0.25 + random.normal(size=n) ** 2,
}
OTHERS, RESAMPLES = 60, 400


def main() -> None:
    """Draw and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=800)
    options = parser.parse_args()
    print(f"{'squared errors':16} {'groups':>6} {'held':>7} {'textbook':>9}")
    for name, draw in KINDS.items():
        for n_groups in (4, 8, 12, 20, 40, 200):
            random, held, textbook = np.random.default_rng(0), 0, 0
            both = np.sqrt(1.0 + n_groups / OTHERS)
            for _ in range(options.draws):
                ours, truth = draw(random, n_groups), np.sqrt(draw(random, OTHERS).mean())
                value = np.sqrt(ours.mean())
                drawn = np.sqrt(ours[random.integers(0, n_groups, (RESAMPLES, n_groups))].mean(axis=1))
                reach = reach_95((n_groups + 1) / 2) * both * standard_error(np.log(drawn), n_groups)
                held += abs(np.log(truth / value)) <= reach
                reach = stdtrit(n_groups - 1, 0.975) * both * standard_error(drawn, n_groups)
                textbook += abs(truth - value) <= reach
            print(f"{name:16} {n_groups:6} {held / options.draws:7.1%} {textbook / options.draws:9.1%}")


if __name__ == "__main__":
    main()
