"""Runs Ray Tune once over a study: builds the `Tuner` from the searcher, the scheduler and the trainable."""

import gc
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from data_prep.prepared import Prepared
from data_prep.store.files import join, list_names, remove_folder
from search.driver.conductor import Conductor
from search.driver.worker_settings import fold_run_settings
from search.ray_tune.autoscaler_demand import AutoscalerDemand
from search.ray_tune.family_resources import FamilyResources
from search.ray_tune.ray_internals import keep_notebook_output
from search.ray_tune.trainable import Trainable, make_trainable
from search.run_dir.weight_keeper import WeightKeeper, sweep_checkpoints
from search.study.study_file import ResolvedStudy
from search.watch.console_lines import ConsoleLines
from search.watch.heartbeat import Heartbeat
from search.watch.prometheus import DriverTelemetry
from search.worker.messages import Assignment, FoldRunSettings, order_from_dict


@dataclass(frozen=True)
class Search:
    """One run of a study: everything that is fixed from the command line to Tune's loop."""

    study: ResolvedStudy
    data: Prepared
    run_dir: str
    address: str | None
    """Of a Ray cluster; None: this machine."""
    backbones: str | None
    dashboard: bool
    only: Collection[str] | None
    """Ids of the candidates to run; None: all."""
    hours_spent: Callable[[], float]
    progress: ConsoleLines
    heartbeat: Heartbeat


RunTune = Callable[[Search, Conductor, AutoscalerDemand | None], None]


def run_tune(
    search: Search,
    conductor: Conductor,
    demand: AutoscalerDemand | None,
    *,
    make_trainable: Callable[[FoldRunSettings], Trainable] = make_trainable,
) -> None:
    """Run Tune until the conductor has nothing left to start; `demand` is None where there is no autoscaler."""
    from ray import tune  # noqa: PLC0415 - after the environment is set

    from search.ray_tune.scheduler import FoldScheduler, LoopCallback  # noqa: PLC0415 - imports Ray
    from search.ray_tune.searcher import FoldSearcher, alive_nodes  # noqa: PLC0415 - imports Ray

    keep_notebook_output()
    study, run_dir, tally = search.study, search.run_dir, search.progress.statistics

    def on_end(assignment: Assignment) -> None:
        remove_folder(assignment.checkpoint_folder(run_dir))
        keeper.offer(conductor.status)
        tally.blends.look(conductor.ladder)

    def resources(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        size = order_from_dict(config).resources
        return tune.PlacementGroupFactory([{"CPU": size.cpu, "GPU": size.gpu}])

    def name(trial: Any) -> str:
        return order_from_dict(trial.config).trial_name

    settings = fold_run_settings(study, run_dir, backbones=search.backbones)
    sweep_checkpoints(run_dir, conductor.status())
    keeper = WeightKeeper(run_dir, study.keep_weights)
    families = FamilyResources(run_dir, study.resources, alive_nodes)
    searcher = FoldSearcher(conductor, study.resources, on_end, families, demand)
    tally.blends.look(conductor.ladder)
    tuner = tune.Tuner(
        tune.with_resources(make_trainable(settings), resources),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=FoldScheduler(searcher),
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=name,
            trial_dirname_creator=name,
        ),
        run_config=tune.RunConfig(
            name=_next_session(run_dir),
            storage_path=join(run_dir, "ray"),
            failure_config=tune.FailureConfig(max_failures=0),
            callbacks=[LoopCallback(searcher)],
            verbose=0,
        ),
    )
    telemetry = DriverTelemetry(study.name, tally.totals())
    gc.collect()
    gc.freeze()  # what is loaded by now stays to the end; to look through it again takes longer than many decisions
    try:
        with search.heartbeat.heard_by(telemetry.show):
            tuner.fit()
    except Exception as error:
        searcher.tune_died(error)
        raise
    finally:
        gc.unfreeze()
    keeper.settle(conductor.status)


def _next_session(run_dir: str) -> str:
    taken = [name for name in list_names(join(run_dir, "ray")) if name.startswith("session-")]
    return f"session-{len(taken) + 1:03d}"
