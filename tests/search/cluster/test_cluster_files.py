"""The shipped cluster files: Ray accepts them, fold runs of the shipped studies fit, no port is open to the world."""

import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from typer.main import get_command

from data_prep.errors import InputError
from search.__main__ import app
from search.cluster.aws import set_up
from search.cluster.machines import read_cluster, read_machines
from search.study.read_study import read_study

ROOT = Path(__file__).parents[3]
FILES = ["cluster.yaml", "clusters/on-prem.yaml"]
GPU_STUDIES = ["studies/pppm.yaml", "studies/memo-a.yaml", "studies/memo-b.yaml"]


def load(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return content


@pytest.mark.parametrize("name", FILES)
def test_ray_accepts_the_file(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    prepared = prepare_config(load(name))
    validate_config(prepared)
    with pytest.raises(Exception, match="unknown_key"):
        validate_config({**prepared, "unknown_key": 1})


@pytest.mark.parametrize("name", FILES)
def test_what_travels_is_there_and_is_all_that_the_code_needs(name: str) -> None:
    mounts = load(name)["file_mounts"]
    code = {there: here for there, here in mounts.items() if there.startswith("~/blendfold/")}
    assert all((ROOT / here).exists() and there == f"~/blendfold/{here}" for there, here in code.items())
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {pattern.removesuffix("*") for pattern in setuptools["packages"]["find"]["include"]}
    assert {"data_prep", "models", "search", "blend", "blendfold"} == packages
    assert {*packages, "studies", "clusters", "pyproject.toml", "requirements.lock"} <= set(code.values())
    assert set(mounts) - set(code) == {"~/.ray/auth_token"}


def test_what_ray_needs_to_start_machines_of_aws_is_in_the_lock() -> None:
    lock = (ROOT / "requirements.lock").read_text().splitlines()
    assert {"boto3", "ray"} <= {line.split("==")[0] for line in lock}


@pytest.mark.parametrize("name", FILES)
def test_ray_asks_for_a_token_and_its_dashboard_is_for_the_head_alone(name: str) -> None:
    content = load(name)
    starts = [content["head_start_ray_commands"][-1], content["worker_start_ray_commands"][-1]]
    for command in starts:
        assert "RAY_AUTH_MODE=token ray start" in command
        assert "--disable-usage-stats" in command
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert "ray-client-server-port" not in starts[0]
    assert not re.search(r"[0-9a-f]{64}|AKIA|aws_secret", (ROOT / name).read_text())


@pytest.mark.parametrize("study", GPU_STUDIES)
def test_fold_runs_of_the_gpu_studies_fit_the_workers(study: str) -> None:
    head, worker = read_cluster(ROOT / "cluster.yaml", read_machines())
    sizes = read_study(ROOT / study).resources.each()
    assert all(size.cpu <= worker.cpu and size.gpu <= worker.gpu for size in sizes)
    assert (head.cpu, head.gpu, head.most, worker.most) == (0, 0, 1, 8), "the head trains nothing"
    assert worker.spot
    assert worker.dollars_per_hour is not None


def test_the_rayjob_runs_our_command_line_in_rays_version_and_asks_for_a_token() -> None:
    job = load("clusters/kuberay.yaml")
    cluster = job["spec"]["rayClusterSpec"]
    lock = (ROOT / "requirements.lock").read_text()
    assert f"ray=={cluster['rayVersion']}\n" in lock.replace("ray[default,tune]==", "ray==")
    assert f"rayproject/ray:{cluster['rayVersion']}-" in (ROOT / "clusters" / "Dockerfile").read_text()
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (group,) = cluster["workerGroupSpecs"]
    requests = group["template"]["spec"]["containers"][0]["resources"]["requests"]
    for size in read_study(ROOT / "studies" / "pppm.yaml").resources.each():
        assert size.cpu <= float(requests["cpu"])
        assert size.gpu <= float(requests["nvidia.com/gpu"])
    shell, option, script = shlex.split(job["spec"]["entrypoint"])
    assert (shell, option) == ("bash", "-c")
    folder, search, blend = (shlex.split(part) for part in script.split("&&"))
    assert folder[0] == "cd"
    assert blend[:4] == ["python", "-m", "blend", "fit"]
    run = get_command(app).commands["run"]  # type: ignore[attr-defined]
    assert search[:4] == ["python", "-m", "search", "run"]
    given = run.make_context("run", search[4:]).params
    assert (ROOT / given["study"]).exists()
    assert given["data"].startswith("/shared/")
    assert given["runs"] == "/shared/runs"


def test_a_nodes_setup_installs_once_and_fails_loudly(tmp_path: Path) -> None:
    home, tools = tmp_path / "home", tmp_path / "tools"
    (home / ".ray").mkdir(parents=True)
    tools.mkdir()
    calls = tmp_path / "calls"
    (tools / "python3").write_text(
        f"""#!/bin/bash
echo "$@" >> {calls}
[ -e {tmp_path}/broken ] && [[ "$*" == *requirements.lock* ]] && exit 1
case "$*" in *"-m venv"*) mkdir -p {home}/blendfold-env/bin && cp "$0" {home}/blendfold-env/bin/python;; esac
exit 0
"""
    )
    (tools / "python3").chmod(0o755)

    def set_node_up() -> "subprocess.CompletedProcess[str]":
        calls.unlink(missing_ok=True)
        return subprocess.run(
            ["bash", str(ROOT / "clusters" / "setup.sh")],
            env={"HOME": str(home), "PATH": f"{tools}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )

    (home / ".bashrc").write_text('[ -z "$PS1" ] && return\n')
    missing = set_node_up()
    assert missing.returncode != 0
    assert "no token" in missing.stderr
    (home / "blendfold-env.stamp").unlink()
    (home / ".ray" / "auth_token").write_text("t")
    (tmp_path / "broken").touch()
    assert set_node_up().returncode != 0
    assert not (home / "blendfold-env.stamp").exists(), "what failed is not taken for done"
    (tmp_path / "broken").unlink()
    assert set_node_up().returncode == 0
    assert "pip install --quiet --disable-pip-version-check -r requirements.lock" in calls.read_text()
    assert (home / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
    assert (home / ".bashrc").read_text().splitlines()[0] == 'export PATH="$HOME/blendfold-env/bin:$PATH"'
    assert set_node_up().returncode == 0
    assert not calls.exists(), "the second time nothing is installed"
    assert (home / ".bashrc").read_text().count("blendfold-env") == 1


# ---------------------------------------------------------------- AWS, as moto plays it


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    import boto3
    from moto import mock_aws

    monkeypatch.setenv("HOME", str(tmp_path))
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
    with mock_aws():
        yield boto3


def an_image(aws: Any) -> str:
    """Return an image in place of Amazon's, which moto does not know."""
    ec2 = aws.client("ec2")
    snapshot = ec2.create_snapshot(VolumeId=ec2.create_volume(Size=1, AvailabilityZone="us-west-2a")["VolumeId"])
    return str(
        ec2.register_image(
            Name="base",
            RootDeviceName="/dev/sda1",
            BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": snapshot["SnapshotId"]}}],
        )["ImageId"]
    )


def test_what_aws_needs_is_made_once_and_raylets_start_behind_a_closed_group(
    aws: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    image = an_image(aws)
    path = tmp_path / "cluster.yaml"
    path.write_text((ROOT / "cluster.yaml").read_text())
    told: list[str] = []
    for _ in range(2):
        set_up(
            "my-blendfold",
            str(path),
            region="us-west-2",
            ssh_from="203.0.113.7/32",
            note=told.append,
            find_image=lambda *_: image,
        )
    assert sum(sentence.startswith("made ") for sentence in told) == 4, "bucket, group and two roles, once"
    monkeypatch.chdir(ROOT)
    (tmp_path / ".ssh").mkdir()
    config = bootstrap_aws(prepare_config(yaml.safe_load(path.read_text())))
    ec2 = aws.client("ec2")
    kinds = config["available_node_types"]
    assert {kind["node_config"]["ImageId"] for kind in kinds.values()} == {image}
    groups = {group for kind in kinds.values() for group in kind["node_config"]["SecurityGroupIds"]}
    (group,) = ec2.describe_security_groups(GroupIds=list(groups))["SecurityGroups"]
    admitted = [address["CidrIp"] for rule in group["IpPermissions"] for address in rule["IpRanges"]]
    assert admitted == ["203.0.113.7/32"]
    iam = aws.client("iam")
    workers = iam.get_role_policy(RoleName="blendfold-worker", PolicyName="blendfold-worker")["PolicyDocument"]
    assert {action.split(":")[0] for part in workers["Statement"] for action in part["Action"]} == {"s3"}
    assert {kinds[name]["node_config"]["IamInstanceProfile"]["Name"] for name in kinds} == {
        "blendfold-head",
        "blendfold-worker",
    }
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    tags = {"ray-node-type": "worker", "ray-launch-config": "x", "ray-node-status": "uninitialized"}
    provider.create_node(kinds["gpu_worker"]["node_config"], {**tags, "ray-user-node-type": "gpu_worker"}, 1)
    (reservation,) = ec2.describe_instances()["Reservations"]
    (machine,) = reservation["Instances"]
    assert machine["InstanceType"] == "g6.2xlarge"
    assert machine["InstanceLifecycle"] == "spot"


def test_the_internet_is_never_let_in_and_nothing_is_made_for_a_file_that_cannot_be_filled_in(
    aws: Any, tmp_path: Path
) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text((ROOT / "cluster.yaml").read_text())
    for everyone in ("0.0.0.0/0", "10.0.0.0/8", "me"):
        with pytest.raises(InputError, match=r"expected your own address as A\.B\.C\.D/32"):
            set_up("my-blendfold", str(path), region="us-west-2", ssh_from=everyone, note=print)
    path.write_text("cluster_name: x")
    with pytest.raises(InputError, match="has no line with `region: `"):
        set_up("my-blendfold", str(path), region="us-west-2", ssh_from="203.0.113.7/32", note=print)
    assert aws.client("s3").list_buckets()["Buckets"] == []
