"""The rule for a run that failed to learn: it runs once more, and the second time its candidate fails."""

import math

from search.ladder.decisions import Decision


def judge_dead_run(utility: float, what: str, *, dead_below: float | None, n_before: int, may_retry: bool) -> Decision:
    """Return what happens to a run that `is_dead`, as `n_before` times before; an ended candidate may not retry."""
    found = "not a number (NaN or constant predictions)" if math.isnan(utility) else f"below {dead_below}"
    reason = f"{what}: utility {utility:.4f} is {found}"
    if n_before:
        return Decision(False, f"{reason}, for the second time")
    if not may_retry:
        return Decision(False, reason)
    return Decision(False, f"{reason}; tried once more with another seed and a lower rate", retry=True)
