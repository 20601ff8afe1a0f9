import networkx as nx
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import InputError
from data_prep.prepare.folds import (
    GREATEST_SEED,
    GROUPED_SCHEMES,
    SCHEMES,
    check_split_settings,
    choose_holdout,
    linked_groups,
    number_by_appearance,
    split_rows,
    strata,
)
from data_prep.task import PPPM, Task


def grouped_rows(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and groups of 600 rows in 60 groups of unequal size."""
    generator = np.random.default_rng(seed)
    groups = number_by_appearance(generator.choice(60, 600, p=np.linspace(1, 3, 60) / np.linspace(1, 3, 60).sum()))
    return generator.choice(PPPM.score_levels, 600, p=[0.2, 0.32, 0.34, 0.11, 0.03]), groups


names = st.text("abcdef", min_size=1, max_size=1)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(names, st.text("abcdefxy", min_size=1, max_size=2)), min_size=1, max_size=25))
def test_linked_groups_are_the_connected_components(rows):
    anchors, targets = zip(*rows, strict=True)
    graph = nx.Graph((anchor, target) for anchor, target in rows if target in anchors)
    graph.add_nodes_from(anchors)
    component = {node: number for number, nodes in enumerate(nx.connected_components(graph)) for node in nodes}
    expected = [component[anchor] for anchor in anchors]
    groups = linked_groups(pa.chunked_array([pa.array(anchors)]), pa.chunked_array([pa.array(targets)]))
    assert groups.dtype == np.int32
    np.testing.assert_array_equal(groups, number_by_appearance(np.array(expected)))


@pytest.mark.parametrize("other", ["CAFÉ", "cafe\u0301", " café", "café\u00a0", "ｃａｆé", "café\t"])
def test_names_that_a_reader_takes_for_one_are_one_group(other):
    rows = pa.chunked_array([pa.array(["café", "tea", other]), pa.array(["milk"])])
    np.testing.assert_array_equal(linked_groups(rows), [0, 1, 0, 2])
    links = pa.chunked_array([pa.array(["x", "x", "x"]), pa.array([f" {other.upper()}"])])
    np.testing.assert_array_equal(linked_groups(rows, links), [0, 1, 0, 0])


def test_sharp_s_is_folded_and_accents_stay():
    rows = pa.chunked_array([pa.array(["straße", "STRASSE", "strase", "resume", "résumé"])])
    np.testing.assert_array_equal(linked_groups(rows), [0, 0, 1, 2, 3])


def test_groups_are_numbered_by_first_appearance():
    np.testing.assert_array_equal(number_by_appearance(np.array([7, 7, 2, 9, 2])), [0, 0, 1, 2, 1])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_row_has_one_fold_and_folds_are_of_like_size(scheme):
    scores, groups = grouped_rows()
    folds = split_rows(scheme, targets=scores, groups=groups, task=PPPM, n_folds=5, seed=1)
    sizes = np.bincount(folds)
    assert folds.dtype == np.int8
    assert len(sizes) == 5
    assert sizes.min() > 0.8 * sizes.mean()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_split_is_a_function_of_its_seed(scheme):
    scores, groups = grouped_rows()
    settings = {"targets": scores, "groups": groups, "task": PPPM, "n_folds": 5}
    first = split_rows(scheme, seed=1, **settings)
    np.testing.assert_array_equal(first, split_rows(scheme, seed=1, **settings))
    assert (first != split_rows(scheme, seed=2, **settings)).any()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_only_grouped_schemes_keep_groups_whole(scheme):
    scores, groups = grouped_rows()
    folds = split_rows(scheme, targets=scores, groups=groups, task=PPPM, n_folds=5, seed=1)
    split_groups = sum(len(set(folds[groups == group])) > 1 for group in np.unique(groups))
    assert (split_groups == 0) == (scheme in GROUPED_SCHEMES)


@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name.startswith("stratified")])
def test_stratified_schemes_spread_the_scores(scheme):
    scores, groups = grouped_rows()
    folds = split_rows(scheme, targets=scores, groups=groups, task=PPPM, n_folds=5, seed=1)
    shares = np.array([[(scores[folds == fold] == level).mean() for level in PPPM.score_levels] for fold in range(5)])
    assert np.ptp(shares, axis=0).max() < 0.08


def test_strata_of_a_range_are_its_tenths():
    task = Task(name="ranged", text_columns=("text",), score_range=(0, 5))
    scores = np.random.default_rng(0).uniform(0, 5, 1_000)
    np.testing.assert_array_equal(np.bincount(strata(scores, task)), np.full(10, 100))


@pytest.mark.parametrize("share", [0.05, 0.1, 0.33])
def test_the_holdout_is_whole_groups_of_about_the_share(share):
    _, groups = grouped_rows()
    held = choose_holdout(groups, share, seed=3)
    assert share - 0.02 < held.mean() <= share
    assert not set(groups[held]) & set(groups[~held])
    assert (choose_holdout(groups, share, seed=4) != held).any()


def test_a_holdout_smaller_than_any_group_is_refused():
    with pytest.raises(InputError, match=r"--holdout 0\.1 is 2\.0 of 20 rows, but the smallest group has 10"):
        choose_holdout(np.repeat([0, 1], 10).astype(np.int32), 0.1, seed=0)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_more_folds_than_groups_or_rows_is_refused(scheme):
    scores, groups = np.zeros(8), np.repeat([0, 1], 4).astype(np.int32)
    n_folds, unit = (3, "linked groups") if scheme in GROUPED_SCHEMES else (9, "rows")
    with pytest.raises(InputError, match=f"need at least {n_folds} {unit}, found"):
        split_rows(scheme, targets=scores, groups=groups, task=PPPM, n_folds=n_folds, seed=0)


@pytest.mark.parametrize(("scheme", "other"), [("stratified", "kfold"), ("stratified_group", "group")])
def test_a_stratified_split_without_enough_rows_of_any_score_is_refused(scheme, other):
    task = PPPM.model_copy(update={"score_levels": None, "score_range": (0.0, 1.0)})
    rows = {"targets": np.arange(12) / 12, "groups": np.arange(12, dtype=np.int32), "task": task, "seed": 0}
    with pytest.raises(InputError, match=rf"never finds 3 of them: use --scheme {other}, or fewer folds"):
        split_rows(scheme, n_folds=3, **rows)
    assert set(split_rows(other, n_folds=3, **rows)) == {0, 1, 2}


def test_all_faults_of_a_plan_come_at_once():
    task = Task(name="plain", text_columns=("text",), score_range=(0, 1))
    faults = check_split_settings("group", 1, 1.0, -1, task)
    assert len(faults) == 4
    assert "known: kfold, stratified, group, stratified_group" in check_split_settings("random", 5, 0.0, 0, task)[0]
    assert not check_split_settings("stratified", 5, 0.1, 42, task)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_greatest_seed_is_the_last_that_splits(scheme):
    scores, groups = np.tile([0.0, 0.5], 20), np.repeat(np.arange(20, dtype=np.int32), 2)
    split_rows(scheme, targets=scores, groups=groups, task=PPPM, n_folds=2, seed=GREATEST_SEED)
    assert not check_split_settings(scheme, 2, 0.0, GREATEST_SEED, PPPM)
    for seed in (GREATEST_SEED + 1, -1):
        assert check_split_settings(scheme, 2, 0.0, seed, PPPM) == [f"--seed must be from 0 to 4294967295, got {seed}"]
        with pytest.raises(ValueError, match="Seed must be between 0 and 2"):
            split_rows(scheme, targets=scores, groups=groups, task=PPPM, n_folds=2, seed=seed)
