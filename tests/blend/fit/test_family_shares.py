import numpy as np

from blend.fit.family_shares import raise_families


def test_a_family_is_raised_at_the_cost_of_all_others_alike() -> None:
    weights = np.array([0.6, 0.4, 0.0, 0.0])
    raised = raise_families(weights, ["a", "b", "c", "c"], np.array([1.0, 1.0, 0.2, 0.3]))
    np.testing.assert_allclose(raised, [0.588, 0.392, 0.0, 0.02])
    np.testing.assert_array_equal(raise_families(weights, ["a", "a", "b", "a"], np.ones(4))[[0, 1]] > 0, True)
