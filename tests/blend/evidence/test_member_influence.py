import numpy as np
import pytest

from blend.evidence.member_influence import WEIGHT_RESAMPLES, drop_costs, error_correlations, weight_spread
from blend.fit.makings import Making
from blend.fit.objective import Readout
from blend.fit.tournament import all_rows, play
from data_prep.scoring.group_bootstrap import MOST_CLUSTERS, GroupBootstrap, cluster_groups
from data_prep.scoring.metrics import METRICS
from data_prep.scoring.moments import best_nonnegative_weights, moments


def toy(seed: int = 0, n_groups: int = 100) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    group = np.repeat(np.arange(n_groups), 4).astype(np.int32)
    score = random.integers(0, 5, len(group)) / 4
    columns = score[:, None] + random.normal(size=(len(group), 3)) * [0.4, 0.5, 3.0]
    return {"columns": columns, "score": score, "fold": (group % 4).astype(np.int8), "group": group}


def test_weights_spread_as_over_fresh_data() -> None:
    data = toy()
    spreads = weight_spread(data["columns"], data["score"], data["group"])
    fresh = np.array([best_nonnegative_weights(moments(d["columns"], d["score"])) for d in map(toy, range(200))])
    for member, spread in enumerate(spreads):
        width = np.subtract(*np.quantile(fresh[:, member], [0.95, 0.05]))
        assert spread.high - spread.low == pytest.approx(width, rel=0.35)
        assert spread.low <= spread.mean <= spread.high
    assert spreads[0].present == 1.0
    assert spreads[2].present < 1.0
    assert sum(spread.mean for spread in spreads) == pytest.approx(1.0)


@pytest.mark.parametrize("n_groups", [100, 5000])
def test_weights_spread_as_over_rows_that_are_really_repeated(n_groups: int) -> None:
    data = toy(n_groups=n_groups)
    columns, score = data["columns"] + 7, data["score"]
    random = np.random.default_rng(3)
    cluster = cluster_groups(data["group"], random)
    n_clusters = cluster.max() + 1
    assert n_clusters <= MOST_CLUSTERS
    weights = []
    for _ in range(WEIGHT_RESAMPLES):
        drawn = random.integers(0, n_clusters, n_clusters)
        rows = np.repeat(np.arange(len(score)), np.bincount(drawn, minlength=n_clusters)[cluster])
        weights.append(best_nonnegative_weights(moments(columns[rows], score[rows])))
    found = weight_spread(columns, score, data["group"], seed=3)
    for field, expected in (
        ("mean", np.mean(weights, axis=0)),
        ("low", np.quantile(weights, 0.05, axis=0)),
        ("high", np.quantile(weights, 0.95, axis=0)),
    ):
        np.testing.assert_allclose([getattr(spread, field) for spread in found], expected, atol=1e-9)


def test_a_drop_costs_what_the_nested_metric_loses() -> None:
    data = toy()
    columns, score = data["columns"], data["score"]
    unit, pearson = data["fold"].astype(np.intp), METRICS["pearson"]
    rows = all_rows(columns, score, unit, pearson)
    bootstrap = GroupBootstrap(score, np.zeros(len(score), np.int8), data["group"], pearson)
    making = Making("nnls", Readout.LINE)
    costs = drop_costs(rows, making, range(3), bootstrap)

    def nested_metric(members: list[int]) -> float:
        return float(play(all_rows(columns[:, members], score, unit, pearson), [making]).utility[0])

    for member, others in enumerate([[1, 2], [0, 2], [0, 1]]):
        assert costs[member].value == pytest.approx(nested_metric([0, 1, 2]) - nested_metric(others), abs=1e-9)
    assert costs[0].value > 2 * costs[0].standard_error
    assert costs[2].is_noise


def test_errors_correlate_as_residuals_do() -> None:
    data = toy()
    columns, score = data["columns"], data["score"]
    columns[:, 1] = 7 + 2 * (columns[:, 0] + 0.01 * columns[:, 2])
    residuals = [score - np.polyval(np.polyfit(column, score, 1), column) for column in columns.T]
    found = error_correlations(moments(columns, score))
    np.testing.assert_allclose(found, np.corrcoef(residuals))
    assert found[0, 1] > 0.95
