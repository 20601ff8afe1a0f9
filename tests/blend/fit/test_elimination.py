import itertools

import numpy as np
import pytest

from blend.fit.elimination import eliminate
from blend.fit.objective import MetricOnMoments, Readout
from blend.members.moment_sums import measure
from data_prep.scoring.moments import best_nonnegative_weights, moments


@pytest.mark.parametrize("seed", range(10))
def test_it_begins_at_the_support_of_the_optimum_and_removes_what_costs_least(seed: int) -> None:
    random = np.random.default_rng(seed)
    target = random.normal(size=300)
    columns = target[:, None] + random.normal(size=(300, 6)) * random.uniform(0.5, 3, 6) + random.normal(size=(300, 1))
    columns, target = columns - columns.mean(axis=0), target - target.mean()
    objective = MetricOnMoments([measure(columns, target)], Readout.LINE)
    support = np.flatnonzero(best_nonnegative_weights(moments(columns, target))).tolist()
    assert eliminate(objective, 6).tolist() == support

    def error(members: tuple[int, ...]) -> float:
        left = columns[:, members]
        return float(np.sum((left @ np.linalg.lstsq(left, target, rcond=None)[0] - target) ** 2))

    sets = [eliminate(objective, most).tolist() for most in range(len(support), 0, -1)]
    for before, after in itertools.pairwise(sets):
        assert set(after) <= set(before)
        if len(after) == len(before) - 1:
            assert tuple(after) == min(itertools.combinations(before, len(after)), key=error)
    assert len(sets[-1]) == 1


def test_columns_that_all_point_the_wrong_way_leave_the_least_bad() -> None:
    random = np.random.default_rng(0)
    target = random.normal(size=100)
    columns = -target[:, None] + random.normal(size=(100, 2)) * [0.1, 2.0]
    assert eliminate(MetricOnMoments([measure(columns, target)], Readout.LINE), 2).tolist() == [1]
