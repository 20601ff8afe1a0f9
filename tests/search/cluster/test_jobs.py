"""Jobs of a cluster: what is refused before anything is sent, messages when nothing answers, which job is meant.

`test_loopback_cluster` runs them.
"""

import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_prep.errors import InputError
from search.cluster import jobs
from search.cluster.jobs import SearchJob, fetch, latest, launch
from search.cluster.place import Place

ROOT = Path(__file__).parents[3]
TOKEN = "a-token"


def job(name: str, study: str, start: int) -> dict[str, Any]:
    metadata = {"study": study, "run_dir": f"/shared/runs/{study}"}
    return {"submission_id": name, "metadata": metadata, "start_time": start, "status": "RUNNING"}


JOBS = [
    job("demo-1", "demo", 10),
    job("demo-2", "demo", 30),
    job("other-1", "other", 20),
    {"submission_id": "someone-elses", "metadata": None, "start_time": 99, "status": "RUNNING"},
]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """Return the address of what answers as Ray's dashboard does."""

    class Dashboard(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers.get("Authorization")
            code = 200 if known == f"Bearer {TOKEN}" else 403 if known else 401
            self.send_response(404 if self.path == "/api/gone" else code)
            self.end_headers()
            self.wfile.write(b"<html>" if self.path == "/api/page" else json.dumps(JOBS).encode())

        def log_message(self, *_: Any) -> None:
            pass

    (tmp_path / "token").write_text(f"{TOKEN}\n")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Dashboard) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def never(arguments: Sequence[str], _: object) -> None:
    pytest.fail(f"sent {arguments}")


def write_study(folder: Path, **changes: Any) -> str:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "data": "/shared/prepared", "candidates": {"a": {}}, **changes}))
    return str(path)


def test_a_job_is_named_by_itself_by_its_study_or_not_at_all(api: str) -> None:
    place = Place(None, api)
    assert latest(place, None, print) == SearchJob("demo-2", "/shared/runs/demo")
    assert latest(place, "demo", print).name == "demo-2"
    assert latest(place, "demo-1", print).name == "demo-1"
    assert latest(place, "other", print).name == "other-1"
    with pytest.raises(InputError, match=r"no search someone-elses there; known jobs: demo-1, demo-2, other-1"):
        latest(place, "someone-elses", print)


def test_what_answers_otherwise_is_told_in_a_sentence(
    api: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="answers 404"):
        jobs.ask(api, "/api/gone")
    with pytest.raises(InputError, match="does not answer in JSON"):
        jobs.ask(api, "/api/page")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another")
    with pytest.raises(InputError, match=r"refuses our token; it is read from RAY_AUTH_TOKEN") as refusal:
        jobs.ask(api, "/api/jobs/")
    assert "another" not in str(refusal.value)
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"requires a token"):
        jobs.ask(api, "/api/jobs/")
    with pytest.raises(InputError, match=r"http://127.0.0.1:9: nothing answers"):
        latest(Place(None, "http://127.0.0.1:9"), None, print)


def test_a_job_is_search_then_blend_with_all_that_was_said(
    api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "__main__.py").touch()
    monkeypatch.chdir(tmp_path)
    sent: list[list[str]] = []
    given = {"runs": "s3://b/runs", "data": "s3://b/it's here", "backbones": "/shared/weights", "only": "a"}
    found = launch(
        write_study(tmp_path), Place(None, api), **given, note=print, submit=lambda command, _: sent.append([*command])
    )
    assert found.run_dir == "s3://b/runs/mine"
    (command,) = sent
    assert command[:4] == ["job", "submit", "--address", api]
    assert command[command.index("--submission-id") + 1] == found.name
    assert json.loads(command[command.index("--metadata-json") + 1])["run_dir"] == found.run_dir
    assert json.loads(command[command.index("--runtime-env-json") + 1])["excludes"][0] == ".venv"
    script = command[-1]
    search, blend = script.split(" && ")
    assert search == (
        "python -m search run mine.yaml --data 's3://b/it'\"'\"'s here' --runs s3://b/runs --backbones /shared/weights "
        "--only a"
    )
    assert blend == "python -m blend fit s3://b/runs/mine --name launched --clip --force || [ $? -eq 3 ]"


@pytest.mark.parametrize(
    ("changes", "given", "message"),
    [
        ({"data": "prepared/x"}, {}, "--data prepared/x: each node would look in its own folder"),
        ({}, {"runs": "runs"}, "--runs runs: each node"),
        ({}, {"backbones": "w"}, "--backbones w: each node"),
        ({}, {"only": "b"}, "--only b: no such name"),
        ({"budget": {"days": 1}}, {}, "days"),
        ({}, {}, "mine.yaml: with --address the working directory is uploaded"),
    ],
)
def test_what_could_not_run_is_not_sent(
    changes: dict[str, Any], given: dict[str, str], message: str, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"runs": "/shared/runs", "data": None, "backbones": None, "only": None, **given}
    with pytest.raises(InputError, match=message):
        launch(write_study(tmp_path, **changes), Place(None, "http://127.0.0.1:9"), **asked, note=print, submit=never)


def test_a_fold_run_that_fits_no_node_is_refused_before_anything_is_rented(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "runs": "/shared",
        "data": None,
        "backbones": None,
        "only": None,
    }
    study = write_study(tmp_path, resources={"cpu": 4, "gpu": 2})
    place = Place(str(ROOT / "cluster.yaml"), None)
    with pytest.raises(InputError, match=r"no node type has room .* cpu=4, gpu=2\nIt has head: .*gpu_worker"):
        launch(study, place, **given, note=print, submit=never)


@pytest.mark.parametrize(
    ("content", "message"), [("- a", "must hold"), ("name: x", "not a cluster file"), ("a: [", "")]
)
def test_what_is_no_cluster_file_is_named(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=f"{path}: .*{message}"):
        Place(str(path), None)


def test_a_place_is_a_cluster_file_or_a_dashboard(tmp_path: Path) -> None:
    for cluster, address in ((None, None), ("cluster.yaml", "http://h:8265")):
        with pytest.raises(InputError, match=r"say where: --cluster FILE .*, or --address"):
            Place(cluster, address)
    for address in ("10.0.0.1:6379", "http://host:port", "http://me:secret@host", "http://secret@host", "http://h?a=b"):
        with pytest.raises(InputError, match=r"jobs are submitted to the dashboard, http://HOST:PORT") as refused:
            Place(None, address)
        assert "secret" not in str(refused.value)
    with pytest.raises(InputError, match="cannot be read"):
        Place(str(tmp_path / "none.yaml"), None)


def test_tables_come_home_and_weights_stay(api: str, tmp_path: Path) -> None:
    run_dir = tmp_path / "there"
    for name in (
        "study.yaml",
        "oof/c/fold-0.arrow",
        "blends/x/submission.csv",
        "weights/c/w",
        "ray/s/x",
        "checkpoints/c",
    ):
        (run_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (run_dir / name).write_text(name)
    place, home = Place(None, api), tmp_path / "home"
    fetch(SearchJob("j", f"file://{run_dir}"), place, str(home), print)
    came = sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())
    assert came == ["blends/x/submission.csv", "oof/c/fold-0.arrow", "study.yaml"]
    with pytest.raises(InputError, match=r"a folder of the cluster, which cannot be reached through"):
        fetch(SearchJob("j", "/shared/runs/mine"), place, str(home), print)
