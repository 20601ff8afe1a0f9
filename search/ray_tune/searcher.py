"""The thin Ray searcher and scheduler that let Tune ask the conductor.

A Tune trial is one fold run. Tune starts every trial it is given as soon as it can, so what starts is decided in
`suggest`, and only when there is room, so that every decision is taken with all that is known by then. Neither class
keeps state that must survive: the run directory does (see `search.driver.conductor`), Tune's own restore is not used.
"""

import math
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.tune import Callback
from ray.tune.schedulers import FIFOScheduler
from ray.tune.schedulers.trial_scheduler import TrialScheduler
from ray.tune.search import Searcher

from data_prep.errors import InputError
from search.driver.conductor import Assignment, Conductor
from search.ladder.decisions import FoldRun
from search.ray_tune.autoscaler_demand import Demand
from search.ray_tune.family_resources import MemoryNeeds, Need
from search.ray_tune.ray_session import WHAT_NODES_NEED, causes, headline_of
from search.run_dir.curves import CurvePoint
from search.study.study_file import StudyResources

Closed = Callable[[Assignment], None]

TRIES = 2
"""Times a fold run whose worker died is handed out again, in one run of the search.

Counted here and not by Tune, which tells the death of a worker that was just being reused twice and then gives up.
"""

TAKEN = ("SIGTERM", "node has died", "node was terminated", "node was drained", "preempted")
"""By these the death of a worker whose node was taken, as spot nodes are, is known."""
LOSSES = 100
"""Times that a fold run may lose its node, in one run of the search: none of them is its fault, nor costs it more than
a step, since a worker that is told to end keeps its state."""
ROOM_SECONDS = 1.0
"""How long the size of the cluster is taken for known: to ask takes longer than to decide."""
VICTIM = re.compile(r"Selected to kill: \(Actor\((\w+)\)")
"""How Ray's memory monitor names an actor that it killed; it names the ones that it let live, too, in other words."""


class FoldSearcher(Searcher):  # type: ignore[misc]
    """Hands Tune the next fold run when a slot is free for it."""

    def __init__(
        self,
        conductor: Conductor,
        resources: StudyResources,
        closed: Closed,
        needs: MemoryNeeds,
        demand: Demand | None = None,
    ) -> None:
        """Begin with nothing live.

        Args:
            conductor: knows what runs next.
            resources: what the study gives a fold run: as many threads as it says, whatever share it needs.
            closed: is told of every fold run that ended and is not handed out again.
            needs: what families need that ran out of memory; told of every fold run that did.
            demand: tells an autoscaler what waits for room; None where there is none.
        """
        super().__init__()
        self.conductor = conductor
        self.live: dict[str, Assignment] = {}
        self.errors: dict[str, str] = {}
        self.trials: dict[str, Any] = {}
        self._deaths: Counter[tuple[FoldRun, int]] = Counter()
        self._losses: Counter[FoldRun] = Counter()
        self._needs = needs
        self._demand = demand
        self._given: dict[str, Need] = {}
        self._actors: dict[str, str] = {}
        self._resources = resources
        self._room: tuple[float, dict[str, float]] = (-math.inf, {})
        self._closed = closed

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def set_search_properties(self, *_: Any, **__: Any) -> bool:
        """Accept whatever Tune says of metric and space: the study has said it."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next fold run, None while there is none, or FINISHED."""
        self._take_back()
        if self.live and not self._has_room():
            self._want(self.conductor.n_startable if self._demand else 0)
            return None
        self._want(0)
        assignment = self.conductor.next_assignment()
        if assignment is None:
            return None if self.live else str(Searcher.FINISHED)
        self.live[trial_id] = assignment
        family = assignment.candidate.backbone
        size = self._given[trial_id] = self._needs.of(family)
        return {
            "candidate": assignment.candidate.id,
            "fold": assignment.fold,
            "attempt": assignment.attempt,
            "deaths": self._deaths[assignment.run, assignment.attempt] + self._losses[assignment.run],
            "micro_batches": size.micro_batches,
            "can_grow": self._needs.can_grow(family),
            "label": assignment.label,
            "cpu": size.cpu,
            "gpu": size.gpu,
            "threads": max(1, math.floor(self._resources.of(family).cpu)),
            "device": "auto" if size.gpu else "cpu",
        }

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Free the slot of a trial that ended; a fold run whose worker died is handed out again, `TRIES` times."""
        del result
        assignment = self.live.pop(trial_id, None)
        self.trials.pop(trial_id, None)
        given = self._given.pop(trial_id, None)
        if assignment is None or given is None:
            return
        if not error:
            self._closed(assignment)
            return
        key, reason = (assignment.run, assignment.attempt), self.errors.pop(trial_id, "its worker died")
        if any(mark in reason for mark in TAKEN) and self._losses[assignment.run] < LOSSES:
            self._losses[assignment.run] += 1
            self.conductor.lose(assignment, f"its node was taken ({reason}); it goes on from its last checkpoint")
            return
        of_memory = "MemoryError" in reason or "memory monitor" in reason
        if of_memory and self._grew(assignment, given, reason):
            return
        self._deaths[key] += 1
        if self._deaths[key] > TRIES:
            self.conductor.fail(assignment, f"its worker died {self._deaths[key]} times: {reason}")
        else:
            self.conductor.lose(assignment, f"lost its worker ({reason}); it goes on from its last checkpoint")

    def look_for_places(self) -> None:
        """Give up the places that an autoscaler has made, so that fold runs get them."""
        if self._demand:
            self._demand.look()

    def _want(self, number: int) -> None:
        """Ask an autoscaler for room for so many fold runs, of the size that the study gives most of them."""
        if self._demand:
            self._demand.want(Need(self._resources.cpu, self._resources.gpu), number)

    def begun(self, trial_id: str, actor: str) -> None:
        """Note which actor a fold run got: by its id Ray names whom its memory monitor killed."""
        if trial_id in self.live:
            self._actors[actor] = trial_id

    def tune_died(self, error: BaseException) -> None:
        """Count the fold runs that Ray's memory monitor killed as dead of memory, when that ended Tune itself.

        Nobody is suspected: a fold run that the error does not name is tried again as it was.
        """
        named = {actor for cause in causes(error) for actor in VICTIM.findall(str(cause))}
        for trial_id in sorted(self._actors[actor] for actor in named & self._actors.keys()):
            if trial_id in self.live:
                self._needs.ran_out(self.live[trial_id].candidate.backbone, self._given[trial_id])

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: a new run is rebuilt from the run directory."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing, as nothing is saved."""

    def _grew(self, assignment: Assignment, given: Need, reason: str) -> bool:
        """Hand a fold run that ran out of memory out again with more; False where only smaller parts are left."""
        need = self._needs.ran_out(assignment.candidate.backbone, given)
        if (need.cpu, need.gpu) == (given.cpu, given.gpu):
            return False
        self._losses[assignment.run] += 1
        self.conductor.lose(assignment, f"ran out of memory ({reason}); its family is given {need.text} from now on")
        return True

    def _take_back(self) -> None:
        """Take back fold runs that Tune gave up without a word, as it does when it cannot reuse a worker."""
        for trial_id in [key for key in self.live if key in self.trials and self.trials[key].status == "ERROR"]:
            self.conductor.lose(self.live.pop(trial_id), "got no worker; it is handed out again")

    def _has_room(self) -> bool:
        total = self._cluster_resources()
        taken = [self._given[trial_id] for trial_id in self.live]
        free_cpu = total.get("CPU", 0.0) - sum(size.cpu for size in taken)
        free_gpu = total.get("GPU", 0.0) - sum(size.gpu for size in taken)
        return any(_fits(size, free_cpu, free_gpu) for size in self._needs.sizes())

    def _cluster_resources(self) -> dict[str, float]:
        asked, total = self._room
        if time.monotonic() - asked > ROOM_SECONDS:
            total = ray.cluster_resources()
            self._room = (time.monotonic(), total)
        return total


