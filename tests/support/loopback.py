"""A cluster of three nodes on the loopback addresses of this machine, brought up by `ray up` over SSH.

The file that it is brought up from is `clusters/on-prem.yaml` with other addresses. What a machine of one's own has and
three that share one lack is put in their place: an sshd that listens on 127.0.0.2 to .4 alone, a home folder and a
session folder of its own, a `ray stop` that ends only this cluster's processes.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
HEAD, WORKERS = "127.0.0.2", ("127.0.0.3", "127.0.0.4")
SSHD = "/usr/sbin/sshd"
RAY_STOP = """#!/bin/bash
[ "$1" != stop ] && exec {ray} "$@"
mine() {{
  for p in /proc/[0-9]*; do ls -l $p/fd 2>/dev/null | grep -q "{session}/session_" && echo "${{p#/proc/}}"; done
}}
for name in TERM TERM KILL; do
  pids=$(mine); [ -z "$pids" ] && exit 0
  kill -$name $pids 2>/dev/null
  for _ in 1 2 3 4 5 6 7 8; do [ -z "$(mine)" ] && exit 0; sleep 0.5; done
done
"""
SSH = """#!/bin/bash
# ssh takes ~ from the password file, not from HOME
given=(); for word in "$@"; do given+=("${word/#\\~\\//$HOME/}"); done
exec /usr/bin/ssh "${given[@]}"
"""


def reason_against() -> str:
    """Return why such a cluster cannot be brought up here, empty where it can."""
    if os.geteuid() != 0:
        return "an sshd that gives terminals has to be started by root"
    if missing := [tool for tool in (SSHD, "rsync", "ssh", "flock") if shutil.which(tool) is None]:
        return f"needs {', '.join(missing)} (packages openssh-server, rsync, openssh-client, util-linux)"
    with contextlib.ExitStack() as stack:
        try:
            for address in (HEAD, *WORKERS):
                stack.enter_context(socket.create_server((address, 22)))
        except OSError as error:
            return f"port 22 of 127.0.0.2 to 127.0.0.4 is not free ({error})"
    return ""


@dataclass(frozen=True)
class Loopback:
    """The folder with everything that the cluster and its user own."""

    folder: Path
    dashboard: int
    gcs: int

    @property
    def file(self) -> Path:
        """The cluster file."""
        return self.folder / "cluster.yaml"

    @property
    def session(self) -> Path:
        """Where Ray keeps what belongs to this cluster."""
        return self.folder / "rt" / "ray"

    @property
    def environment(self) -> dict[str, str]:
        """The user's environment."""
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith("RAY_")},
            "HOME": str(self.folder / "client"),
            "RAY_TMPDIR": str(self.folder / "client_tmp"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    def ray(self, *arguments: str, timeout: float = 180) -> str:
        """Run a command of Ray as the user and return what it prints."""
        return self.call([str(Path(sys.executable).with_name("ray")), *arguments], timeout=timeout)

    def call(self, command: list[str], *, timeout: float = 180) -> str:
        """Run a command as the user, from the root of the clone, and return what it prints."""
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}"
        return done.stdout

    def processes(self, word: str = "", address: str = "") -> list[int]:
        """Return the processes of the cluster whose command line holds a word and an address."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                line = (process / "cmdline").read_bytes().decode(errors="replace")
                mine = any(str(self.session) in str(file.readlink()) for file in (process / "fd").iterdir())
                if mine and word in line and address in line:
                    found.append(int(process.name))
        return found


@contextlib.contextmanager
def loopback(folder: Path) -> Iterator[Loopback]:
    """Bring the cluster up, and down at the end; nothing of it is left."""
    place = Loopback(folder, _free_port(), _free_port())
    sshd = _prepare(place)
    try:
        place.ray("up", "--no-config-cache", "-y", str(place.file))
        yield place
    finally:
        try:
            place.ray("down", "-y", str(place.file))
        finally:
            for pid in place.processes():  # the workers' raylets would go by themselves a minute later
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            sshd.terminate()
            sshd.wait()


def _prepare(place: Loopback) -> "subprocess.Popen[bytes]":
    folder, home = place.folder, place.folder / "home"
    for name in ("home/bin", "client/.ray", "client_tmp"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o700)
    Path("/run/sshd").mkdir(exist_ok=True)
    for key in ("hostkey", "id"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
    shutil.copy(folder / "id.pub", folder / "authorized_keys")
    token = folder / "client" / ".ray" / "auth_token"
    token.touch(0o600)
    token.write_text(secrets.token_hex(32))
    environment = Path(sys.prefix)
    (home / "blendfold-env").symlink_to(environment)
    wanted = subprocess.run(
        ["sha256sum", "requirements.lock", "pyproject.toml"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (home / "blendfold-env.stamp").write_text(wanted.stdout)
    (home / ".bashrc").write_text(
        f'export PATH="$HOME/blendfold-env/bin:$PATH"\nexport PATH="{home}/bin:$PATH"\n',
    )
    (home / "bin" / "ray").write_text(RAY_STOP.format(ray=environment / "bin" / "ray", session=place.session))
    (home / "bin" / "ssh").write_text(SSH)
    for tool in (home / "bin").iterdir():
        tool.chmod(0o755)
    place.file.write_text(yaml.safe_dump(_cluster_file(place), sort_keys=False))
    (folder / "sshd_config").write_text(
        "Port 22\n"
        + "".join(f"ListenAddress {address}\n" for address in (HEAD, *WORKERS))
        + f"HostKey {folder}/hostkey\nPidFile none\nAuthorizedKeysFile {folder}/authorized_keys\n"
        "StrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\n"
        f"SetEnv HOME={home} RAY_TMPDIR={folder}/rt RAY_USAGE_STATS_ENABLED=0 OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 "
        "RAY_worker_niceness=0\n"
    )
    sshd = subprocess.Popen([SSHD, "-D", "-f", str(folder / "sshd_config"), "-E", str(folder / "sshd.log")])
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((WORKERS[-1], 22), timeout=1):
            return sshd
        time.sleep(0.1)
    raise AssertionError((folder / "sshd.log").read_text())


def _cluster_file(place: Loopback) -> dict[str, Any]:
    """Return `clusters/on-prem.yaml` for this machine: other addresses and ports, a core for each worker."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "clusters" / "on-prem.yaml").read_text())
    content["cluster_name"] = f"loopback-{os.getpid()}"
    content["provider"] |= {"head_ip": HEAD, "worker_ips": list(WORKERS)}
    content["auth"] = {"ssh_user": "root", "ssh_private_key": str(place.folder / "id")}
    head, worker = content["head_start_ray_commands"], content["worker_start_ray_commands"]
    head[-1] = head[-1].replace("6379", str(place.gcs)) + (
        f" --node-ip-address={HEAD} --dashboard-port={place.dashboard} --ray-client-server-port={_free_port()}"
        f" --dashboard-agent-listen-port={_free_port()}"
    )
    # raylets that start in the same second on one machine collide; `ray stop` would end the others', too
    join = worker[-1].replace("6379", str(place.gcs)).replace("ray start", f"flock -o {place.folder}/lock ray start")
    worker[:] = [
        f"{join} --node-ip-address=$(echo $SSH_CONNECTION | cut -d' ' -f3) --num-cpus=1 --dashboard-agent-listen-port=0"
    ]
    return content


def _free_port() -> int:
    """Return a free port outside the range of Ray's workers."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = int(server.getsockname()[1])
        if not 10002 <= port <= 19999:
            return port
