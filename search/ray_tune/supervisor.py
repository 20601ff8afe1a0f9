"""Runs Ray Tune until the study is done: when Tune dies, starts it again from the record, or gives up and says why."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NoReturn

from data_prep.errors import FULL_DISK, InputError, storage_fault
from search.driver.conductor import Conductor, closing
from search.ray_tune.autoscaler_demand import AutoscalerDemand, PlacementGroups
from search.ray_tune.ray_errors import NoRayError, causes, headline
from search.ray_tune.run_tune import RunTune, Search
from search.run_dir.curves import minutes_by_candidate
from search.watch.run_statistics import RunStatistics

MAX_DEATHS_WITHOUT_PROGRESS = 3
"""Times in a row that Tune may die with nothing new on record before the search gives up."""

OpenSession = Callable[..., AbstractContextManager[None]]
"""`ray_session`, or what stands in for it."""


def run_until_done(search: Search, *, open_session: OpenSession, tune: RunTune) -> Conductor:
    """Run Tune until the study is done; when Tune dies (Ray's memory monitor does that) or Ray, start it again.

    Raises:
        InputError: Ray itself ended Tune `MAX_DEATHS_WITHOUT_PROGRESS` times in a row with nothing new on record.
        OSError: a disk is full; says where.
    """
    progress = search.progress
    deaths, known, death = 0, 0, None
    while True:
        conductor = Conductor(
            search.study, search.data, search.run_dir, progress, hours_spent=search.hours_spent, only=search.only
        )
        progress.statistics.to_come = lambda conductor=conductor: conductor.candidates_to_come  # type: ignore[misc]
        on_record = len(conductor.curves.entries)
        if death is None:
            count_earlier_runs(progress.statistics, conductor)
            if resumed := conductor.describe_record():
                progress.note(resumed)
        else:
            deaths = 0 if on_record > known else deaths + 1
            if deaths == MAX_DEATHS_WITHOUT_PROGRESS:
                _give_up(death, search.run_dir)
            progress.restart(f"{_what_died(death)}; continuing from the record")
        known = on_record
        try:
            with closing(conductor, progress.note), _session(search, open_session):
                tune(search, conductor, _demand(search))
        except Exception as error:
            _raise_if_final(error, search.run_dir)
            death = error
        else:
            return conductor


def count_earlier_runs(tally: RunStatistics, conductor: Conductor) -> None:
    """Count the time that earlier runs of the search took, by its record."""
    for name, minutes in minutes_by_candidate(conductor.curves.entries).items():
        size = conductor.study.resources.of(conductor.candidates[name].backbone)
        tally.spent_before(minutes * 60, size)


def _session(search: Search, open_session: OpenSession) -> AbstractContextManager[None]:
    return open_session(
        search.study,
        search.run_dir,
        address=search.address,
        backbones=search.backbones,
        dashboard=search.dashboard,
        message=search.progress.note,
    )


def _demand(search: Search) -> AutoscalerDemand | None:
    """Return what shows a cluster's autoscaler how many fold runs wait; None on this machine alone."""
    return AutoscalerDemand(PlacementGroups()) if search.address or os.environ.get("RAY_ADDRESS") else None


def _raise_if_final(error: Exception, run_dir: str) -> None:
    """Raise what another start of Tune would not change: a mistake that the user can fix, a full disk."""
    if mistake := next((cause for cause in causes(error) if isinstance(cause, InputError)), None):
        raise mistake from None
    if fault := storage_fault(error, FULL_DISK):
        raise OSError(fault.errno, fault.strerror, fault.filename or run_dir) from error


def _fault_of_ray(error: BaseException) -> NoRayError | None:
    return next((cause for cause in causes(error) if isinstance(cause, NoRayError)), None)


def _what_died(error: Exception) -> str:
    return str(_fault_of_ray(error) or f"Ray Tune died ({headline(error)})")


def _give_up(error: Exception, run_dir: str) -> NoReturn:
    """Raise what ended Tune: as an `InputError` where Ray ended it, unchanged where the fault may be ours."""
    from ray.exceptions import RayError  # noqa: PLC0415 - after the environment is set

    if fault := _fault_of_ray(error):
        raise InputError(
            f"{fault} ({MAX_DEATHS_WITHOUT_PROGRESS} times in a row, with nothing new on record).",
            f"What is finished is kept in {run_dir}. Mend what Ray says, or wait until the machine has less to do; the "
            "same command then continues from the record.",
        ) from error
    what = (
        f"Ray Tune died {MAX_DEATHS_WITHOUT_PROGRESS} times in a row with nothing new on record; what is finished is "
        f"kept in {run_dir}"
    )
    if not any(isinstance(cause, RayError) for cause in causes(error)):
        error.add_note(what)
        raise error
    raise InputError(
        f"{what}: {headline(error)}.",
        "Give fold runs more room (more `resources:` each, so that fewer run at once, a smaller batch_size, a larger "
        "machine), then give the same command again: it continues from the record.",
    ) from error
