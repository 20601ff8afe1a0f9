"""Searches as Ray jobs: submitted to a cluster, followed, stopped, brought home.

Everything here is done by commands of Ray's own, which are shown before they run: who prefers them needs none of this.
"""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import InputError
from data_prep.store.files import join, list_sizes, read_bytes, write_bytes
from data_prep.store.object_store import is_uri
from data_prep.store.yaml_documents import read_yaml

if TYPE_CHECKING:
    from search.cluster.machines import NodeType
    from search.study.study_file import Resources

HOME = "~/blendfold"
"""Where the code lies on the nodes of a cluster that our cluster files describe."""
DASHBOARD_PORT = 8265
TUNNEL_SECONDS = 60
ANSWER_SECONDS = 10
READY_SECONDS = 90
"""How long the head of a cluster that has just come up may take until it takes jobs."""
NOT_READY = "No available agent to submit job"
"""What Ray says until then."""
TOKEN_FILE = Path("~/.ray/auth_token")
LEFT_OUT = (".venv", ".git", "runs", "prepared", "bundles", "__pycache__", ".mypy_cache", ".ruff_cache")
"""What a working directory that travels leaves behind."""
STAYS = ("weights", "checkpoints", "ray", "damaged")
"""What `fetch` leaves in a run directory; cluster files leave the large three out of every rsync."""

Note = Callable[[str], None]


@dataclass(frozen=True)
class Place:
    """Where jobs run: a cluster that a file describes, or the address of a jobs API (`http://host:port`)."""

    cluster: str | None
    address: str | None
    port: int = DASHBOARD_PORT
    """Port of this machine that leads to the dashboard of a cluster with a file."""

    def __post_init__(self) -> None:
        if (self.cluster is None) == (self.address is None):
            raise InputError("say where: --cluster FILE as given to `ray up`, or --address http://HOST:PORT")
        if self.address is not None and not self.address.startswith(("http://", "https://")):
            raise InputError(
                f"--address {self.address}: jobs are submitted to the dashboard, http://HOST:PORT (port "
                f"{DASHBOARD_PORT} unless set otherwise); `search run --address` takes the address of a head"
            )
        if self.cluster is not None:
            _node_types(self.cluster)

    @property
    def options(self) -> str:
        """The options that name this place."""
        port = f" --port {self.port}" if self.port != DASHBOARD_PORT else ""
        return f"--cluster {self.cluster}{port}" if self.cluster else f"--address {self.address}"


@dataclass(frozen=True)
class Job:
    """A search that was submitted."""

    name: str
    run_dir: str


def launch(
    study: str,
    place: Place,
    *,
    runs: str,
    data: str | None,
    backbones: str | None,
    only: str | None,
    note: Note,
) -> Job:
    """Submit a study, and the blend of what it finds, as a job that needs this machine no longer.

    Args:
        study: the study file; it travels with the job.
        place: where to run.
        runs: folder or URI, which every node sees, for run directories.
        data: prepared folder or URI, which every node sees; None: what the study names.
        backbones: folder with local copies of hub models, which every node sees.
        only: names under `candidates:` to run, with commas between them.
        note: takes what a person should know.

    Raises:
        InputError: the study or the cluster file is wrong, a fold run fits no node, a path is not one that nodes
            share, nothing answers, or Ray refuses.
    """
    from search.study.study_file import choose_candidates, read_study  # noqa: PLC0415 - imports torch

    read = read_study(study, data=data)
    if only is not None:
        choose_candidates(read, [name.strip() for name in only.split(",") if name.strip()])
    _check_shared({"--data": read.data, "--runs": runs, **({"--backbones": backbones} if backbones else {})})
    if place.cluster is not None:
        _check_room(read.resources.each(), place.cluster)
    job = Job(f"{read.name}-{time.strftime('%Y%m%d-%H%M%S')}", join(runs, read.name))
    given = {"--data": data, "--runs": runs, "--backbones": backbones, "--only": only}
    options = [word for option, value in given.items() if value for word in (option, value)]
    there = f"studies/{Path(study).name}" if place.cluster else _within_clone(study)
    search = shlex.join(["python", "-m", "search", "run", there, *options])
    blend = shlex.join(["python", "-m", "blend", "fit", job.run_dir, "--name", "launched", "--clip", "--force"])
    task = f"{search} && {blend}"
    if place.cluster is not None:
        run_ray(["rsync-up", place.cluster, study, f"{HOME}/{there}"], note)
        travels, task = [], f"cd {HOME} && {task}"
    else:
        travels = ["--working-dir", ".", "--runtime-env-json", json.dumps({"excludes": list(LEFT_OUT)})]
    with jobs_api(place, note) as api:
        metadata = json.dumps({"study": read.name, "run_dir": job.run_dir})
        submit = ["job", "submit", "--address", api, "--submission-id", job.name, "--metadata-json", metadata]
        _submit([*submit, "--no-wait", *travels, "--", "bash", "-c", task], note)
    return job


