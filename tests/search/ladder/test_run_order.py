from search.ladder.candidate_state import CandidateState
from search.ladder.run_order import best_stopped, run_order


def candidate(name: str, *utilities: float, live: int = 0, **rungs: float) -> CandidateState:
    return CandidateState(
        name,
        "bert",
        utilities=dict(enumerate(utilities)),
        live={len(utilities) + number for number in range(live)},
        rungs={(0, int(rung[1:]) / 100): utility for rung, utility in rungs.items()},
    )


def test_certain_ones_run_first_then_those_with_the_fewest_folds_begun_then_the_best_on_fold_0() -> None:
    kept, running, idle, better = (
        candidate("kept", 0.5, 0.5, 0.5),
        candidate("running", 0.9, live=1),
        candidate("idle", 0.7),
        candidate("better", 0.8),
    )
    ordered = sorted([running, idle, better, kept], key=lambda c: run_order(c, is_certain=c is kept))
    assert [c.name for c in ordered] == ["kept", "better", "idle", "running"]


def test_the_best_stopped_one_got_furthest() -> None:
    early, late, finished = candidate("a", r40=0.9), candidate("b", r40=0.3, r60=0.4), candidate("c", 0.2)
    worse = candidate("d", 0.1)
    assert best_stopped([early, late, finished, worse]) is finished
    assert best_stopped([early, late]) is late
    assert best_stopped([candidate("e"), early]) is early
    assert best_stopped([]) is None
