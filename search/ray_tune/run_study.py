"""Runs a study on Ray: builds the `Tuner`, goes on where a run was cut off, restarts Tune when Tune itself dies."""

import gc
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from data_prep.console import console, duration
from data_prep.errors import FULL_DISK, InputError, storage_fault
from data_prep.prepared import Prepared, load_prepared
from data_prep.store.files import absolute, join, list_names, remove_folder
from data_prep.store.oof_store import OofStore
from search.driver.conductor import Assignment, Conductor
from search.ray_tune.autoscaler_demand import Demand, PlacementGroups
from search.ray_tune.family_resources import MemoryNeeds
from search.ray_tune.ray_session import causes, headline, prepare_environment, ray_session
from search.run_dir.disk_budget import describe_use
from search.run_dir.driver_lock import claim
from search.run_dir.pulse_file import Heartbeat
from search.run_dir.weight_keeper import WeightKeeper, sweep_checkpoints
from search.study.study_file import ResolvedStudy, alike, choose_candidates, keep_study, read_study, resolve_study
from search.watch.console_lines import Progress
from search.watch.leaderboard import minutes_by_candidate
from search.watch.prometheus import DriverTelemetry
from search.watch.run_statistics import Tally
from search.worker.fold_run import Workplace, checkpoint_folder, make_trainable
from search.worker.node_check import requirements_of

