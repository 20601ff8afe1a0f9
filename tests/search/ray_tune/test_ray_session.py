"""Refusals before anything starts: no cluster, no room, a node that lacks something. A live one is in test_runner."""

import importlib.metadata
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from data_prep.errors import InputError
from data_prep.prepared import Prepared
from search.ray_tune.ray_session import check_machine, check_nodes, ray_session, refusal
from search.study.read_study import resolve_study
from search.study.study_file import ResolvedStudy, Study
from search.worker.node_check import NodeChecker, Requirements, requirements_of

VERSION = importlib.metadata.version("blendfold")


@pytest.fixture
def study(prepared_tiny: Prepared) -> ResolvedStudy:
    content = {"name": "s", "data": prepared_tiny.path, "candidates": {"a": {}}, "resources": {"cpu": 2, "gpu": 1}}
    return resolve_study(Study.model_validate(content), prepared_tiny)


def connect(study: ResolvedStudy, address: str | None, run_dir: str = "runs/s") -> list[str]:
    """Return what was noted."""
    notes: list[str] = []
    with ray_session(study, run_dir, address=address, backbones=None, dashboard=False, message=notes.append):
        return notes


@pytest.mark.parametrize("address", ["nonsense", "ray://127.0.0.1:10001", "http://127.0.0.1:8265", "local", ":6379"])
def test_an_address_is_host_and_port(address: str, study: ResolvedStudy) -> None:
    with pytest.raises(InputError, match=r"expected `auto`, or host:port.*ray job submit"):
        connect(study, address)


def test_where_nothing_listens_the_search_ends_at_once(study: ResolvedStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(InputError, match=f"127.0.0.1:{port}: no Ray cluster is there .*ray start --head"):
        connect(study, f"127.0.0.1:{port}")
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    with pytest.raises(InputError, match=r"no Ray cluster is there .* or unset RAY_ADDRESS, which names it"):
        connect(study, None)
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    with pytest.raises(InputError, match=r"expected `auto`, or host:port .* unset RAY_ADDRESS, which names it"):
        connect(study, None)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ray.exceptions.AuthenticationError("no token"), "Set RAY_AUTH_MODE=token"),
        (
            TimeoutError("no answer\nwithin 5 s"),
            "cannot connect to a Ray cluster there (ConnectionError: no connection)",
        ),
    ],
)
def test_a_refusal_of_a_cluster_is_one_sentence(error: Exception, message: str) -> None:
    refused = ConnectionError("no connection")
    refused.__cause__ = error
    assert message in refusal("10.0.0.1:6379", refused)
    assert "\n" not in refusal("10.0.0.1:6379", refused)


def test_a_fold_run_that_does_not_fit_this_machine_is_refused(study: ResolvedStudy) -> None:
    check_machine(study, {"CPU": 2.0, "GPU": 1.0})
    for has in ({"CPU": 2.0}, {"CPU": 1.0, "GPU": 1.0}):
        with pytest.raises(InputError, match="cpu=2, gpu=1 does not fit this machine"):
            check_machine(study, has)


def test_a_cluster_without_room_is_waited_for_and_nodes_that_lack_something_are_named(
    study: ResolvedStudy, tmp_path: Path
) -> None:
    nodes = [
        {"Resources": {"CPU": 0.0}, "name": "head"},
        {"Resources": {"CPU": 2.0}, "name": "small"},
        {"Resources": {"CPU": 8.0, "GPU": 2.0}, "name": "large"},
    ]
    requirements = requirements_of(str(tmp_path), data=study.data, backbones=None)
    asked: list[str] = []

    def missing_on(some: Sequence[Mapping[str, Any]], needs: Requirements) -> list[str]:
        assert needs is requirements
        asked.extend(node["name"] for node in some)
        return [f"node {node['name']}: no such file" for node in some]

    messages: list[str] = []
    check_nodes(study, requirements, nodes[:2], message=messages.append, missing_on=missing_on)
    assert asked == []
    assert "waiting until one joins" in messages[0]
    with pytest.raises(InputError, match="node large: no such file\nEvery node needs this version"):
        check_nodes(study, requirements, nodes, message=messages.append, missing_on=missing_on)
    assert asked == ["large"]
    assert len(messages) == 1


def test_what_a_node_lacks_is_named_all_of_it(tmp_path: Path, prepared_tiny: Prepared) -> None:
    run_dir, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    for folder in (run_dir, elsewhere):
        folder.mkdir()
    (run_dir / "study.yaml").write_text("name: s")
    needs = requirements_of(str(run_dir), data=prepared_tiny.path, backbones=str(tmp_path))
    found = [path for path, digest in needs.files if digest]
    assert found == [f"{prepared_tiny.path}/manifest.json", str(run_dir / "study.yaml")]
    assert NodeChecker().check(needs) == []
    assert [path.name for path in run_dir.iterdir()] == ["study.yaml"], "what was written to try is gone"
    assert NodeChecker().check(replace(needs, code="")) == [
        "its code differs from the driver's; `ray up` copies the changes to every node"
    ]
    (run_dir / "study.yaml").write_text("name: other")
    lacking = replace(needs, version="0.0.1", folders=(str(tmp_path / "none"),))
    manifest = (str(elsewhere / "manifest.json"), needs.files[0][1])
    assert NodeChecker().check(replace(lacking, files=(manifest, needs.files[1]))) == [
        f"blendfold {VERSION} is installed, the driver runs 0.0.1",
        f"{manifest[0]}: no such file",
        f"{run_dir / 'study.yaml'}: is not the driver's file",
        f"{tmp_path / 'none'}: no such folder",
    ]


def test_a_run_directory_that_a_node_cannot_write_is_named(tmp_path: Path, prepared_tiny: Prepared) -> None:
    (tmp_path / "study.yaml").write_text("name: s")
    needs = requirements_of(str(tmp_path), data=prepared_tiny.path, backbones=None)
    (tmp_path / "file").touch()
    (fault,) = NodeChecker().check(replace(needs, run_dir=str(tmp_path / "file" / "run")))
    assert "cannot be written" in fault
