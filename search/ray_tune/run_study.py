"""Runs a study on Ray, or continues it where an earlier run stopped."""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.console import console, duration
from data_prep.prepared import load_prepared
from data_prep.store.files import absolute, join
from data_prep.store.oof_store import OofStore
from data_prep.store.run_readme import write_run_readme
from data_prep.wording import count
from search.driver.conductor import Conductor
from search.ray_tune.ray_session import prepare_environment, ray_session
from search.ray_tune.run_tune import RunTune, Search, run_tune
from search.ray_tune.supervisor import OpenSession, run_until_done
from search.run_dir.disk_budget import describe_use
from search.run_dir.driver_lock import hold_driver_lock
from search.run_dir.run_dir import names_by_candidate
from search.study.kept_study import keep_study
from search.study.read_study import choose_candidates, names_of_same_model, read_study, resolve_study
from search.watch.console_lines import ConsoleLines
from search.watch.heartbeat import Heartbeat
from search.watch.run_statistics import RunStatistics


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
    """Fold runs of all candidates on all folds, had none been stopped."""
    complete: int
    """Candidates with all folds."""
    stopped: int
    """Candidates that the ladder stopped, or left waiting at the end."""
    failed: int
    seconds: float
    disk: str
    """What checkpoints and weights take, beside what they may."""

    @property
    def summary(self) -> str:
        """What the search did, in three sentences."""
        saved = f" ({self.finished / self.full_grid:.0%})" if self.full_grid else ""
        return (
            f"{self.finished} of the full grid's {count(self.full_grid, 'fold run')} are finished{saved}; "
            f"candidates: {self.complete} complete, {self.stopped} stopped early, {self.failed} failed. "
            f"This run started {count(self.started, 'fold run')} and took {duration(self.seconds)}. {self.disk}."
        )


def run_study(
    source: str | Path | Mapping[str, Any],
    *,
    runs: str = "runs",
    data: str | None = None,
    address: str | None = None,
    backbones: str | None = None,
    dashboard: bool = True,
    only: Collection[str] | None = None,
    open_session: OpenSession = ray_session,
    tune: RunTune = run_tune,
) -> Outcome:
    """Run a study (its file, or what one holds), or continue it, until nothing is left to do.

    Tune's own restore is not used, as it lacks a scheduler's state: every `run` starts a new Tune experiment (a
    numbered folder in `ray/`) whose searcher starts only what the record leaves open.

    The run directory is `<study name>` in `runs`, a folder or URI like `data` (None: the study's). `address` is as for
    `ray_session`. `backbones` holds local copies of hub models. `only` names all that may start of `candidates:`; None:
    all and what the space gives. `tune` runs Tune once, until nothing is left to do or until it dies.

    Raises:
        InputError: study, data, run directory or cluster do not fit; another driver works there; Ray died repeatedly.
    """
    begun = time.monotonic()
    study = read_study(source, data=data)
    chosen = None if only is None else choose_candidates(study, only)
    prepared = load_prepared(study.data)
    study = study.model_copy(update={"ladder": study.ladder.for_metric(prepared.task.search_measure)})
    resolved = resolve_study(study, prepared)
    run_dir = join(absolute(runs), study.name)
    prepare_environment()
    tally = RunStatistics.of(resolved, prepared)
    conductor: Conductor | None = None
    names = names_by_candidate(resolved.names)
    with hold_driver_lock(run_dir), ConsoleLines(console, tally, names) as progress:
        for change in keep_study(resolved, run_dir):
            progress.note(f"{study.name if isinstance(source, Mapping) else source}: {change}")
        write_run_readme(run_dir)
        for same in names_of_same_model(resolved):
            progress.note(f"{', '.join(same)}: one model under `override`, trained once")
        try:
            with Heartbeat(run_dir, tally.pulse, note=progress.note) as heartbeat:
                search = Search(
                    study=resolved,
                    data=prepared,
                    run_dir=run_dir,
                    address=address,
                    backbones=absolute(backbones) if backbones else None,
                    dashboard=dashboard,
                    only=chosen,
                    hours_spent=lambda: (time.monotonic() - begun) / 3600,
                    progress=progress,
                    heartbeat=heartbeat,
                )
                conductor = run_until_done(search, open_session=open_session, tune=tune)
        except KeyboardInterrupt:
            pass
    states = [status.state for status in conductor.status().values()] if conductor else []
    return Outcome(
        run_dir=run_dir,
        interrupted=conductor is None,
        started=tally.counts["started"],
        finished=sum(1 for _ in OofStore(run_dir).fold_runs()),
        full_grid=len(states) * prepared.manifest.n_folds,
        complete=states.count("finished"),
        stopped=states.count("stopped") + states.count("waiting"),
        failed=states.count("failed"),
        seconds=time.monotonic() - begun,
        disk=describe_use(run_dir, resolved.budget.disk_gb),
    )
