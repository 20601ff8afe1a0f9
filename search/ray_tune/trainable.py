"""The function that Ray Tune runs on a worker for each trial: it unpacks the order and does the fold run."""

from collections.abc import Callable
from typing import Any

from data_prep.console import print_line
from search.ray_tune.ray_internals import set_actor_mixins
from search.worker.fold_run import enter_home, load_libraries, run_fold
from search.worker.messages import FoldRunSettings, Report, UnfitNodeReport, order_from_dict, report_to_dict
from search.worker.node_check import missing_here, node_name

Trainable = Callable[[dict[str, Any]], None]


def make_trainable(settings: FoldRunSettings) -> Trainable:
    """Return the function that Tune runs for each trial."""

    def fold_run(config: dict[str, Any]) -> None:
        from ray import tune  # noqa: PLC0415 - only workers need it

        from search.watch.prometheus import WorkerTelemetry  # noqa: PLC0415 - as above

        def send(report: Report) -> None:
            tune.report(report_to_dict(report))

        order = order_from_dict(config)
        enter_home(settings)
        print_line(order.assignment.label)  # into the actor's log: the dashboard shows what it runs
        if settings.requirements is not None and (faults := missing_here(settings.requirements)):
            send(UnfitNodeReport(tuple(f"{node_name()}: {fault}" for fault in faults)))
        load_libraries()
        with WorkerTelemetry(settings.study) as telemetry:
            run_fold(settings, order, send, telemetry.show)

    set_actor_mixins(fold_run, SavesStateOnSigterm)
    return fold_run


class SavesStateOnSigterm:
    """Prepares a worker, in its main thread, to save the state of its fold run when its node is preempted."""

    def setup(self, config: dict[str, Any]) -> None:
        """Let SIGTERM wait until the state is saved; then Ray's own handler ends the process."""
        from models.training.sigterm import delay_sigterm  # noqa: PLC0415 - workers only

        delay_sigterm()
        super().setup(config)  # type: ignore[misc]
