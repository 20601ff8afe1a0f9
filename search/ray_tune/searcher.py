"""`FoldSearcher`: the Ray Tune searcher that starts the fold runs the conductor chooses, when a slot is free.

A Tune trial is one fold run. Tune starts every trial it gets as soon as it can, so `suggest` chooses only when there is
room, with all that is known by then. What must survive is in the run directory (see `search.driver.conductor`).
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.tune.search import Searcher

from search.driver.conductor import Conductor
from search.ray_tune.autoscaler_demand import AutoscalerDemand
from search.ray_tune.family_resources import FamilyResources
from search.ray_tune.lost_workers import NO_WORKER, LostWorkers, actors_killed_for_memory
from search.ray_tune.ray_watch import in_time
from search.study.study_file import StudyResources
from search.worker.messages import Assignment, FoldRunOrder, FoldRunResources, order_to_dict

CLUSTER_SIZE_SECONDS = 1.0
"""How long the size of the cluster is reused: asking for it takes longer than a decision."""


@dataclass
class LiveTrial:
    """A fold run that Tune has and that has not ended."""

    assignment: Assignment
    resources: FoldRunResources
    trial: Any = None
    """Tune's own, once it exists."""
    actor: str | None = None
    """The id of its actor, once it has one."""
    error: str = "its worker died"


class FoldSearcher(Searcher):  # type: ignore[misc]
    """Hands Tune the next fold run when a slot is free for it."""

    def __init__(
        self,
        conductor: Conductor,
        resources: StudyResources,
        on_end: Callable[[Assignment], None],
        families: FamilyResources,
        demand: AutoscalerDemand | None = None,
        *,
        cluster_size: Callable[[], dict[str, float]] = ray.cluster_resources,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with nothing live; `on_end` gets each that ended for good, `demand` is None without an autoscaler.

        A fold run has as many threads as `resources` of the study say, whatever share of a machine its family gets.
        """
        super().__init__()
        self.conductor = conductor
        self.live: dict[str, LiveTrial] = {}
        self._lost_workers = LostWorkers(families.ran_out)
        self._families = families
        self._demand = demand
        self._resources = resources
        self._on_end = on_end
        self._cluster_size = cluster_size
        self._clock = clock
        self._known_size: tuple[float, dict[str, float]] = (-math.inf, {})

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def set_search_properties(self, *_: Any, **__: Any) -> bool:
        """Accept whatever Tune says about metric and space: the study defines both."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next fold run, None while there is none, or FINISHED."""
        self._take_back_dropped()
        if self.live and not self._has_room():
            self._request_room(self.conductor.n_startable if self._demand else 0)
            return None
        self._request_room(0)
        assignment = self.conductor.next_assignment()
        if assignment is None:
            return None if self.live else str(Searcher.FINISHED)
        family = assignment.candidate.family
        resources = self._families.of(family)
        self.live[trial_id] = LiveTrial(assignment, resources)
        order = FoldRunOrder(
            assignment,
            resources,
            threads=max(1, math.floor(self._resources.of(family).cpu)),
            can_grow=self._families.can_grow(family),
            restarts=self._lost_workers.restarts(assignment),
        )
        return order_to_dict(order)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Free the slot of a trial that ended; a fold run that lost its worker starts again or fails."""
        del result
        ended = self.live.pop(trial_id, None)
        if ended is None:
            return
        if not error:
            self._on_end(ended.assignment)
            return
        verdict = self._lost_workers.decide(ended.assignment, ended.resources, ended.error)
        tell = self.conductor.lose if verdict.start_again else self.conductor.fail
        tell(ended.assignment, verdict.reason)

    def release_met_requests(self) -> None:
        """Free the room that an autoscaler has made, so that fold runs get it."""
        if self._demand:
            self._demand.release_met()

    def tune_died(self, error: BaseException) -> None:
        """Count the fold runs that Ray's memory monitor killed as out of memory, when that ended Tune itself.

        A fold run that the error does not name starts again with the same resources.
        """
        killed = actors_killed_for_memory(error)
        for _, live in sorted(self.live.items()):
            if live.actor in killed:
                self._families.ran_out(live.assignment.candidate.family, live.resources)

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: a new run is rebuilt from the run directory."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing, as nothing is saved."""

    def _request_room(self, number: int) -> None:
        """Ask an autoscaler for room for `number` fold runs, of the size that the study gives most of them."""
        if self._demand:
            self._demand.request(FoldRunResources(self._resources.cpu, self._resources.gpu), number)

    def _take_back_dropped(self) -> None:
        """Take back fold runs that Tune gave up silently, as it does when it cannot reuse a worker."""
        dropped = [name for name, each in self.live.items() if each.trial is not None and each.trial.status == "ERROR"]
        for trial_id in dropped:
            self.conductor.lose(self.live.pop(trial_id).assignment, NO_WORKER)

    def _has_room(self) -> bool:
        total = self._total_resources()
        free_cpu = total.get("CPU", 0.0) - sum(each.resources.cpu for each in self.live.values())
        free_gpu = total.get("GPU", 0.0) - sum(each.resources.gpu for each in self.live.values())
        return any(size.cpu <= free_cpu + 1e-9 and size.gpu <= free_gpu + 1e-9 for size in self._families.sizes())

    def _total_resources(self) -> dict[str, float]:
        asked, total = self._known_size
        if self._clock() - asked > CLUSTER_SIZE_SECONDS:
            total = in_time(self._cluster_size)
            self._known_size = (self._clock(), total)
        return total


def alive_nodes() -> list[tuple[float, float]]:
    """Return the cores and the GPUs of each node of the cluster."""
    resources = [node["Resources"] for node in in_time(ray.nodes) if node["Alive"]]
    return [(each.get("CPU", 0.0), each.get("GPU", 0.0)) for each in resources]
