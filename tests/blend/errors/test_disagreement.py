from dataclasses import replace

import numpy as np
from scipy.stats import zscore

from blend.errors.disagreement import disagreement, most_disputed


def test_disagreement_is_the_spread_of_standardized_members(rows):
    frame = rows.frame.assign(two=10 + 100 * rows.frame["two"])
    found = disagreement(replace(rows, frame=frame))
    expected = np.std([zscore(frame["one"]), zscore(frame["two"])], axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_the_most_disputed_rows_come_first(rows):
    found = most_disputed(rows, 5)
    assert list(found["disagreement"]) == sorted(disagreement(rows), reverse=True)[:5]


def test_a_constant_member_does_not_count_and_one_alone_disputes_nothing(rows):
    three = replace(rows, frame=rows.frame.assign(three=1.0), members={**rows.members, "three": "third"})
    assert disagreement(three).equals(disagreement(rows))
    assert most_disputed(replace(rows, members={"one": "first"})).empty


def test_an_unfinished_fold_is_judged_by_the_members_that_have_it(rows):
    frame = rows.frame.assign(three=rows.frame["one"], two=rows.frame["two"].where(rows.frame["fold"] > 0))
    found = disagreement(replace(rows, frame=frame, members={**rows.members, "three": "third"}))
    assert np.allclose(found[rows.frame["fold"] == 0], 0)
    assert (found[rows.frame["fold"] > 0] > 0).all()