def _check_shared(paths: Mapping[str, str]) -> None:
    """Refuse paths that would be another one on each node."""
    if faults := [
        f"{option} {path}: each node would look in a folder of its own"
        for option, path in paths.items()
        if not (is_uri(path) or Path(path).is_absolute())
    ]:
        raise InputError(
            *faults, "Give what every node sees: s3://BUCKET/... or the absolute path of a mounted folder."
        )


def _within_clone(study: str) -> str:
    """Return the path of a study from the working directory, which travels."""
    inner = os.path.relpath(study)
    if inner.startswith("..") or not Path("search", "__main__.py").exists():
        raise InputError(
            f"{study}: with --address the working directory travels to the cluster; give the command in the root of "
            "the clone, for a study file somewhere in it"
        )
    return inner


def _check_room(sizes: "list[Resources]", cluster: str) -> None:
    """Refuse fold runs for which no node of a cluster would ever have room."""
    nodes = _node_types(cluster)
    if faults := [
        f"{cluster}: no kind of node has room for a fold run with cpu={size.cpu:g}, gpu={size.gpu:g}"
        for size in sizes
        if nodes and not any(size.cpu <= node.cpu and size.gpu <= node.gpu for node in nodes)
    ]:
        has = "; ".join(f"{node.name}: cpu {node.cpu:g}, gpu {node.gpu:g}" for node in nodes)
        raise InputError(*faults, f"It has {has}. Lower `resources:` in the study, or take a larger kind of node.")


def _node_types(cluster: str) -> "list[NodeType]":
    """Return the kinds of node of a cluster file; none where the machines are the user's own, as only they know."""
    from search.cluster.machines import read_cluster, read_machines  # noqa: PLC0415 - imports torch

    content = read_yaml(cluster)
    if "provider" not in content:
        raise InputError(f"{cluster}: not a cluster file for `ray up`: has no `provider:`")
    return read_cluster(cluster, read_machines()) if "available_node_types" in content else []


def follow(name: str | None, place: Place, note: Note) -> tuple[Job, str]:
    """Show the log of a job until it ends; return it with Ray's word for how it stands (`SUCCEEDED`, `RUNNING`, ...).

    Args:
        name: of the job, or of its study; None: the last one that `launch` submitted there.
        place: where it runs.
        note: takes what a person should know.

    Raises:
        InputError: there is no such job, or nothing answers.
    """
    with jobs_api(place, note) as api:
        job = _job(_find(api, name))
        run_ray(["job", "logs", "--address", api, "--follow", job.name], note)
        return job, str(_find(api, job.name)["status"])


def stop(name: str | None, place: Place, note: Note) -> Job:
    """End a job, named as for `follow`, and return it; what it has finished stays.

    Raises:
        InputError: there is no such job, or nothing answers.
    """
    with jobs_api(place, note) as api:
        job = _job(_find(api, name))
        run_ray(["job", "stop", "--address", api, job.name], note)
    return job


def latest(place: Place, name: str | None, note: Note) -> Job:
    """Return a job, named as for `follow`; of several with that name the last one.

    Raises:
        InputError: there is none, or nothing answers.
    """
    with jobs_api(place, note) as api:
        return _job(_find(api, name))


def fetch(job: Job, place: Place, out: str, note: Note) -> None:
    """Copy tables, blends and the record of a run directory to this machine; weights, checkpoints and logs stay there.

    Args:
        job: whose run directory.
        place: where it ran.
        out: local folder; files of the same name there are replaced.
        note: takes what a person should know.

    Raises:
        InputError: this machine has no way to the run directory.
    """
    Path(out).mkdir(parents=True, exist_ok=True)
    if is_uri(job.run_dir):
        note(f"copies {job.run_dir} to {out}")
        _copy(job.run_dir, out)
    elif place.cluster is not None:
        run_ray(["rsync-down", place.cluster, f"{job.run_dir}/", f"{out}/"], note)
    else:
        raise InputError(
            f"{job.run_dir}: is a folder of the cluster, to which {place.address} opens no way; copy it by hand, or "
            "launch with --runs s3://BUCKET/..., which can be read from here"
        )


def _copy(run_dir: str, out: str) -> None:
    for name in list_sizes(run_dir):
        if name.split("/")[0] not in STAYS:
            write_bytes(read_bytes(join(run_dir, name)), join(out, name))


def _find(api: str, name: str | None) -> dict[str, Any]:
    jobs = [job for job in ask(api, "/api/jobs/") if "run_dir" in (job.get("metadata") or {})]
    wanted = [job for job in jobs if name in (None, job["submission_id"], job["metadata"].get("study"))]
    if not wanted:
        known = ", ".join(sorted(job["submission_id"] for job in jobs)) or "none"
        raise InputError(f"no search {name or 'was launched'} there; known jobs: {known}")
    return max(wanted, key=lambda job: float(job["start_time"] or 0))


