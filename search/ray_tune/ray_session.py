"""The connection to Ray: a running cluster, or Ray on this machine for as long as a search lasts."""

import logging
import os
import signal
import socket
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from data_prep.errors import InputError
from search.ray_tune.ray_internals import silence_raylets
from search.study.study_file import ResolvedStudy, Resources
from search.worker.node_check import Requirements, Scout, requirements_of

OBJECT_STORE_BYTES = 200 * 2**20
"""Nothing large goes through Ray's object store."""
CONNECT_SECONDS = 5
"""How long the head of a cluster may take to accept a connection."""
NODE_SECONDS = 180
"""How long a node may take to import the search and look at its files."""
WHAT_NODES_NEED = (
    "Every node needs this version of blendfold, and the prepared folder and the run directory at the same path (NFS, "
    "or `--runs s3://...`)"
)
HEADLINE_LETTERS = 200
OUT_OF_MEMORY = ("OutOfMemoryError", "running low on memory")
"""By these Ray's page of advice on the death of a worker by its memory monitor is known."""
QUIET = {"log_to_driver": False, "logging_level": logging.CRITICAL}


@contextmanager
def ray_session(
    study: ResolvedStudy,
    run_dir: str,
    *,
    address: str | None,
    backbones: str | None,
    dashboard: bool,
    note: Callable[[str], None],
    n_cores: int | None = None,
) -> Iterator[None]:
    """Connect to a cluster, or start Ray on this machine for as long as the block lasts.

    Args:
        study: says what a fold run occupies, and where its data lies.
        run_dir: run directory, which every node must see.
        address: `host:port` of a cluster's head, or `auto`; None: what RAY_ADDRESS names (Ray sets it for the jobs
            that it runs), and without it this machine.
        backbones: folder with local copies of hub models, which every node must see.
        dashboard: whether a local Ray also starts its dashboard.
        note: takes what a person should know.
        n_cores: cores that a local Ray offers; None: those that this process may use.

    Raises:
        InputError: no cluster is there, it refuses, its nodes lack something, or a fold run has no room.
    """
    import ray  # noqa: PLC0415 - after the environment is set

    address = address or os.environ.get("RAY_ADDRESS")
    silence_raylets()
    try:
        if address:
            context = _connect(address)
            _check_nodes(study, run_dir, backbones=backbones, note=note)
        else:
            context = ray.init(
                address="local",  # without it Ray joins whatever `ray start` left running on this machine
                num_cpus=n_cores or cores(),
                include_dashboard=dashboard,
                object_store_memory=OBJECT_STORE_BYTES,
                **QUIET,
            )
            _check_machine(study, ray.cluster_resources())
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # `ray job stop` sends it; Ray's own handler exits
        if context.dashboard_url:
            where = " on the cluster's head node" if address else ""
            note(f"dashboard: http://{context.dashboard_url}{where}")
        yield
    finally:
        ray.shutdown()


def prepare_environment() -> None:
    """Set what Ray reads when it is imported; a user's own setting holds."""
    settings = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # what Tune saves of itself is never read: the run directory is the record
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


# What is at the address


def _connect(address: str) -> Any:
    import ray  # noqa: PLC0415 - after the environment is set

    if address != "auto":
        _check_reachable(address)
    try:
        return ray.init(address=address, **QUIET)
    except (ConnectionError, RuntimeError, ValueError) as error:
        if any(isinstance(cause, ray.exceptions.AuthenticationError) for cause in causes(error)):
            raise InputError(
                f"address {address}: the cluster refuses the token of this process, or gets none. Set RAY_AUTH_MODE="
                f"token; the token is read from RAY_AUTH_TOKEN, from the file that RAY_AUTH_TOKEN_PATH names, or from "
                f"~/.ray/auth_token, and must be the cluster's"
            ) from error
        raise InputError(f"address {address}: cannot connect to a Ray cluster there ({headline(error)})") from error


def _check_reachable(address: str) -> None:
    """Refuse at once what Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if "/" in address or not host or not port.isdecimal():
        raise InputError(
            f"address {address}: expected `auto`, or host:port of a cluster's head (port 6379 unless set otherwise). "
            f"From outside a cluster, submit the search to it: `ray job submit -- python -m search run STUDY.yaml`"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"address {address}: no Ray cluster is there ({error}). Start one with `ray up` or `ray start --head`, "
            f"which print its address, or leave `--address` out to search on this machine"
        ) from error


# What a fold run needs


def _check_machine(study: ResolvedStudy, resources: Mapping[str, float]) -> None:
    for size in study.resources.each():
        if not _fits(size, resources):
            raise InputError(
                f"resources: a fold run with cpu={size.cpu:g}, gpu={size.gpu:g} does not fit this machine, which has "
                f"{resources.get('CPU', 0):g} cores and {resources.get('GPU', 0):g} GPUs; lower it, or connect to a "
                f"cluster with `--address`"
            )


def _fits(size: Resources, resources: Mapping[str, float]) -> bool:
    return size.cpu <= resources.get("CPU", 0.0) and size.gpu <= resources.get("GPU", 0.0)


def cores() -> int:
    """Return the CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_nodes(study: ResolvedStudy, run_dir: str, *, backbones: str | None, note: Callable[[str], None]) -> None:
    """Ask every node that can hold a fold run whether it has what one needs, before the first one starts.

    On nodes that join later, the first fold run of a worker finds out (see `search.worker.fold_run`).
    """
    nodes = [node for node in _nodes() if any(_fits(size, node["Resources"]) for size in study.resources.each())]
    for size in study.resources.each():
        if not any(_fits(size, node["Resources"]) for node in nodes):
            note(f"no node has room for a fold run with cpu={size.cpu:g}, gpu={size.gpu:g}; waiting until one joins")
    if faults := _ask(nodes, requirements_of(run_dir, data=study.data, backbones=backbones)):
        raise InputError(*faults, WHAT_NODES_NEED)


def _nodes() -> list[dict[str, Any]]:
    import ray  # noqa: PLC0415 - after the environment is set

    return [node for node in ray.nodes() if node["Alive"]]


def _ask(nodes: list[dict[str, Any]], requirements: Requirements) -> list[str]:
    import ray  # noqa: PLC0415 - after the environment is set
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415 - imports Ray

    scouts = [
        ray.remote(Scout)
        .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        .remote()
        for node in nodes
    ]
    answers = [scout.look_around.remote(requirements) for scout in scouts]
    faults: list[str] = []
    for node, answer in zip(nodes, answers, strict=True):
        try:
            found = ray.get(answer, timeout=NODE_SECONDS)
        except ray.exceptions.GetTimeoutError:
            found = [f"did not answer in {NODE_SECONDS} seconds; see `ray status`"]
        except ray.exceptions.RayError as error:
            found = [f"starts no worker for this search ({headline(error)}); RAY_AUTH_MODE must be the cluster's"]
        faults.extend(f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']}): {fault}" for fault in found)
    return faults


def headline(error: BaseException) -> str:
    """Return in a sentence what happened, without the way there."""
    told = [f"{type(cause).__name__}: {cause}" for cause in causes(error)]
    return headline_of("\n".join(reversed(told)))  # the first cause first, as in a traceback


def headline_of(text: str) -> str:
    """Return the start of the last line of an error's text, which says what happened; empty where there is none."""
    if any(mark in text for mark in OUT_OF_MEMORY):
        return "Ray's memory monitor killed a worker, for the machine ran short of memory"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return textwrap.shorten(lines[-1], HEADLINE_LETTERS, placeholder=" ...") if lines else ""


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, then what led to it, back to the first."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
