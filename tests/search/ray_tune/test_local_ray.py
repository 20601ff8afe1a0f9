"""A Ray that does not start on this machine is explained: what it said, which log says why, what to change."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray

from data_prep.errors import InputError
from search.ray_tune import local_ray
from search.ray_tune.local_ray import start_ray
from search.ray_tune.ray_errors import NoRayError

SESSION = """
from types import SimpleNamespace
from search.ray_tune.ray_session import prepare_environment, ray_session
from search.study.study_file import StudyResources
prepare_environment()
import ray, psutil
study, me = SimpleNamespace(resources=StudyResources(cpu=1)), psutil.Process()
with ray_session(study, "", address=None, backbones=None, dashboard=True, message=print, n_cores=1):
    ray.get(ray.remote(lambda: 5).remote())
    for process in [me, *me.children(recursive=True)]:
        for socket in process.net_connections("inet"):
            if socket.status == "LISTEN":
                print("listens", socket.laddr.ip)
print("left:", me.children(recursive=True))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    return tmp_path / "ray"


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def init(**_: object) -> None:
        raise error

    monkeypatch.setattr(ray, "init", init)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (
            OSError("validate_socket_filename failed: AF_UNIX path length cannot exceed 107 bytes: /x"),
            "set RAY_TMPDIR to a",
        ),
        (OSError(28, "No space left on device", "/tmp/ray"), "where RAY_TMPDIR says"),
        (PermissionError(13, "Permission denied", "/tmp/ray"), "where RAY_TMPDIR says"),
        (socket.gaierror(-2, "Name or service not known"), "/etc/hosts"),
        (ray.exceptions.AuthenticationError("Token authentication is enabled"), "RAY_AUTH_TOKEN_PATH names the file"),
    ],
)
def test_what_another_try_cannot_heal_says_what_to_change(
    error: Exception, advice: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, error)
    with pytest.raises(InputError, match="Ray did not start on this machine: ") as refused:
        start_ray()
    assert advice in str(refused.value)


def test_what_may_heal_names_the_log_that_says_why(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, Exception("The current node timed out during startup."))
    with pytest.raises(NoRayError, match=rf"timed out during startup.*it left no log in {folder}"):
        start_ray()
    logs = folder / f"session_2026-01-01_00-00-00_000000_{os.getpid()}" / "logs"
    logs.mkdir(parents=True)
    (logs / "raylet.out").write_text("[2026 I 1 1] (raylet) fine\n")
    with pytest.raises(NoRayError, match=rf"its logs are in {logs}"):
        start_ray()
    (logs / "gcs_server.out").write_text("[2026 E 1 1] (gcs) first\n[2026 C 1 1] (gcs) cannot bind\n[2026 I 1 1] bye\n")
    with pytest.raises(NoRayError, match=rf"{logs}/gcs_server\.out says: \[2026 C 1 1\] \(gcs\) cannot bind"):
        start_ray()


def test_a_start_without_end_has_a_deadline(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        while True:
            time.sleep(0.01)

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(local_ray, "START_SECONDS", 0.1)
    with pytest.raises(NoRayError, match=r"Ray did not start on this machine: .*has been starting for 0\.1 seconds"):
        start_ray()


def test_a_full_folder_is_refused_before_ray_waits_for_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_ray, "ROOM_BYTES", 2**60)
    with pytest.raises(InputError, match=rf"keeps logs and sockets in {folder}, where .* MB are free"):
        start_ray()


@pytest.mark.ray
def test_a_local_ray_listens_on_loopback_only_with_a_private_token_and_leaves_nothing_behind(tmp_path: Path) -> None:
    given = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_A", "RAY_T"))}
    done = subprocess.run(
        [sys.executable, "-c", SESSION],
        env={**given, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    listening = [line for line in lines if line.startswith("listens")]
    assert len(listening) > 5
    assert {line.removeprefix("listens ").removeprefix("::ffff:") for line in listening} == {"127.0.0.1"}
    assert lines[-1] == "left: []"
    token = tmp_path / ".ray" / "auth_token"
    assert [oct(path.stat().st_mode)[-3:] for path in (token.parent, token)] == ["700", "600"]
