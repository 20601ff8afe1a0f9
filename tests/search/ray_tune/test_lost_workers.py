"""How a lost worker or node is handled: another try, a larger share, or failure."""

import pytest

from models.candidate import Candidate
from search.ray_tune.family_resources import FamilyResources
from search.ray_tune.lost_workers import (
    MAX_PREEMPTIONS,
    MAX_WORKER_DEATHS,
    PREEMPTION_MARKERS,
    LostWorkers,
    Verdict,
    actors_killed_for_memory,
)
from search.study.study_file import StudyResources
from search.worker.messages import Assignment, FoldRunResources

FIRST, OTHER = Assignment(Candidate(), 0), Assignment(Candidate(), 1)
SMALL, LARGE = FoldRunResources(1, 0.25), FoldRunResources(2, 0.5)
HALVED = FoldRunResources(1, 0.25, micro_batches=2)


def no_memory_asked(family: str, resources: FoldRunResources) -> FoldRunResources:
    raise AssertionError("it did not run out of memory")


@pytest.mark.parametrize("marker", PREEMPTION_MARKERS)
def test_a_preempted_fold_run_starts_again_often_and_without_blame(marker: str) -> None:
    lost = LostWorkers(no_memory_asked)
    error = f"the worker says: {marker}"
    verdicts = [lost.decide(FIRST, SMALL, error) for _ in range(MAX_PREEMPTIONS)]
    assert set(verdicts) == {
        Verdict(True, f"its node was preempted ({error}); it continues from its last checkpoint"),
    }
    assert lost.restarts(FIRST) == MAX_PREEMPTIONS
    later = [lost.decide(FIRST, SMALL, error).start_again for _ in range(MAX_WORKER_DEATHS + 1)]
    assert later == [True] * MAX_WORKER_DEATHS + [False], "from now on it counts as a death"


def test_a_worker_that_dies_again_and_again_fails_its_fold_run_alone() -> None:
    lost = LostWorkers(no_memory_asked)
    verdicts = [lost.decide(FIRST, SMALL, "no disk") for _ in range(MAX_WORKER_DEATHS + 1)]
    assert verdicts == [
        *[Verdict(True, "lost its worker (no disk); it continues from its last checkpoint")] * MAX_WORKER_DEATHS,
        Verdict(False, f"its worker died {MAX_WORKER_DEATHS + 1} times: no disk"),
    ]
    assert (lost.restarts(FIRST), lost.restarts(OTHER)) == (MAX_WORKER_DEATHS + 1, 0)
    assert lost.decide(Assignment(FIRST.candidate, 0, attempt=1), SMALL, "no disk").start_again, "a retry counts anew"


@pytest.mark.parametrize("error", ["MemoryError: no room", "Ray's memory monitor killed a worker"])
def test_out_of_memory_a_larger_share_is_no_death_and_smaller_micro_batches_are(error: str) -> None:
    asked: list[tuple[str, FoldRunResources]] = []

    def next_resources(family: str, resources: FoldRunResources) -> FoldRunResources:
        asked.append((family, resources))
        return LARGE if len(asked) == 1 else HALVED

    lost = LostWorkers(next_resources)
    assert lost.decide(FIRST, SMALL, error) == Verdict(
        True, f"ran out of memory ({error}); its family gets cpu=2, gpu=0.5 from now on"
    )
    verdicts = [lost.decide(FIRST, SMALL, error) for _ in range(MAX_WORKER_DEATHS + 1)]
    assert [verdict.start_again for verdict in verdicts] == [True] * MAX_WORKER_DEATHS + [False]
    assert asked == [(FIRST.candidate.family, SMALL)] * (MAX_WORKER_DEATHS + 2)
    assert "continues from its last checkpoint" in verdicts[0].reason


def test_a_family_gets_more_each_time_until_only_smaller_micro_batches_are_left(tmp_path) -> None:
    families = FamilyResources(str(tmp_path), StudyResources(cpu=1, gpu=0.25), lambda: [(4.0, 1.0)])
    lost, given = LostWorkers(families.ran_out), []
    for _ in range(4):
        resources = families.of(FIRST.candidate.family)
        given.append((resources.gpu, resources.micro_batches, families.can_grow(FIRST.candidate.family)))
        assert lost.decide(FIRST, resources, "MemoryError: out of memory").start_again
    assert given == [(0.25, 1, True), (0.5, 1, True), (1.0, 1, False), (1.0, 2, False)]


def test_the_actors_that_ray_killed_are_told_from_those_that_it_spared() -> None:
    error = RuntimeError("Caught unexpected exception")
    error.__cause__ = ValueError(
        "Selected to kill: (Actor(a0): job ID=01, pid=7)\nConsidered: [\n(Actor(b0): pid=9)\n]"
    )
    assert actors_killed_for_memory(error) == {"a0"}
    assert actors_killed_for_memory(RuntimeError("no disk")) == set()
