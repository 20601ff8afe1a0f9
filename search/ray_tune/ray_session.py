"""The connection to Ray: a running cluster, or Ray on this machine for as long as a search lasts."""

import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, suppress
from typing import Any

from data_prep.cpu_cores import cpu_cores
from data_prep.errors import InputError
from search.cluster.auth_token import TOKEN_PLACES, clear_text_warning
from search.ray_tune.local_ray import start_ray
from search.ray_tune.ray_errors import NoRayError, causes, headline
from search.ray_tune.ray_internals import OUR_FOLDER, child_processes, end_processes, silence_raylets
from search.ray_tune.ray_watch import watched, within
from search.study.study_file import ResolvedStudy, Resources
from search.worker.node_check import NodeChecker, Requirements, requirements_of

OBJECT_STORE_BYTES = 200 * 2**20
"""Nothing large goes through Ray's object store."""
CONNECT_SECONDS = 5
"""How long the head of a cluster may take to accept a connection."""
JOIN_SECONDS = 120
"""How long the cluster may then take to let this process in."""
STOP_SECONDS = 60
"""How long Ray may take to shut down."""
NODE_SECONDS = 180
"""How long a node may take to import the search and look at its files."""
WHAT_NODES_NEED = (
    "Every node needs this version of blendfold, and the prepared folder and the run directory at the same path (NFS, "
    "or `--runs s3://...`)"
)
QUIET = {"log_to_driver": False, "logging_level": logging.CRITICAL}


@contextmanager
def ray_session(
    study: ResolvedStudy,
    run_dir: str,
    *,
    address: str | None,
    backbones: str | None,
    dashboard: bool,
    message: Callable[[str], None],
    n_cores: int | None = None,
) -> Iterator[None]:
    """Connect to a cluster, or start Ray on this machine for as long as the block lasts.

    `address` is `host:port` of a cluster's head, or `auto`. None means the one in RAY_ADDRESS (Ray sets it for the jobs
    that it runs), and without it this machine, where Ray offers `n_cores` or all that this process may use.

    Raises:
        InputError: no cluster is there, it refuses, its nodes lack something, or a fold run has no room; Ray cannot
            start on this machine.
        NoRayError: Ray did not start on this machine, or was lost; another start may help.
    """
    import ray  # noqa: PLC0415 - after the environment is set

    way_out = "leave `--address` out" if address else "unset RAY_ADDRESS, which names it,"
    address = address or os.environ.get("RAY_ADDRESS")
    silence_raylets()
    before = child_processes()
    try:
        if address:
            context = _connect(address, way_out, message)
        else:
            context = start_ray(
                num_cpus=n_cores or cpu_cores(),
                include_dashboard=dashboard,
                object_store_memory=OBJECT_STORE_BYTES,
                **QUIET,
            )
        here = ray.get_runtime_context().get_node_id()
        with watched(lambda: any(node["NodeID"] == here for node in _nodes())):
            if address:
                requirements = requirements_of(run_dir, data=study.data, backbones=backbones)
                check_nodes(study, requirements, _nodes(), message=message)
            else:
                check_machine(study, ray.cluster_resources())
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # `ray job stop` sends it; Ray's handler exits
            if context.dashboard_url:
                where = " on the cluster's head node" if address else ""
                message(f"dashboard: http://{context.dashboard_url}{where}")
            yield
    finally:
        with suppress(NoRayError), within(STOP_SECONDS, "Ray has been shutting down"):
            ray.shutdown()
        end_processes(child_processes() - before)


def prepare_environment() -> None:
    """Set what Ray reads when it is imported; a user's own settings have priority."""
    settings = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # nobody reads what Tune saves: the run directory is the record
        "TUNE_FUNCTION_THREAD_TIMEOUT_S": "600",  # a fold run may take long to release its worker
        "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
        "TUNE_WARN_THRESHOLD_S": "60",
        "RAY_gcs_rpc_server_reconnect_timeout_s": "300",  # then Ray ends the process; `watched` is to come first
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    for key, value in settings.items():
        os.environ.setdefault(key, value)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("ray", "ray.widgets"):  # Ray sets the first again; the second asks notebooks for a package
        logging.getLogger(name).setLevel(logging.CRITICAL)


