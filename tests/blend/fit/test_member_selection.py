import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blend.fit.member_selection import MemberSelection, elimination_path, merge_duplicates, select_members
from blend.members.moment_sums import measure, total
from data_prep.scoring.metrics import METRICS, pearson
from data_prep.scoring.moments import best_nonnegative_weights, moments


def toy(seed: int = 0, n_good: int = 3, n_noise: int = 4, n_groups: int = 150) -> dict[str, np.ndarray]:
    """Candidates 0 to n_good - 1 see the score through errors of their own; the others see next to nothing."""
    random = np.random.default_rng(seed)
    group = np.repeat(np.arange(n_groups), 4).astype(np.int32)
    score = random.integers(0, 5, len(group)) / 4
    good = score[:, None] + 0.5 * random.normal(size=(len(group), n_good))
    noise = 0.05 * score[:, None] + random.normal(size=(len(group), n_noise))
    order = np.argsort(group % 4, kind="stable")
    columns = np.column_stack([good, noise])[order]
    return {
        "columns": columns,
        "score": score[order],
        "fold": (group % 4).astype(np.int8)[order],
        "group": group[order],
    }


def chosen(data: dict[str, np.ndarray], most: int = 40, metric: str = "pearson") -> MemberSelection:
    parts = [measure(data["columns"][data["fold"] == k], data["score"][data["fold"] == k]) for k in range(4)]
    return select_members(
        parts,
        lambda members, part: data["columns"][data["fold"] == part][:, list(members)],
        data["score"],
        data["fold"],
        group=data["group"],
        metric=METRICS[metric],
        candidates=range(data["columns"].shape[1]),
        most=most,
    )


def test_near_duplicates_go_and_the_better_one_stays() -> None:
    data = toy()
    random = np.random.default_rng(1)
    twin = data["columns"][:, 1] + 0.02 * random.normal(size=len(data["score"]))
    columns = np.column_stack([data["columns"], twin, -3 * twin])
    utility = np.array([pearson(data["score"], column) for column in columns.T])
    utility[7] = utility[1] + 0.01
    merged = merge_duplicates(measure(columns, data["score"]), utility)
    assert [(entry.candidate, entry.kept) for entry in merged] == [(1, 7)]
    assert merged[0].correlation == pytest.approx(np.corrcoef(twin, data["columns"][:, 1])[0, 1])


def test_a_chain_of_near_duplicates_leaves_its_ends() -> None:
    """Each is close to the next, the ends are not close to each other: only those close to one that stays go."""
    random = np.random.default_rng(0)
    left, right = random.normal(size=(2, 4_000))
    columns = np.column_stack([left + angle * right for angle in (0.0, 0.09, 0.18)])
    merged = merge_duplicates(measure(columns, left), np.array([0.5, 0.4, 0.3]))
    assert [entry.candidate for entry in merged] == [1]


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_the_path_begins_at_the_support_of_the_optimum_and_loses_the_least(seed: int) -> None:
    random = np.random.default_rng(seed)
    score = random.normal(size=300)
    columns = score[:, None] + random.normal(size=(300, 6)) * random.uniform(0.5, 3, 6) + random.normal(size=(300, 1))
    table = moments(columns, score)
    path = elimination_path(table, range(6))
    assert path[0] == np.flatnonzero(best_nonnegative_weights(table)).tolist()
    assert len(path[-1]) == 1

    def value(members: tuple[int, ...]) -> float:
        weights = np.linalg.lstsq(columns[:, members], score - score.mean(), rcond=None)[0]
        return float(np.sum((columns[:, members] @ weights - score) ** 2))

    centred = columns - columns.mean(axis=0)
    columns = centred
    for before, after in itertools.pairwise(path):
        assert set(after) < set(before)
        least = min(itertools.combinations(before, len(before) - 1), key=value)
        assert set(after) <= set(least)


def test_the_fewest_within_one_standard_error_are_chosen() -> None:
    found = chosen(toy())
    assert found.members == (0, 1, 2)
    sizes = [step.n_members for step in found.path]
    assert sizes == sorted(sizes)
    assert sizes[0] == 1
    best = min(found.path, key=lambda step: step.behind)
    assert best.behind == 0.0
    fewest = min(step.n_members for step in found.path if step.behind <= step.standard_error)
    assert len(found.members) == fewest


def test_scores_on_the_path_are_nested() -> None:
    data = toy()
    found = chosen(data)
    step = next(step for step in found.path if step.n_members == 3)
    columns, score, fold = data["columns"][:, :3], data["score"], data["fold"]
    values = []
    for k in range(4):
        weights = best_nonnegative_weights(moments(columns[fold != k], score[fold != k]))
        values.append(pearson(score[fold == k], columns[fold == k] @ weights))
    assert step.value == pytest.approx(np.mean(values))


def test_no_more_than_asked_for() -> None:
    found = chosen(toy(n_good=8, n_noise=0), most=2)
    assert len(found.members) <= 2
    assert max(step.n_members for step in found.path) == 2


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_can_choose(metric: str) -> None:
    assert set(chosen(toy(), metric=metric).members) >= {0, 1}


def test_candidates_that_are_all_reversed_leave_the_least_bad() -> None:
    data = toy(n_good=2, n_noise=0)
    table = total([measure(-data["columns"], data["score"])]).centred
    assert [len(members) for members in elimination_path(table, range(2))] == [1]
