"""The private names of Ray that blendfold uses, all in one place; `tests` say clearly when Ray moves one of them."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

OUR_FOLDER = Path(__file__).parents[2]
"""Where our packages lie. Ray lets its workers import first from the folder in which `ray.init` is called, and the
user's may hold a `models.py`."""


def actor_id_of(trial: Any) -> str:
    """Return the id (hex) of the actor that runs a Tune trial; Ray's memory monitor names its victims by it."""
    return str(trial.temporary_state.ray_actor._actor_id.hex())


def drop_metric_history(trial: Any) -> None:
    """Drop the statistics of every metric, which Tune keeps of each trial to the end of the search."""
    trial.run_metadata.metric_analysis.clear()
    trial.run_metadata.metric_n_steps.clear()


def set_actor_mixins(function: Callable[[dict[str, Any]], None], *mixins: type) -> None:
    """Name further base classes for the class that Tune makes of a function."""
    vars(function)["__mixins__"] = mixins


def silence_raylets() -> None:
    """Keep what a dying raylet prints, a hundred lines of its state, off the console."""
    import ray  # noqa: PLC0415 - after the environment is set

    ray._private.worker.print_to_stdstream = lambda *_, **__: None


def keep_notebook_output() -> None:
    """Keep Tune from clearing what stands below a notebook's cell, where it would show progress of its own."""
    from ray.tune import progress_reporter  # noqa: PLC0415 - after the environment is set

    progress_reporter.IS_NOTEBOOK = False


@contextmanager
def on_loopback() -> Iterator[None]:
    """Let a Ray that starts in the block take 127.0.0.1 for the address of its node: then it listens nowhere else."""
    from ray._private import ray_constants  # noqa: PLC0415 - after the environment is set

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def child_processes() -> frozenset[Any]:
    """Return this process's children and theirs."""
    import psutil  # noqa: PLC0415
    import ray  # noqa: F401, PLC0415 - brings the `psutil` along

    return frozenset(psutil.Process().children(recursive=True))


def end_processes(processes: Collection[Any]) -> None:
    """Kill processes, and wait until they are gone."""
    import psutil  # noqa: PLC0415 - after Ray

    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(list(processes), timeout=5)
