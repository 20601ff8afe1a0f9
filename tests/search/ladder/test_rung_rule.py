import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.ladder.rung_rule import judge_at_rung, rung_at
from search.ladder.settings import LadderSettings

utilities = st.lists(st.integers(0, 1000).map(lambda number: number / 1024), min_size=1, max_size=12)


@given(
    utilities, st.integers(0, 11), st.integers(1, 5), st.sampled_from([1.5, 2.0, 3.0]), st.sampled_from([0.0, 0.125])
)
def test_a_run_is_cut_only_when_too_many_of_its_family_are_better_by_more_than_the_band(
    seen: list[float], position: int, min_peers: int, rung_eta: float, band: float
) -> None:
    utility = seen[position % len(seen)]
    decision = judge_at_rung(
        utility,
        sorted(seen),
        band,
        where="fold 0 at 40%",
        family="bert",
        settings=LadderSettings(min_peers=min_peers, rung_eta=rung_eta),
    )
    n_better = sum(other > utility + band for other in seen)
    assert decision.go == (len(seen) <= min_peers or n_better < math.ceil(len(seen) / rung_eta))


@pytest.mark.parametrize(("n_seen", "words"), [(1, "2 more runs"), (2, "1 more run to")])
def test_too_few_runs_to_compare_with_are_said(n_seen: int, words: str) -> None:
    settings = LadderSettings(min_peers=2)
    decision = judge_at_rung(0.1, [0.1, 0.9][:n_seen], 0.0, where="fold 0 at 40%", family="bert", settings=settings)
    assert words in decision.reason


@pytest.mark.parametrize(
    ("progress", "rung"), [(0.3, None), (0.4, 0.4), (0.5, 0.4), (0.51, None), (0.65, 0.6), (0.69, 0.6), (1.0, None)]
)
def test_a_report_counts_for_the_last_rung_that_it_has_just_passed(progress: float, rung: float | None) -> None:
    assert rung_at(progress, (0.4, 0.6)) == rung
