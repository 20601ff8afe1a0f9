import numpy as np
import pytest
from pydantic import ValidationError

from data_prep.scoring.combination import Combination
from data_prep.scoring.stack import Stack, Tree

FORK = Tree(feature=(3, -1, -1), threshold=(2.0, 0.0, 0.0), left=(1, 0, 0), right=(2, 0, 0), value=(0.0, -1.0, 5.0))
"""-1 where the numeric column is 2 or less, else 5."""
PARTS = [
    {"candidate": "a", "weight": 0.75, "scalings": [{}]},
    {"candidate": "b", "weight": 0.25, "scalings": [{}]},
]


def test_a_stacked_blend_is_its_line_and_its_columns_and_its_trees() -> None:
    """By hand: members 0.4 and 0.8 give 0.5, on the line 1.1, the column 2 x 0.01 more: 1.12; then what trees say."""
    apart = Tree(feature=(0, -1, -1), threshold=(-0.7, 0, 0), left=(1, 0, 0), right=(2, 0, 0), value=(0, 10, 20))
    blend = Combination(
        parts=PARTS, slope=2.0, intercept=0.1, stack=Stack(columns=("length",), weights=(0.01,), trees=(FORK, apart))
    )
    members = [[np.array([0.3, 0.4]), np.array([0.5, 0.4])], [np.array([0.8, 0.8])]]
    found = blend.predict(members, {"other": np.zeros(2), "length": np.array([2.0, 3.0])})
    np.testing.assert_allclose(found, [1.12 - 1.0 + 10.0, 1.13 + 5.0 + 10.0])
    assert Combination.model_validate_json(blend.model_dump_json()) == blend


def test_cuts_come_after_what_is_stacked() -> None:
    stack = Stack(columns=("length",), weights=(0.0,), trees=(FORK,))
    blend = Combination(parts=PARTS, slope=1.0, intercept=0.0, cuts=(0.0, 1.0), levels=(1.0, 2.0, 3.0), stack=stack)
    found = blend.predict([[np.full(2, 0.5)], [np.full(2, 0.5)]], {"length": np.array([0.0, 9.0])})
    np.testing.assert_array_equal(found, [1.0, 3.0])


def test_a_combination_without_stack_reads_and_predicts_as_before() -> None:
    old = Combination.model_validate({"parts": PARTS, "slope": 2.0, "intercept": 0.1})
    assert old.stack is None
    np.testing.assert_allclose(old.predict([[np.array([0.4])], [np.array([0.8])]]), 1.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"left": (0, 0, 0)}, "leads back or nowhere"),
        ({"right": (3, 0, 0)}, "leads back or nowhere"),
        ({"value": (1.0,)}, "as many entries of each kind"),
        ({"feature": (4, -1, -1)}, "a feature that is none of the 4"),
    ],
)
def test_a_tree_that_leads_nowhere_is_refused(change: dict[str, object], message: str) -> None:
    tree = {**FORK.model_dump(), **change}
    stack = {"columns": ["length"], "weights": [0.0], "trees": [tree]}
    with pytest.raises(ValidationError, match=message):
        Combination.model_validate({"parts": PARTS, "slope": 1.0, "intercept": 0.0, "stack": stack})
