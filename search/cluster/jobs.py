"""Searches as Ray jobs, by Ray's own commands; each is printed before it runs, so you can also run it by hand."""

import http.client
import json
import os
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
from typing import Any

from data_prep.errors import InputError
from data_prep.store.files import join, list_sizes, read_bytes, write_bytes
from data_prep.store.object_store import is_uri, refuse_credentials
from data_prep.wording import command
from search.cluster.auth_token import TOKEN_PLACES, clear_text_warning, read_token
from search.cluster.place import Place
from search.study.read_study import choose_candidates, read_study
from search.study.study_file import Resources

HOME = "~/blendfold"
"""Folder of the code on the nodes of a cluster that our cluster files describe."""
TUNNEL_SECONDS = 60
ANSWER_SECONDS = 10
READY_SECONDS = 90
"""How long the head node of a new cluster may take until it accepts jobs."""
NOT_READY = "No available agent to submit job"
"""What Ray prints until then."""
LEFT_OUT = (".venv", ".git", "runs", "prepared", "bundles", "__pycache__", ".mypy_cache", ".ruff_cache")
"""What is not uploaded with a working directory."""
STAYS = ("weights", "checkpoints", "ray", "damaged")
"""What `fetch` leaves in a run directory; cluster files exclude the three large ones from every rsync."""

Note = Callable[[str], None]
RayCommand = Callable[[Sequence[str], Note], None]


@dataclass(frozen=True)
class SearchJob:
    """A submitted search."""

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
    submit: RayCommand | None = None,
) -> SearchJob:
    """Submit a study, and then the blend of its candidates, as a job that keeps running without this machine.

    Every node must be able to read `runs`, `data` (None: the study's) and `backbones`. None as `submit`: `submit_job`.

    Raises:
        InputError: wrong study or cluster file, a fold run fits no node, paths not shared, no answer, or Ray refuses.
    """
    read = read_study(study, data=data)
    if only is not None:
        choose_candidates(read, [name.strip() for name in only.split(",") if name.strip()])
    _check_shared({"--data": read.data, "--runs": runs, **({"--backbones": backbones} if backbones else {})})
    if place.cluster is not None:
        _check_room(read.resources.each(), place)
    job = SearchJob(f"{read.name}-{time.strftime('%Y%m%d-%H%M%S')}", join(runs, read.name))
    given: dict[str, object] = {"--data": data, "--runs": runs, "--backbones": backbones, "--only": only}
    there = f"studies/{Path(study).name}" if place.cluster else _within_clone(study)
    search = command("python -m search run", there, options=given)
    blend = f"{command('python -m blend fit', job.run_dir)} --name launched --clip --force"
    task = f"{search} && {blend} || [ $? -eq 3 ]"  # 3: a blend was written, with a warning
    if place.cluster is not None:
        run_ray(["rsync-up", place.cluster, study, f"{HOME}/{there}"], note)
        if read.candidates_from is not None:
            log = join(str(Path(study).parent), read.candidates_from)
            run_ray(["rsync-up", place.cluster, log, f"{HOME}/studies/{read.candidates_from}"], note)
        upload, task = [], f"cd {HOME} && {task}"
    else:
        upload = ["--working-dir", ".", "--runtime-env-json", json.dumps({"excludes": list(LEFT_OUT)})]
    with jobs_api(place, note) as api:
        metadata = json.dumps({"study": read.name, "run_dir": job.run_dir})
        submission = ["job", "submit", "--address", api, "--submission-id", job.name, "--metadata-json", metadata]
        (submit or submit_job)([*submission, "--no-wait", *upload, "--", "bash", "-c", task], note)
    return job


def _check_shared(paths: Mapping[str, str]) -> None:
    for path in paths.values():
        refuse_credentials(path)
    if faults := [
        f"{option} {path}: each node would look in its own folder"
        for option, path in paths.items()
        if not (is_uri(path) or Path(path).is_absolute())
    ]:
        raise InputError(
            *faults, "Use a path that every node can read: s3://BUCKET/... or the absolute path of a mounted folder."
        )


def _within_clone(study: str) -> str:
    """Return the path of a study relative to the working directory, which is uploaded."""
    inner = os.path.relpath(study)
    if inner.startswith("..") or not Path("search", "__main__.py").exists():
        raise InputError(
            f"{study}: with --address the working directory is uploaded to the cluster; run the command in the root of "
            "the clone, with a study file inside it"
        )
    return inner


def _check_room(sizes: list[Resources], place: Place) -> None:
    nodes = place.node_types()
    if faults := [
        f"{place.cluster}: no node type has room for a fold run with cpu={size.cpu:g}, gpu={size.gpu:g}"
        for size in sizes
        if nodes and not any(size.cpu <= node.cpu and size.gpu <= node.gpu for node in nodes)
    ]:
        has = "; ".join(f"{node.name}: cpu {node.cpu:g}, gpu {node.gpu:g}" for node in nodes)
        raise InputError(*faults, f"It has {has}. Lower `resources:` in the study, or use a larger node type.")


def follow(name: str | None, place: Place, note: Note) -> tuple[SearchJob, str]:
    """Show the log of a job until it ends; return the job and its status in Ray (`SUCCEEDED`, `RUNNING`, ...).

    The name is that of the job or of its study; None: the last one that `launch` submitted there.

    Raises:
        InputError: there is no such job, or nothing answers.
    """
    with jobs_api(place, note) as api:
        job = _job(_find(api, name))
        run_ray(["job", "logs", "--address", api, "--follow", job.name], note)
        return job, str(_find(api, job.name)["status"])


