"""`FoldScheduler`: the Ray Tune scheduler that passes reports to the conductor and its decisions to Tune."""

from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.schedulers import FIFOScheduler
from ray.tune.schedulers.trial_scheduler import TrialScheduler

from data_prep.errors import InputError
from search.ray_tune.ray_errors import headline_of
from search.ray_tune.ray_internals import actor_id_of, drop_metric_history
from search.ray_tune.ray_session import WHAT_NODES_NEED
from search.ray_tune.searcher import FoldSearcher
from search.run_dir.curves import CurvePoint
from search.worker.messages import (
    Assignment,
    FailureReport,
    FullDiskReport,
    MessageReport,
    Report,
    ScoreReport,
    UnfitNodeReport,
    report_from_dict,
)


class FoldScheduler(FIFOScheduler):  # type: ignore[misc]
    """Passes reports to the conductor, and its decisions to Tune."""

    def __init__(self, searcher: FoldSearcher) -> None:
        super().__init__()
        self._searcher = searcher
        self._conductor = searcher.conductor
        self._shown_once: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_add(self, _controller: Any, trial: Any) -> None:
        """Remember the trial; one whose node was preempted is added again."""
        if live := self._searcher.live.get(trial.trial_id):
            live.trial = trial

    def on_trial_result(self, _controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Record what a fold run reports and return whether it continues.

        Raises:
            OSError: the disk that it writes to is full; this ends the search.
            InputError: its node lacks what fold runs need; this too, as every fold run there would fail.
        """
        assignment = self._searcher.live[trial.trial_id].assignment
        continues = self._take(assignment, report_from_dict(result))
        return str(TrialScheduler.CONTINUE if continues else TrialScheduler.STOP)

    def on_trial_complete(self, _controller: Any, trial: Any, _result: dict[str, Any]) -> None:
        """Free the memory that Tune would hold for the trial to the end of the search."""
        drop_metric_history(trial)

    def on_trial_error(self, _controller: Any, trial: Any) -> None:
        """Remember what the worker of a fold run died of."""
        if live := self._searcher.live.get(trial.trial_id):
            live.error = _error_of(trial)

    def _take(self, assignment: Assignment, report: Report) -> bool:
        match report:
            case MessageReport():
                self._show(assignment, report)
                return True
            case FullDiskReport():
                raise OSError(report.errno, report.what, report.path)
            case UnfitNodeReport():
                raise InputError(*report.faults, WHAT_NODES_NEED)
            case FailureReport():
                self._conductor.fail(assignment, report.reason)
                return False
            case ScoreReport():
                point = CurvePoint(assignment.candidate.id, assignment.fold, **vars(report))
                return self._conductor.observe(assignment, point).go and report.progress < 1.0

    def _show(self, assignment: Assignment, report: MessageReport) -> None:
        if report.once in self._shown_once:
            return
        self._shown_once.update([report.once] if report.once else [])
        self._conductor.note(assignment, report.text)


class LoopCallback(Callback):  # type: ignore[misc]
    """Reports what else happens in Tune's loop: which actor each fold run got, when a turn begins and ends."""

    def __init__(self, searcher: FoldSearcher) -> None:
        self._searcher = searcher

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_step_begin(self, **_: Any) -> None:
        """Free what an autoscaler has made, in every turn of Tune's loop, also while a fold run waits for its slot."""
        self._searcher.release_met_requests()

    def on_step_end(self, **_: Any) -> None:
        """Let the conductor publish the state of candidates: Tune has acted on whatever this turn decided."""
        self._searcher.conductor.publish()

    def on_trial_start(self, *, trial: Any, **_: Any) -> None:
        """Remember the actor's id, by which Ray's memory monitor names what it killed."""
        if live := self._searcher.live.get(trial.trial_id):
            live.actor = actor_id_of(trial)


def _error_of(trial: Any) -> str:
    """Return what the error file of a trial says happened."""
    try:
        text = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
    except (OSError, TypeError):
        return "unknown"
    return headline_of(text) or "unknown"
