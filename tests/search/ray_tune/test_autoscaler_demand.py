"""What an autoscaler is told: as many places as fold runs wait for room, none when none waits."""

import tempfile
from dataclasses import dataclass, field
from typing import Any

import pytest
import ray

from search.ray_tune import searcher as adapter
from search.ray_tune.autoscaler_demand import LOOK_SECONDS, MOST, Demand
from search.ray_tune.family_resources import MemoryNeeds, Need
from search.ray_tune.searcher import FoldSearcher, LoopWatch
from search.study.study_file import StudyResources
from stub_conductor import StubConductor, assignments


@dataclass
class FakeCluster:
    """A cluster with an autoscaler: every place asked for gets a node of one core after a while, up to a limit."""

    limit: int
    nodes: int = 1
    now: float = 0.0
    asked: dict[str, Need] = field(default_factory=dict)
    reserved: set[str] = field(default_factory=set)
    most_asked: int = 0
    number: int = 0

    def ask(self, need: Need) -> str:
        self.number += 1
        self.asked[str(self.number)] = need
        self.most_asked = max(self.most_asked, len(self.asked))
        return str(self.number)

    def there(self) -> set[str]:
        return set(self.reserved)

    def let_go(self, place: str) -> None:
        self.asked.pop(place)
        self.reserved.discard(place)

    def boot(self) -> None:
        """Start a node for each place that has none yet."""
        for place in [place for place in self.asked if place not in self.reserved]:
            if self.nodes < self.limit:
                self.nodes += 1
                self.reserved.add(place)


class Waiting(StubConductor):
    @property
    def n_startable(self) -> int:
        return len(self.waiting)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    found = FakeCluster(limit=8)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": float(found.nodes)})
    monkeypatch.setattr(adapter.time, "monotonic", lambda: found.now)
    return found


def search(cluster: FakeCluster, runs: int) -> tuple[FoldSearcher, Waiting]:
    conductor, resources = Waiting(assignments(runs)), StudyResources(cpu=1)
    needs = MemoryNeeds(tempfile.mkdtemp(), resources, lambda: [(1.0, 0.0)])
    demand = Demand(cluster, lambda: cluster.now)
    return FoldSearcher(conductor, resources, lambda _: None, needs, demand), conductor  # type: ignore[arg-type]


def turn(searcher: FoldSearcher, cluster: FakeCluster, number: int) -> Any:
    """Let Tune's loop go round once, a while later."""
    cluster.now += 2 * LOOK_SECONDS
    LoopWatch(searcher).on_step_begin(0, [])
    return searcher.suggest(str(number))


def test_no_more_places_are_asked_for_than_fold_runs_wait(cluster: FakeCluster) -> None:
    searcher, conductor = search(cluster, 5)
    for number in range(4):
        turn(searcher, cluster, number)
    assert len(searcher.live) == 1
    assert list(cluster.asked.values()) == [Need(1, 0)] * 4
    cluster.boot()
    assert cluster.nodes == 5
    for number in range(10, 16):
        turn(searcher, cluster, number)
    assert len(searcher.live) == 5
    assert (conductor.waiting, cluster.asked, cluster.reserved) == ([], {}, set())
    assert cluster.most_asked == 4


def test_a_place_that_is_there_is_given_up_even_while_tune_waits_for_its_own(cluster: FakeCluster) -> None:
    searcher, _ = search(cluster, 3)
    for number in range(2):
        turn(searcher, cluster, number)
    cluster.boot()
    assert len(cluster.reserved) == 2
    cluster.now += 2 * LOOK_SECONDS
    LoopWatch(searcher).on_step_begin(0, [])  # no suggestion is asked for
    assert cluster.reserved == set()


def test_at_the_end_idle_nodes_are_wanted_no_more(cluster: FakeCluster) -> None:
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
    conductor, resources = Waiting(assignments(5)), StudyResources(cpu=1)
    needs = MemoryNeeds(tempfile.mkdtemp(), resources, lambda: [(1.0, 0.0)])
    searcher = FoldSearcher(conductor, resources, lambda _: None, needs)  # type: ignore[arg-type]
    for number in range(4):
        turn(searcher, cluster, number)
    assert cluster.asked == {}


def test_requests_are_bounded_and_follow_the_size(cluster: FakeCluster) -> None:
    demand = Demand(cluster, lambda: cluster.now)
    demand.want(Need(1, 0), 10 * MOST)
    assert len(cluster.asked) == MOST
    demand.want(Need(2, 0.5), 3)
    assert list(cluster.asked.values()) == [Need(2, 0.5)] * 3
    demand.want(Need(2, 0.5), 0)
    assert cluster.asked == {}