def alive_nodes() -> list[tuple[float, float]]:
    """Return the cores and the GPUs of each node of the cluster."""
    every = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [(resources.get("CPU", 0.0), resources.get("GPU", 0.0)) for resources in every]


def _fits(size: Need, free_cpu: float, free_gpu: float) -> bool:
    return size.cpu <= free_cpu + 1e-9 and size.gpu <= free_gpu + 1e-9


class FoldScheduler(FIFOScheduler):  # type: ignore[misc]
    """Passes reports to the conductor, and its decisions to Tune."""

    def __init__(self, searcher: FoldSearcher) -> None:
        super().__init__()
        self._searcher = searcher
        self._told: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Remember the trial; one whose node was preempted is added again."""
        del tune_controller
        self._searcher.trials[trial.trial_id] = trial

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Record what a fold run reports and say whether it goes on.

        Raises:
            OSError: the disk that it writes to is full; this ends the search.
            InputError: its node lacks what fold runs need; this too, as every fold run there would fail.
        """
        del tune_controller
        assignment = self._searcher.live[trial.trial_id]
        if "note" in result:
            self._searcher.conductor.note(assignment, result["note"])
            return str(TrialScheduler.CONTINUE)
        if "once" in result:
            if result["once"] not in self._told:
                self._told.add(result["once"])
                self._searcher.conductor.note(assignment, result["once"])
            return str(TrialScheduler.CONTINUE)
        if "full_disk" in result:
            raise OSError(*result["full_disk"])
        if "unfit_node" in result:
            raise InputError(*result["unfit_node"], WHAT_NODES_NEED)
        if result["failure"]:
            self._searcher.conductor.fail(assignment, result["failure"])
            return str(TrialScheduler.STOP)
        point = CurvePoint(
            assignment.candidate.id,
            assignment.fold,
            result["progress"],
            result["epoch"],
            result["metric"],
            result["seconds"],
        )
        decision = self._searcher.conductor.observe(assignment, point)
        goes_on = decision.go and point.progress < 1.0
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Let go of the statistics of every metric that Tune keeps of each trial to the end of the search."""
        del tune_controller, result
        trial.run_metadata.metric_analysis.clear()
        trial.run_metadata.metric_n_steps.clear()

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Note what the worker of a fold run died of."""
        del tune_controller
        self._searcher.errors[trial.trial_id] = _reason(trial)


class LoopWatch(Callback):  # type: ignore[misc]
    """Tells searcher and conductor what else happens in Tune's loop: which actor each fold run got, where turns end."""

    def __init__(self, searcher: FoldSearcher) -> None:
        self._searcher = searcher

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Look for places in every turn of Tune's loop, also while a fold run waits for its own."""
        del iteration, trials, info
        self._searcher.look_for_places()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Let the conductor tell where candidates stand: whatever this turn decided has been acted on."""
        del iteration, trials, info
        self._searcher.conductor.publish()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Pass on the actor; one that is used again starts again."""
        del iteration, trials, info
        self._searcher.begun(trial.trial_id, trial.temporary_state.ray_actor._actor_id.hex())


def _reason(trial: Any) -> str:
    """Return what the error file of a trial says happened."""
    try:
        text = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
    except (OSError, TypeError):
        return "unknown"
    return headline_of(text) or "unknown"
