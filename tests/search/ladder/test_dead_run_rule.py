import math

import pytest

from search.ladder.dead_run_rule import judge_dead_run
from search.ladder.decisions import Decision, is_dead


@pytest.mark.parametrize(
    ("utility", "dead_below", "dead"),
    [(math.nan, None, True), (-9.0, None, False), (0.049, 0.05, True), (0.05, 0.05, False), (-0.41, -0.4, True)],
)
def test_a_run_failed_to_learn_when_it_is_not_a_number_or_below_the_setting(
    utility: float, dead_below: float | None, dead: bool
) -> None:
    assert is_dead(utility, dead_below) is dead


def judge(n_before: int, may_retry: bool) -> Decision:
    what = "fold 2 failed to learn at its end"
    return judge_dead_run(0.01, what, dead_below=0.05, n_before=n_before, may_retry=may_retry)


def test_it_runs_once_more_and_never_a_third_time() -> None:
    reason = "fold 2 failed to learn at its end: utility 0.0100 is below 0.05"
    first = f"{reason}; tried once more with another seed and a lower rate"
    assert judge(0, may_retry=True) == Decision(False, first, retry=True)
    assert judge(1, may_retry=True) == Decision(False, f"{reason}, for the second time")
    assert judge(0, may_retry=False) == Decision(False, reason)
