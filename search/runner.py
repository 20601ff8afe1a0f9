"""Runs a study on Ray: builds the `Tuner`, goes on where a run was cut off, restarts Tune when Tune itself dies."""

import logging
import os
import shutil
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.console import console
from data_prep.errors import InputError
from data_prep.oof import OofStore
from data_prep.prepared import Prepared, load_prepared
from data_prep.tables import join, list_names
from search.conductor import Assignment, Conductor
from search.progress import Progress, duration
from search.study import ResolvedStudy, choose_candidates, keep_study, read_study, resolve_study
from search.trainable import Workplace, checkpoint_folder, make_trainable

TRIES = 2
"""Times Tune starts a fold run again whose worker died."""
STALLS = 3
"""Times in a row that Tune may die without anything new on record before the search gives up."""
OBJECT_STORE_BYTES = 200 * 2**20
"""Nothing large goes through Ray's object store."""


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

    @property
    def summary(self) -> str:
        """What the search did, in two sentences."""
        saved = f" ({self.finished / self.full_grid:.0%})" if self.full_grid else ""
        return (
            f"{self.finished} of the full grid's {self.full_grid} fold runs are finished{saved}; "
            f"candidates: {self.complete} complete, {self.stopped} stopped early, {self.failed} failed. "
            f"This run started {self.started} fold runs and took {duration(self.seconds)}."
        )


def run_study(
    path: str | Path,
    *,
    runs: str = "runs",
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
        address: of a running Ray cluster; None: Ray starts on this machine for the time of the run.
        backbones: folder with local copies of hub models.
        dashboard: whether a local Ray also starts its dashboard.
        only: names under `candidates:` to run now; nothing of others starts. None: all, and what the space gives.

    Raises:
        InputError: the study, its data or what is in the run directory do not fit.
    """
    begun = time.monotonic()
    study = read_study(path)
    data = load_prepared(study.data)
    resolved = resolve_study(study, data)
    chosen = None if only is None else choose_candidates(study, only)
    run_dir = join(runs if "://" in runs else str(Path(runs).absolute()), study.name)
    keep_study(resolved, run_dir)
    _prepare_environment()
    interrupted = False
    with Progress(console, metric=data.task.measure, n_folds=data.manifest.n_folds) as progress:
        try:
            conductor = _supervise(
                resolved,
                data,
                run_dir,
                progress,
                hours_spent=lambda: (time.monotonic() - begun) / 3600,
                address=address,
                backbones=str(Path(backbones).absolute()) if backbones else None,
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
        started=progress.counts["started"],
        finished=sum(1 for _ in OofStore(run_dir).fold_runs()),
        full_grid=len(states) * data.manifest.n_folds,
        complete=states.count("finished"),
        stopped=states.count("stopped") + states.count("waiting"),
        failed=states.count("failed"),
        seconds=time.monotonic() - begun,
    )


def _supervise(
    study: ResolvedStudy,
    data: Prepared,
    run_dir: str,
    progress: Progress,
    *,
    hours_spent: Callable[[], float],
    address: str | None,
    backbones: str | None,
    dashboard: bool,
    only: Collection[str] | None,
) -> Conductor:
    """Run Tune until the study is done; when Tune dies (its memory monitor does that), start it again."""
    stalls, known = 0, -1
    while True:
        conductor = Conductor(study, data, run_dir, progress, hours_spent=hours_spent, only=only)
        progress.expect(lambda conductor=conductor: conductor.candidates_to_come)  # type: ignore[misc]
        stalls = 0 if len(conductor.curves.points) > known else stalls + 1
        known = len(conductor.curves.points)
        try:
            with _ray(study, progress, address=address, dashboard=dashboard):
                _tune(conductor, study, run_dir, backbones=backbones)
        except Exception as error:
            if isinstance(error, InputError) or stalls >= STALLS:
                raise
            progress.note(f"Ray Tune died ({_last_line(error)}); going on from the record")
        else:
            conductor.write_status()
            return conductor


def _tune(conductor: Conductor, study: ResolvedStudy, run_dir: str, *, backbones: str | None) -> None:
    from ray import tune  # noqa: PLC0415 - after the environment is set

    from search.adapter import FoldScheduler, FoldSearcher  # noqa: PLC0415 - imports Ray

    def closed(assignment: Assignment) -> None:
        folder = checkpoint_folder(run_dir, assignment.candidate.id, assignment.fold, assignment.attempt)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def resources(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        return tune.PlacementGroupFactory([{"CPU": config["cpu"], "GPU": config["gpu"]}])

    def name(trial: Any) -> str:
        return f"{trial.config['label']}{'-retry' if trial.config['attempt'] else ''}"

    workplace = Workplace(
        run_dir=run_dir,
        data=study.data,
        split_hash=study.split_hash,
        rungs=study.ladder.rungs,
        rung_rows=study.rung_rows,
        dead_below=study.ladder.dead_below,
        checkpoint_seconds=study.checkpoint_seconds,
        backbones=backbones,
        score_epochs=study.score_epochs,
    )
    searcher = FoldSearcher(conductor, study.resources, closed)
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
            failure_config=tune.FailureConfig(max_failures=TRIES),
            verbose=0,
        ),
    )
    tuner.fit()


def _next_session(run_dir: str) -> str:
    taken = [name for name in list_names(join(run_dir, "ray")) if name.startswith("session-")]
    return f"session-{len(taken) + 1:03d}"


@contextmanager
def _ray(study: ResolvedStudy, progress: Progress, *, address: str | None, dashboard: bool) -> Iterator[None]:
    """Connect to a cluster, or start Ray on this machine for as long as the block lasts."""
    import ray  # noqa: PLC0415 - after the environment is set

    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    try:
        if address:
            context = ray.init(address=address, **quiet)
        else:
            _check_machine(study)
            context = ray.init(
                num_cpus=_cores(),
                include_dashboard=dashboard,
                object_store_memory=OBJECT_STORE_BYTES,
                **quiet,
            )
        if context.dashboard_url:
            progress.note(f"dashboard: http://{context.dashboard_url}")
        yield
    finally:
        ray.shutdown()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_machine(study: ResolvedStudy) -> None:
    wanted = max(size.cpu for size in study.resources.each())
    if wanted > _cores():
        raise InputError(
            f"resources.cpu={wanted:g} is more than the {_cores()} cores of this machine; "
            f"lower it, or connect to a cluster with `--address`"
        )


def _prepare_environment() -> None:
    """Set what Ray reads when it is imported; a user's own setting holds."""
    settings = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "TUNE_FUNCTION_THREAD_TIMEOUT_S": "600",  # a fold run may take its time to let go of its worker
        "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
        "TUNE_WARN_THRESHOLD_S": "60",
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    for key, value in settings.items():
        os.environ.setdefault(key, value)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    logging.getLogger("ray").setLevel(logging.CRITICAL)


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