STALLS = 3
"""Times in a row that Tune may die without anything new on record before the search gives up."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    run_dir: str
    interrupted: bool
    started: int
    """Fold runs started by this run."""
    finished: int
    """Fold runs whose tables are in the run directory."""
    full_grid: int
    """Fold runs that all candidates on all folds would have been."""
    complete: int
    """Candidates with all folds."""
    stopped: int
    """Candidates that the ladder stopped, or left waiting at the end."""
    failed: int
    """Candidates that failed."""
    seconds: float
    disk: str
    """What checkpoints and weights take, beside what they may."""

    @property
    def summary(self) -> str:
        """What the search did, in three sentences."""
        saved = f" ({self.finished / self.full_grid:.0%})" if self.full_grid else ""
        return (
            f"{self.finished} of the full grid's {self.full_grid} fold runs are finished{saved}; "
            f"candidates: {self.complete} complete, {self.stopped} stopped early, {self.failed} failed. "
            f"This run started {self.started} fold runs and took {duration(self.seconds)}. {self.disk}."
        )


def run_study(
    path: str | Path,
    *,
    runs: str = "runs",
    data: str | None = None,
    address: str | None = None,
    backbones: str | None = None,
    dashboard: bool = True,
    only: Collection[str] | None = None,
) -> Outcome:
    """Run a study, or go on with it, until nothing is left to do.

    Tune's own restore is not used. It brings neither a scheduler's state back nor anything that the run directory does
    not hold already: every `run` starts a fresh Tune experiment (a numbered folder in `ray/`) whose searcher hands
    out only what the record says is open, and each fold run goes on from its own checkpoint.

    Args:
        path: the study file.
        runs: folder or URI under which the run directory `<study name>` lies.
        data: prepared folder or URI; None: the study's.
        address: of a running Ray cluster; None: what RAY_ADDRESS names, else Ray starts here for the time of the run.
        backbones: folder with local copies of hub models.
        dashboard: whether a local Ray also starts its dashboard.
        only: names under `candidates:` to run now; nothing of others starts. None: all, and what the space gives.

    Raises:
        InputError: the study, its data, what is in the run directory, or the cluster do not fit; another driver works
            in the run directory; Ray died again and again.
    """
    begun = time.monotonic()
    study = read_study(path, data=data)
    chosen = None if only is None else choose_candidates(study, only)
    prepared = load_prepared(study.data)
    metric, n_folds = prepared.task.measure, prepared.manifest.n_folds
    study = study.model_copy(update={"ladder": study.ladder.for_metric(metric)})
    resolved = resolve_study(study, prepared)
    run_dir = join(absolute(runs), study.name)
    prepare_environment()
    interrupted = False
    tally = Tally.of(resolved, prepared)
    progress = Progress(console, tally)
    with claim(run_dir), progress:
        for change in keep_study(resolved, run_dir):
            progress.note(f"{path}: {change}")
        for names in alike(resolved):
            progress.note(f"{', '.join(names)}: one model under `override`, trained once")
        try:
            with Heartbeat(run_dir, tally.pulse, note=progress.note) as heartbeat:
                conductor = _supervise(
                    resolved,
                    prepared,
                    run_dir,
                    progress,
                    heartbeat,
                    hours_spent=lambda: (time.monotonic() - begun) / 3600,
                    address=address,
                    backbones=absolute(backbones) if backbones else None,
                    dashboard=dashboard,
                    only=chosen,
                )
        except KeyboardInterrupt:
            interrupted = True
            conductor = None
    states = [status.state for status in conductor.status().values()] if conductor else []
    return Outcome(
        run_dir=run_dir,
        interrupted=interrupted,
        started=tally.counts["started"],
        finished=sum(1 for _ in OofStore(run_dir).fold_runs()),
        full_grid=len(states) * n_folds,
        complete=states.count("finished"),
        stopped=states.count("stopped") + states.count("waiting"),
        failed=states.count("failed"),
        seconds=time.monotonic() - begun,
        disk=describe_use(run_dir, resolved.budget.disk_gb),
    )


def recall_spent(tally: Tally, conductor: Conductor) -> None:
    """Count what earlier runs of the search spent, by its record."""
    for name, minutes in minutes_by_candidate(conductor.curves.points).items():
        size = conductor.study.resources.of(conductor.candidates[name].backbone)
        tally.spent_before(minutes * 60, size)


def _supervise(
    study: ResolvedStudy,
    data: Prepared,
    run_dir: str,
    progress: Progress,
    heartbeat: Heartbeat,
    *,
    hours_spent: Callable[[], float],
    address: str | None,
    backbones: str | None,
    dashboard: bool,
    only: Collection[str] | None,
) -> Conductor:
    """Run Tune until the study is done; when Tune dies (Ray's memory monitor does that), start it again.

    Raises:
        InputError: Ray itself ended Tune `STALLS` times in a row with nothing new on record.
        OSError: a disk is full; says where.
    """
    stalls, known, death = 0, 0, None
    while True:
        conductor = Conductor(study, data, run_dir, progress, hours_spent=hours_spent, only=only)
        progress.tally.to_come = lambda conductor=conductor: conductor.candidates_to_come  # type: ignore[misc]
        on_record = len(conductor.curves.points)
        if death is None:
            recall_spent(progress.tally, conductor)
        else:
            stalls = 0 if on_record > known else stalls + 1
            if stalls == STALLS:
                _give_up(death, run_dir)
            progress.restart(f"Ray Tune died ({headline(death)}); going on from the record")
        known = on_record
        try:
            with (
                _closed(conductor, progress),
                ray_session(
                    study, run_dir, address=address, backbones=backbones, dashboard=dashboard, note=progress.note
                ),
            ):
                demand = Demand(PlacementGroups()) if address or os.environ.get("RAY_ADDRESS") else None
                _tune(
                    conductor,
                    study,
                    run_dir,
                    tally=progress.tally,
                    heartbeat=heartbeat,
                    backbones=backbones,
                    demand=demand,
                )
        except Exception as error:
            if unfit := next((cause for cause in causes(error) if isinstance(cause, InputError)), None):
                raise unfit from None
            if fault := storage_fault(error, FULL_DISK):
                raise OSError(fault.errno, fault.strerror, fault.filename or run_dir) from error
            death = error
        else:
            return conductor


@contextmanager
def _closed(conductor: Conductor, progress: Progress) -> Iterator[None]:
    """Close the record at the end; where that fails after something else did, what was first is raised."""
    try:
        yield
    except BaseException:
        try:
            conductor.close()
        except OSError as error:
            progress.note(f"the record stays in its journals, which hold all of it: {error}")
        raise
    conductor.close()


def _give_up(error: Exception, run_dir: str) -> NoReturn:
    """Raise what ended Tune: as the user's to mend where Ray ended it, as it is where the fault may be ours."""
    from ray.exceptions import RayError  # noqa: PLC0415 - after the environment is set

    what = f"Ray Tune died {STALLS} times in a row with nothing new on record; what is finished is kept in {run_dir}"
    if not any(isinstance(cause, RayError) for cause in causes(error)):
        error.add_note(what)
        raise error
    raise InputError(
        f"{what}: {headline(error)}.",
        "Give fold runs more room (more `resources:` each, so that fewer run at once, a smaller batch_size, a larger "
        "machine), then give the same command again: it goes on from the record.",
    ) from error


def _tune(
    conductor: Conductor,
    study: ResolvedStudy,
    run_dir: str,
    *,
    tally: Tally,
    heartbeat: Heartbeat,
    backbones: str | None,
    demand: Demand | None,
) -> None:
    from ray import tune  # noqa: PLC0415 - after the environment is set

    from search.ray_tune.searcher import FoldScheduler, FoldSearcher, LoopWatch, alive_nodes  # noqa: PLC0415 - imports Ray

    def closed(assignment: Assignment) -> None:
        folder = checkpoint_folder(run_dir, assignment.candidate.id, assignment.fold, assignment.attempt)
        remove_folder(folder)
        keeper.offer(conductor.status)
        tally.blends.look(conductor.ladder)

    def resources(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        return tune.PlacementGroupFactory([{"CPU": config["cpu"], "GPU": config["gpu"]}])

    def name(trial: Any) -> str:
        retry, deaths = "-retry" if trial.config["attempt"] else "", trial.config["deaths"]
        return f"{trial.config['label']}{retry}{f'-again{deaths}' if deaths else ''}"

    workplace = new_workplace(study, run_dir, backbones=backbones)
    sweep_checkpoints(run_dir, conductor.status())
    keeper = WeightKeeper(run_dir, study.keep_weights)
    needs = MemoryNeeds(run_dir, study.resources, alive_nodes)
    searcher = FoldSearcher(conductor, study.resources, closed, needs, demand)
    tally.blends.look(conductor.ladder)
    tuner = tune.Tuner(
        tune.with_resources(make_trainable(workplace), resources),
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
            callbacks=[LoopWatch(searcher)],
            verbose=0,
        ),
    )
    telemetry = DriverTelemetry(study.name, tally.totals())
    gc.collect()
    gc.freeze()  # what is loaded by now stays to the end; to look through it again takes longer than many decisions
    try:
        with heartbeat.heard_by(telemetry.show):
            tuner.fit()
    except Exception as error:
        searcher.tune_died(error)
        raise
    finally:
        gc.unfreeze()
    keeper.settle(conductor.status)


def new_workplace(study: ResolvedStudy, run_dir: str, *, backbones: str | None) -> Workplace:
    """Return what the fold runs of a study share."""
    return Workplace(
        run_dir=run_dir,
        data=study.data,
        split_hash=study.split_hash,
        rungs=study.ladder.rungs,
        rung_rows=study.rung_rows,
        dead_below=study.ladder.dead_below,
        checkpoint_seconds=study.checkpoint_seconds,
        backbones=backbones,
        home=str(Path.cwd()),
        score_epochs=study.score_epochs,
        keep_weights=study.keep_weights != "none",
        disk_gb=study.budget.disk_gb,
        requirements=requirements_of(run_dir, data=study.data, backbones=backbones),
    )


def _next_session(run_dir: str) -> str:
    taken = [name for name in list_names(join(run_dir, "ray")) if name.startswith("session-")]
    return f"session-{len(taken) + 1:03d}"