def stop(name: str | None, place: Place, note: Note) -> SearchJob:
    """Stop a job, named as for `follow`, and return it; what it has finished stays.

    Raises:
        InputError: there is no such job, or nothing answers.
    """
    with jobs_api(place, note) as api:
        job = _job(_find(api, name))
        run_ray(["job", "stop", "--address", api, job.name], note)
    return job


def latest(place: Place, name: str | None, note: Note) -> SearchJob:
    """Return a job, named as for `follow`; if several have that name, the last one.

    Raises:
        InputError: there is none, or nothing answers.
    """
    with jobs_api(place, note) as api:
        return _job(_find(api, name))


def fetch(job: SearchJob, place: Place, out: str, note: Note) -> None:
    """Copy tables, blends and the record of a run (no weights, checkpoints, logs) to local `out`; replaces files.

    Raises:
        InputError: this machine cannot reach the run directory.
    """
    Path(out).mkdir(parents=True, exist_ok=True)
    if is_uri(job.run_dir):
        note(f"copying {job.run_dir} to {out}")
        for name in list_sizes(job.run_dir):
            if name.split("/")[0] not in STAYS:
                write_bytes(read_bytes(join(job.run_dir, name)), join(out, name))
    elif place.cluster is not None:
        run_ray(["rsync-down", place.cluster, f"{job.run_dir}/", f"{out}/"], note)
    else:
        raise InputError(
            f"{job.run_dir}: this is a folder of the cluster, which cannot be reached through {place.address}. Copy it "
            "by hand, or launch with --runs s3://BUCKET/..., which can be read from here"
        )


def _find(api: str, name: str | None) -> dict[str, Any]:
    jobs = [job for job in ask(api, "/api/jobs/") if "run_dir" in (job.get("metadata") or {})]
    wanted = [job for job in jobs if name in (None, job["submission_id"], job["metadata"].get("study"))]
    if not wanted:
        known = ", ".join(sorted(job["submission_id"] for job in jobs)) or "none"
        raise InputError(f"no search {name or 'was launched'} there; known jobs: {known}")
    return max(wanted, key=lambda job: float(job["start_time"] or 0))


def _job(found: Mapping[str, Any]) -> SearchJob:
    return SearchJob(found["submission_id"], found["metadata"]["run_dir"])


# ---------------------------------------------------------------- reaching the jobs API


@contextmanager
def jobs_api(place: Place, note: Note) -> Iterator[str]:
    """Yield the URL of the jobs API: the address, or the local end of an SSH tunnel that is open during the block.

    Raises:
        InputError: nothing answers, or our token is refused; says why.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if place.address is not None:
        if warning := clear_text_warning(place.address):
            note(warning)
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
                f"Is it up? `{command('ray up', place.cluster)}` starts it; "
                f"`{command('ray exec', place.cluster, 'ray status')}` checks it.",
            ) from error
        return


class NoAnswerError(InputError):
    """Nothing answers at an address."""


def ask(api: str, path: str) -> Any:
    """Return the API's answer to a GET, as JSON; the request carries our token.

    Raises:
        NoAnswerError: nothing answers there.
        InputError: it refuses our token, or is not a jobs API.
    """
    token = read_token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"{api}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise InputError(
                f"{api}: {'refuses our token' if token else 'requires a token'}; {TOKEN_PLACES}"
            ) from error
        raise InputError(f"{api}{path}: answers {error.code} {error.reason}; is it the dashboard of Ray?") from error
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise NoAnswerError(f"{api}: nothing answers ({getattr(error, 'reason', error)})") from error
    except ValueError as error:
        raise InputError(f"{api}{path}: does not answer in JSON; is it the dashboard of Ray?") from error


def _free_port(wanted: int) -> int:
    for port in (wanted, 0):
        try:
            with socket.create_server(("127.0.0.1", port)) as server:
                return int(server.getsockname()[1])
        except OSError:
            continue
    raise InputError("this machine has no free port for a tunnel")


def run_ray(arguments: Sequence[str], note: Note) -> None:
    """Print a Ray command and run it; print its output, line by line.

    Raises:
        InputError: it fails.
    """
    note(_shown(arguments))
    with subprocess.Popen(
        _ray(arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        text=True,
        errors="replace",
    ) as running:
        for line in running.stdout or ():
            note(line.rstrip("\n"))
    if running.returncode:
        raise InputError(f"`{_shown(arguments)[2:]}` failed with exit code {running.returncode}; the reason is above")


def submit_job(arguments: Sequence[str], note: Note) -> None:
    """Print and run a command that submits a job; wait for a head node that has just started and is not ready.

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
            refusal = f"Ray did not accept the job: {said[-1]}"
            hint = "dashboard_agent.log on the head node says why; another Ray there may hold its port, 52365"
            raise InputError(refusal, *([hint] if NOT_READY in done.stderr else []))
        time.sleep(2)


def _ray(arguments: Sequence[str]) -> list[str]:
    return [str(Path(sys.executable).with_name("ray")), *arguments]


def _shown(arguments: Sequence[str]) -> str:
    return f"$ {command('ray', *arguments)}"