def _job(found: Mapping[str, Any]) -> Job:
    return Job(found["submission_id"], found["metadata"]["run_dir"])


# ---------------------------------------------------------------- reaching the jobs API


@contextmanager
def jobs_api(place: Place, note: Note) -> Iterator[str]:
    """Yield the URL of the jobs API: the address, or the near end of an SSH tunnel that lasts as long as the block.

    Raises:
        InputError: nothing answers, or not to our token; says why.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if place.address is not None:
        ask(place.address, "/api/version")
        yield place.address
        return
    assert place.cluster is not None
    port = _free_port(place.port)
    api = f"http://127.0.0.1:{port}"
    dig = ["dashboard", place.cluster, "--port", str(port), "--remote-port", str(place.port)]
    note(_shown(dig))
    with tempfile.TemporaryFile("w+") as log:
        tunnel = subprocess.Popen(
            _ray(dig), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            _wait_for(api, tunnel, log, place)
            yield api
        finally:
            os.killpg(tunnel.pid, signal.SIGTERM)
            tunnel.wait()


def _wait_for(api: str, tunnel: "subprocess.Popen[bytes]", log: Any, place: Place) -> None:
    deadline = time.monotonic() + TUNNEL_SECONDS
    while True:
        try:
            ask(api, "/api/version")
        except NoAnswerError as error:
            if tunnel.poll() is None and time.monotonic() < deadline:
                time.sleep(0.2)
                continue
            log.seek(0)
            said = [line.strip() for line in log if line.strip()]
            raise InputError(
                f"{place.cluster}: its dashboard cannot be reached ({said[-1] if said else error})",
                f"Is it up? `ray up {place.cluster}` brings it up, `ray exec {place.cluster} 'ray status'` asks it.",
            ) from error
        return


class NoAnswerError(InputError):
    """Nothing listens at an address."""


def ask(api: str, path: str) -> Any:
    """Return what the API says to a GET, as JSON; our token goes with it.

    Raises:
        NoAnswerError: nothing listens there.
        InputError: it refuses our token, or is no jobs API.
    """
    token = read_token()
    request = urllib.request.Request(f"{api}{path}")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise InputError(
                f"{api}: refuses {'our token' if token else 'who has no token'}. It is read from RAY_AUTH_TOKEN, from "
                f"the file that RAY_AUTH_TOKEN_PATH names, or from {TOKEN_FILE}, and must be the cluster's"
            ) from error
        raise InputError(f"{api}{path}: answers {error.code} {error.reason}; is it the dashboard of Ray?") from error
    except (urllib.error.URLError, OSError) as error:
        raise NoAnswerError(f"{api}: nothing answers ({getattr(error, 'reason', error)})") from error
    except ValueError as error:
        raise InputError(f"{api}{path}: does not answer in JSON; is it the dashboard of Ray?") from error


def read_token() -> str:
    """Return the token of this user's clusters, empty where there is none."""
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token
    try:
        return Path(os.environ.get("RAY_AUTH_TOKEN_PATH", TOKEN_FILE)).expanduser().read_text().strip()
    except OSError:
        return ""


def _free_port(wanted: int) -> int:
    """Return the port, or where something listens on it already, one that is free."""
    for port in (wanted, 0):
        try:
            with socket.create_server(("127.0.0.1", port)) as server:
                return int(server.getsockname()[1])
        except OSError:
            continue
    raise InputError("no port of this machine is free for a tunnel")


def run_ray(arguments: Sequence[str], note: Note) -> None:
    """Show a command of Ray and run it; what it prints is seen as it comes.

    Raises:
        InputError: it fails.
    """
    note(_shown(arguments))
    done = subprocess.run(_ray(arguments), stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise InputError(f"`{_shown(arguments)[2:]}` failed with exit code {done.returncode}; its reasons are above")


def _submit(arguments: Sequence[str], note: Note) -> None:
    """Show and run a command that submits a job; a head that has just come up is given time to take one.

    Raises:
        InputError: it fails.
    """
    note(_shown(arguments))
    deadline = time.monotonic() + READY_SECONDS
    while True:
        done = subprocess.run(
            _ray(arguments), stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
        )
        if not done.returncode:
            return
        if NOT_READY not in done.stderr or time.monotonic() > deadline:
            said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            told = f"Ray does not take the job: {said[-1]}"
            hint = "dashboard_agent.log on the head says why; another Ray there may hold its port, 52365"
            raise InputError(told, *([hint] if NOT_READY in done.stderr else []))
        time.sleep(2)


def _ray(arguments: Sequence[str]) -> list[str]:
    return [str(Path(sys.executable).with_name("ray")), *arguments]


def _shown(arguments: Sequence[str]) -> str:
    return f"$ {shlex.join(['ray', *arguments])}"
