"""What an autoscaler sees: as many requests as fold runs wait for room, none when none waits."""

import tempfile
from dataclasses import dataclass, field
from typing import Any

import pytest

from search.ray_tune.autoscaler_demand import CHECK_SECONDS, MAX_REQUESTS, AutoscalerDemand
from search.ray_tune.family_resources import FamilyResources
from search.ray_tune.scheduler import LoopCallback
from search.ray_tune.searcher import FoldSearcher
from search.study.study_file import StudyResources
from search.worker.messages import FoldRunResources
from stub_conductor import StubConductor, assignments


@dataclass
class FakeCluster:
    """A cluster with an autoscaler: every request gets a node of one core after a while, up to a limit."""

    limit: int
    nodes: int = 1
    now: float = 0.0
    asked: dict[str, FoldRunResources] = field(default_factory=dict)
    reserved: set[str] = field(default_factory=set)
    most_asked: int = 0
    number: int = 0

    def add(self, resources: FoldRunResources) -> str:
        self.number += 1
        self.asked[str(self.number)] = resources
        self.most_asked = max(self.most_asked, len(self.asked))
        return str(self.number)

    def met(self) -> set[str]:
        return set(self.reserved)

    def remove(self, request: str) -> None:
        self.asked.pop(request)
        self.reserved.discard(request)

    def boot(self) -> None:
        """Start a node for each request that has none yet."""
        for request in [request for request in self.asked if request not in self.reserved]:
            if self.nodes < self.limit:
                self.nodes += 1
                self.reserved.add(request)


class Waiting(StubConductor):
    @property
    def n_startable(self) -> int:
        return len(self.waiting)


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster(limit=8)


def search(cluster: FakeCluster, runs: int, *, autoscaler: bool = True) -> tuple[FoldSearcher, Waiting]:
    conductor, resources = Waiting(assignments(runs)), StudyResources(cpu=1)
    searcher = FoldSearcher(
        conductor,  # type: ignore[arg-type]
        resources,
        lambda _: None,
        FamilyResources(tempfile.mkdtemp(), resources, lambda: [(1.0, 0.0)]),
        AutoscalerDemand(cluster, lambda: cluster.now) if autoscaler else None,
        cluster_size=lambda: {"CPU": float(cluster.nodes)},
        clock=lambda: cluster.now,
    )
    return searcher, conductor


def turn(searcher: FoldSearcher, cluster: FakeCluster, number: int) -> Any:
    """Let Tune's loop go round once, a while later."""
    cluster.now += 2 * CHECK_SECONDS
    LoopCallback(searcher).on_step_begin(iteration=0, trials=[])
    return searcher.suggest(str(number))


def test_there_are_no_more_requests_than_waiting_fold_runs(cluster: FakeCluster) -> None:
    searcher, conductor = search(cluster, 5)
    for number in range(4):
        turn(searcher, cluster, number)
    assert len(searcher.live) == 1
    assert list(cluster.asked.values()) == [FoldRunResources(1, 0)] * 4
    cluster.boot()
    assert cluster.nodes == 5
    for number in range(10, 16):
        turn(searcher, cluster, number)
    assert len(searcher.live) == 5
    assert (conductor.waiting, cluster.asked, cluster.reserved) == ([], {}, set())
    assert cluster.most_asked == 4


def test_room_that_an_autoscaler_made_is_freed_even_while_tune_waits_for_its_own(cluster: FakeCluster) -> None:
    searcher, _ = search(cluster, 3)
    for number in range(2):
        turn(searcher, cluster, number)
    cluster.boot()
    assert len(cluster.reserved) == 2
    cluster.now += 2 * CHECK_SECONDS
    LoopCallback(searcher).on_step_begin(iteration=0, trials=[])  # no suggestion is asked for
    assert cluster.reserved == set()


def test_at_the_end_nothing_requests_idle_nodes(cluster: FakeCluster) -> None:
    searcher, _ = search(cluster, 12)
    number = 0
    while True:
        suggested = turn(searcher, cluster, number)
        cluster.boot()
        waiting = searcher.conductor.n_startable
        assert len(cluster.asked) <= waiting
        if suggested == "FINISHED":
            break
        if number % 3 == 0 and searcher.live:
            searcher.on_trial_complete(next(iter(searcher.live)), {})
        number += 1
    assert cluster.nodes <= 8
    assert cluster.asked == {}


def test_without_an_autoscaler_nothing_is_asked(cluster: FakeCluster) -> None:
    searcher, _ = search(cluster, 5, autoscaler=False)
    for number in range(4):
        turn(searcher, cluster, number)
    assert cluster.asked == {}


def test_requests_are_bounded_and_follow_the_size(cluster: FakeCluster) -> None:
    demand = AutoscalerDemand(cluster, lambda: cluster.now)
    demand.request(FoldRunResources(1, 0), 10 * MAX_REQUESTS)
    assert len(cluster.asked) == MAX_REQUESTS
    demand.request(FoldRunResources(2, 0.5), 3)
    assert list(cluster.asked.values()) == [FoldRunResources(2, 0.5)] * 3
    demand.request(FoldRunResources(2, 0.5), 0)
    assert cluster.asked == {}
