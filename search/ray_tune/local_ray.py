"""Starts Ray on this machine; where it does not start, says why."""

import os
import re
import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

from data_prep.errors import InputError, storage_fault
from search.cluster.auth_token import make_token
from search.ray_tune.ray_errors import NoRayError, headline
from search.ray_tune.ray_internals import OUR_FOLDER, on_loopback
from search.ray_tune.ray_watch import within

START_SECONDS = 180
"""Ray starts in ten seconds, on a loaded machine in a minute."""
ROOM_BYTES = 2**24
"""For logs and sockets."""
LOGS = ("raylet.err", "gcs_server.err", "raylet.out", "gcs_server.out", "dashboard.err", "dashboard.log")
COMPLAINT = re.compile(r" [CEF] \d+ |Error|No space")
"""Marks the lines of a log that may say why."""
REMEDIES = (
    (r"AF_UNIX path", "the paths of its sockets get too long; set RAY_TMPDIR to a short folder, such as /tmp"),
    (r"gaierror|[Nn]ame or service|resolve", "this machine cannot look up a host name; add its own to /etc/hosts"),
    (
        r"AuthenticationError",
        "its token cannot be read; RAY_AUTH_TOKEN_PATH names the file, ~/.ray/auth_token unless set",
    ),
)
"""Pattern in an error after which trying again helps nobody, and what to change."""


def start_ray(**settings: Any) -> Any:
    """Start Ray for this process, reachable from this machine only, and return its context.

    Raises:
        InputError: it cannot start here; says what to change.
        NoRayError: it did not start; it may if the machine has less to do.
    """
    import ray  # noqa: PLC0415 - after the environment is set

    make_token()
    folder = Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp", "ray")
    _check_room(folder)
    try:
        with on_loopback(), within(START_SECONDS, "it has been starting"), chdir(OUR_FOLDER):
            # without the address Ray joins what `ray start` left running on this machine
            return ray.init(address="local", **settings)
    except Exception as error:
        raise _explained(error, folder) from error


def _check_room(folder: Path) -> None:
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if free < ROOM_BYTES:
        raise InputError(
            f"Ray cannot start on this machine: it keeps logs and sockets in {folder}, where {free / 2**20:.1f} MB are "
            f"free, and needs {ROOM_BYTES / 2**20:.0f}; free some, or set RAY_TMPDIR to another short folder"
        )


def _explained(error: Exception, folder: Path) -> Exception:
    said = f"Ray did not start on this machine: {headline(error)}"
    if storage_fault(error):
        return InputError(f"{said}; it keeps logs and sockets in {folder}, or where RAY_TMPDIR says")
    for pattern, remedy in REMEDIES:
        if re.search(pattern, f"{type(error).__name__} {error}"):
            return InputError(f"{said}; {remedy}")
    return NoRayError(f"{said}; {_log(folder)}")


def _log(folder: Path) -> str:
    """Return which log of the session that did not start says why, and what."""
    sessions = sorted(folder.glob(f"session_*_{os.getpid()}"))
    if not sessions:
        return f"it left no log in {folder}"
    logs = sessions[-1] / "logs"
    for log in (logs / name for name in LOGS):
        lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
        if complaints := [line for line in lines if COMPLAINT.search(line)]:
            return f"{log} says: {complaints[-1].strip()}"
    return f"its logs are in {logs}"
