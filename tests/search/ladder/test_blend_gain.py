import numpy as np
import pytest

from data_prep.scoring.moments import best_nonnegative_weights, moments, pearson_of
from search.ladder.blend_gain import BlendEvidence, split_in_halves


def evidence_of(columns: dict[str, np.ndarray], score: np.ndarray, group: np.ndarray | None = None) -> BlendEvidence:
    evidence = BlendEvidence()
    for name, prediction in columns.items():
        evidence.add(name, 0, prediction, score, group)
    return evidence


def made_up(n_columns: int, n_rows: int = 400, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    generator = np.random.default_rng(seed)
    score = generator.normal(size=n_rows)
    return {f"c{k}": score + generator.normal(size=n_rows) * (1 + k / 4) for k in range(n_columns)}, score


def rise_by_hand(columns: list[np.ndarray], score: np.ndarray, fitted: np.ndarray, scored: np.ndarray) -> float:
    def blend(members: list[np.ndarray]) -> float:
        table = np.column_stack(members)
        weights = best_nonnegative_weights(moments(table[fitted], score[fitted]))
        return pearson_of(moments(table[scored], score[scored]), weights)

    return blend(columns) - blend(columns[:-1])


@pytest.mark.parametrize("grouped", [False, True])
def test_a_gain_is_scored_on_the_half_that_the_weights_have_not_seen(grouped: bool) -> None:
    columns, score = made_up(6)
    group = np.arange(len(score)) // 13 if grouped else None
    halves = split_in_halves(len(score), group)
    gain = evidence_of(columns, score, group).gain("c5", ["c0", "c1", "c2", "c3", "c4"], [0])
    rows = list(columns.values())
    expected = (rise_by_hand(rows, score, halves[1], halves[0]), rise_by_hand(rows, score, halves[0], halves[1]))
    assert gain is not None
    assert gain.halves == pytest.approx(expected, abs=1e-9)
    assert gain.n_members == 5


def test_groups_stay_whole_and_halves_are_about_equal() -> None:
    group = np.repeat(np.arange(9), [50, 3, 3, 3, 40, 20, 20, 10, 1])
    first, second = split_in_halves(len(group), group)
    assert not set(group[first]) & set(group[second])
    assert sorted([*first, *second]) == list(range(len(group)))
    assert abs(len(first) - len(second)) <= 3


def test_order_of_arrival_does_not_matter() -> None:
    columns, score = made_up(5)
    forwards = evidence_of(columns, score).gain("c4", ["c0", "c1", "c2", "c3"], [0])
    backwards = evidence_of(dict(reversed(columns.items())), score).gain("c4", ["c0", "c1", "c2", "c3"], [0])
    assert forwards is not None
    assert backwards is not None
    assert forwards.halves == pytest.approx(backwards.halves, abs=1e-9)


def test_members_without_the_rows_are_left_out() -> None:
    columns, score = made_up(3)
    evidence = evidence_of(columns, score)
    evidence.add("c0", 1, columns["c0"], score, None)
    evidence.add("c1", 1, columns["c1"], score, None)
    gain = evidence.gain("c1", ["c0", "c2"], [0, 1])
    assert gain is not None
    assert gain.n_members == 1
    assert evidence.gain("c2", ["c0"], [0, 1]) is None
    assert evidence.gain("c1", [], [0]) is None


def test_noise_gains_nothing_on_average_out_of_sample() -> None:
    gains = []
    for seed in range(30):
        columns, score = made_up(2, seed=seed)
        columns["noise"] = np.random.default_rng(seed + 1000).normal(size=len(score))
        gain = evidence_of(columns, score).gain("noise", ["c0", "c1"], [0])
        assert gain is not None
        gains.append(gain.mean)
    assert np.mean(gains) <= 0


def test_the_best_blend_is_scored_on_unseen_halves_and_changes_no_decision() -> None:
    columns, score = made_up(6)
    columns["noise"] = -score
    first, second = split_in_halves(len(score), None)
    table = np.column_stack(list(columns.values()))
    expected, members = 0.0, set()
    for fitted, scored in ((first, second), (second, first)):
        weights = best_nonnegative_weights(moments(table[fitted], score[fitted]))
        expected += pearson_of(moments(table[scored], score[scored]), weights) / 2
        members |= set(np.flatnonzero(weights > 0))
    evidence, untouched = evidence_of(columns, score), evidence_of(columns, score)
    blend = evidence.best_blend(columns, [0])
    assert blend is not None
    assert blend.pearson == pytest.approx(expected, abs=1e-9)
    assert (blend.members, blend.candidates) == (len(members), 7)
    assert evidence.best_blend(columns, [0, 1]) is None
    assert evidence.gain("c5", ["c0", "c1"], [0]) == untouched.gain("c5", ["c0", "c1"], [0])
