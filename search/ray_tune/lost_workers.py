"""What happens to a fold run that lost its worker or its node: another try, a larger share of a machine, or failure."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from search.ladder.decisions import FoldRun
from search.ray_tune.ray_errors import causes
from search.worker.messages import Assignment, FoldRunResources

MAX_WORKER_DEATHS = 2
"""Times that a fold run whose worker died starts again, in one run of the search.

Counted here, because Tune counts the death of a worker that it is just reusing as two and then gives up.
"""
MAX_PREEMPTIONS = 100
"""Times that a fold run may lose its node, in one run of the search. None of them is its fault, nor costs more than a
training step, since a worker that gets SIGTERM saves its state."""
PREEMPTION_MARKERS = ("SIGTERM", "node has died", "node was terminated", "preempted")
"""Any of these in an error means that the node was taken away, as spot nodes are."""
OUT_OF_MEMORY_MARKERS = ("MemoryError", "memory monitor")
"""Any of these in an error means that memory ran out: in our code, or on a machine that Ray watches."""
KILLED_ACTOR = re.compile(r"Selected to kill: \(Actor\((\w+)\)")
"""How Ray's memory monitor names an actor that it killed. It names the actors that it spared in different words."""
NO_WORKER = "got no worker; it starts again"
"""The reason when Tune silently drops a trial because it could not reuse a worker."""


@dataclass(frozen=True)
class Verdict:
    """What happens to a fold run after a loss, with the reason for people."""

    start_again: bool
    """False: the fold run fails."""
    reason: str


class LostWorkers:
    """Counts what each fold run lost in this run of the search, and decides whether it starts again."""

    def __init__(self, next_resources: Callable[[str, FoldRunResources], FoldRunResources]) -> None:
        self._next_resources = next_resources
        self._deaths: Counter[tuple[FoldRun, int]] = Counter()
        self._restarts: Counter[FoldRun] = Counter()
        """Restarts that are not the fold run's fault."""

    def restarts(self, assignment: Assignment) -> int:
        """Return how often a fold run has started again."""
        return self._deaths[assignment.run, assignment.attempt] + self._restarts[assignment.run]

    def decide(self, assignment: Assignment, resources: FoldRunResources, error: str) -> Verdict:
        """Decide about a fold run that lost its worker or its node; `resources` are what it had, `error` is Ray's."""
        run = assignment.run
        if _has(PREEMPTION_MARKERS, error) and self._restarts[run] < MAX_PREEMPTIONS:
            self._restarts[run] += 1
            return Verdict(True, f"its node was preempted ({error}); it continues from its last checkpoint")
        if _has(OUT_OF_MEMORY_MARKERS, error):
            larger = self._next_resources(assignment.candidate.family, resources)
            if (larger.cpu, larger.gpu) != (resources.cpu, resources.gpu):
                self._restarts[run] += 1
                return Verdict(True, f"ran out of memory ({error}); its family gets {larger.text} from now on")
        self._deaths[run, assignment.attempt] += 1
        deaths = self._deaths[run, assignment.attempt]
        if deaths > MAX_WORKER_DEATHS:
            return Verdict(False, f"its worker died {deaths} times: {error}")
        return Verdict(True, f"lost its worker ({error}); it continues from its last checkpoint")


def actors_killed_for_memory(error: BaseException) -> set[str]:
    """Return the ids of the actors that Ray's memory monitor says it killed when that ended Tune itself."""
    return {actor for cause in causes(error) for actor in KILLED_ACTOR.findall(str(cause))}


def _has(markers: tuple[str, ...], error: str) -> bool:
    return any(marker in error for marker in markers)