# What is at the address


def _connect(address: str, way_out: str, message: Callable[[str], None]) -> Any:
    import ray  # noqa: PLC0415 - after the environment is set

    if address != "auto":
        _check_reachable(address, way_out)
        if os.environ.get("RAY_AUTH_MODE") == "token" and (warning := clear_text_warning(address)):
            message(warning)
    try:
        with within(JOIN_SECONDS, "the connection has not been accepted"), chdir(OUR_FOLDER):
            return ray.init(address=address, **QUIET)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(refusal(address, error)) from error


def refusal(address: str, error: BaseException) -> str:
    """Return why a cluster did not accept a connection, in one sentence."""
    import ray  # noqa: PLC0415 - after the environment is set

    if not any(isinstance(cause, ray.exceptions.AuthenticationError) for cause in causes(error)):
        return f"address {address}: cannot connect to a Ray cluster there ({headline(error)})"
    return (
        f"address {address}: the cluster refuses the token of this process, or gets none. Set RAY_AUTH_MODE=token; "
        f"{TOKEN_PLACES}"
    )


def _check_reachable(address: str, way_out: str) -> None:
    """Refuse at once an address that Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if "/" in address or not host or not port.isdecimal():
        raise InputError(
            f"address {address}: expected `auto`, or host:port of a cluster's head (port 6379 unless set otherwise). "
            f"From outside a cluster, submit the search to it: `ray job submit -- python -m search run STUDY.yaml`. To "
            f"search on this machine, {way_out} and start again"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"address {address}: no Ray cluster is there ({error}). Start one with `ray up` or `ray start --head`, "
            f"which print its address, or {way_out} to search on this machine"
        ) from error


# What a fold run needs


def check_machine(study: ResolvedStudy, resources: Mapping[str, float]) -> None:
    """Raise `InputError` unless each fold run fits this machine."""
    for size in study.resources.each():
        if not _fits(size, resources):
            raise InputError(
                f"resources: a fold run with cpu={size.cpu:g}, gpu={size.gpu:g} does not fit this machine, which has "
                f"{resources.get('CPU', 0):g} cores and {resources.get('GPU', 0):g} GPUs; lower it, or connect to a "
                f"cluster with `--address`"
            )


def _fits(size: Resources, resources: Mapping[str, float]) -> bool:
    return size.cpu <= resources.get("CPU", 0.0) and size.gpu <= resources.get("GPU", 0.0)


def check_nodes(
    study: ResolvedStudy,
    requirements: Requirements,
    nodes: Sequence[Mapping[str, Any]],
    *,
    message: Callable[[str], None],
    missing_on: Callable[[Sequence[Mapping[str, Any]], Requirements], list[str]] | None = None,
) -> None:
    """Check that every node with room for a fold run has what one needs, before the first one starts.

    Nodes that join later are checked by a worker's first fold run. `missing_on` says what nodes lack; None: ask them.

    Raises:
        InputError: names everything that is missing.
    """
    sizes = study.resources.each()
    for size in sizes:
        if not any(_fits(size, node["Resources"]) for node in nodes):
            message(f"no node has room for a fold run with cpu={size.cpu:g}, gpu={size.gpu:g}; waiting until one joins")
    roomy = [node for node in nodes if any(_fits(size, node["Resources"]) for size in sizes)]
    if faults := (missing_on or _ask_nodes)(roomy, requirements):
        raise InputError(*faults, WHAT_NODES_NEED)


def _nodes() -> list[dict[str, Any]]:
    import ray  # noqa: PLC0415 - after the environment is set

    return [node for node in ray.nodes() if node["Alive"]]


def _ask_nodes(nodes: Sequence[Mapping[str, Any]], requirements: Requirements) -> list[str]:
    """Return what nodes lack, after a check on each of them."""
    import ray  # noqa: PLC0415 - after the environment is set
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415 - imports Ray

    checkers = [
        ray.remote(NodeChecker)
        .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        .remote()
        for node in nodes
    ]
    answers = [checker.check.remote(requirements) for checker in checkers]
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
