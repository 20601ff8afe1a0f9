"""What TensorBoard and MLflow get of a run directory, once and again."""

import math
import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tensorboardX.proto.event_pb2 import Event
from typer.testing import CliRunner

from data_prep.errors import InputError
from data_prep.prepared import Prepared
from data_prep.store.oof_store import OofStore
from models.candidate import Candidate
from search.__main__ import app
from search.ladder.decisions import CandidateStatus
from search.run_dir.status_file import write_statuses
from search.watch.tensorboard import write_event_files
from search.watch.tracked_run import read_tracked
from written_run import WrittenRun

Curve = list[tuple[int, float]]


@pytest.fixture
def record(tmp_path: Path, prepared_tiny: Prepared) -> WrittenRun:
    """Return a run directory with one candidate on two folds and one that died and was tried again."""
    run_dir = tmp_path / "runs" / "s"
    run_dir.mkdir(parents=True)
    (run_dir / "study.yaml").write_text(yaml.safe_dump({"name": "s", "data": prepared_tiny.path}))
    record = WrittenRun(str(run_dir), prepared_tiny)
    good, dying = record.add(1), record.add(2)
    record.point(good, 0, 0.5, 0.6)
    record.point(good, 0, 1.0, 0.7)
    record.point(dying, 0, 0.5, math.nan)
    record.point(good, 1, 1.0, 0.8)
    write_statuses(record.path, {good.id: CandidateStatus("running", "goes on")})
    return record


def name(candidate: Candidate) -> str:
    return f"{candidate.label}-{candidate.id[:6]}"


# TensorBoard


def events(folder: Path) -> Iterator[Any]:
    """Yield the events of the one file of a folder, as TensorBoard reads them."""
    (file,) = folder.glob("*tfevents*")
    content = file.read_bytes()
    place = 0
    while place < len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        yield Event.FromString(content[place + 12 : place + 12 + length])
        place += 12 + length + 4


def scalars(folder: Path) -> dict[str, Curve]:
    found: dict[str, Curve] = defaultdict(list)
    for event in events(folder):
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found[value.tag].append((event.step, pytest.approx(value.simple_value, nan_ok=True)))
    return found


def test_tensorboard_gets_curves_settings_and_only_what_changed(record: WrittenRun, tmp_path: Path) -> None:
    good, dying = record.candidates
    out = tmp_path / "tb"
    assert write_event_files(read_tracked(record.path), out) == (5, 0)
    home = out / name(good)
    assert scalars(home / "fold-0")["pearson"] == [(500, 0.6), (1000, 0.7)]
    assert scalars(home)["mean_pearson"] == [(2, 0.75)]
    plugins = {value.metadata.plugin_data.plugin_name for event in events(home) for value in event.summary.value}
    assert "hparams" in plugins
    assert scalars(out / name(dying) / "fold-0")["pearson"] == [(500, math.nan)]
    assert write_event_files(read_tracked(record.path), out) == (0, 5)
    record.point(dying, 0, 0.5, 0.3)
    record.point(dying, 0, 1.0, 0.4)
    assert write_event_files(read_tracked(record.path), out) == (2, 3)
    assert scalars(out / name(dying) / "fold-0")["pearson"] == [(500, 0.3), (1000, 0.4)]


def test_the_best_are_written_and_the_others_counted(record: WrittenRun) -> None:
    page = read_tracked(record.path, most=1)
    assert ([each.candidate for each in page.candidates], page.n_left_out) == ([record.candidates[0].id], 1)


def test_tensorboard_reads_the_later_file_of_a_fold_run_last(record: WrittenRun, tmp_path: Path) -> None:
    fold = tmp_path / name(record.candidates[1]) / "fold-0"
    names = []
    for progress in (0.5, 0.6, 0.7, 0.8):
        record.point(record.candidates[1], 0, progress, 0.3)
        write_event_files(read_tracked(record.path), tmp_path)
        names += [file.name for file in fold.glob("*tfevents*")]
    assert len(names) == 4
    assert names == sorted(names)


# MLflow


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    pytest.importorskip("mlflow", reason="the extra `track` is not installed")
    monkeypatch.chdir(tmp_path)  # MLflow puts artifacts into ./mlruns
    return f"sqlite:///{tmp_path}/mlflow.db"


def track(record: WrittenRun, store: str) -> str:
    done = CliRunner().invoke(app, ["track", record.path, "--mlflow", store])
    assert done.exit_code == 0, done.output
    return done.output


def runs(store: str) -> dict[str, Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=store)
    found = client.search_runs([client.get_experiment_by_name("s").experiment_id])
    assert len({run.info.run_name for run in found}) == len(found), "nothing is there twice"
    return {run.info.run_name: run for run in found}


def curve(store: str, run: Any, metric: str = "pearson") -> Curve:
    from mlflow.tracking import MlflowClient

    history = MlflowClient(tracking_uri=store).get_metric_history(run.info.run_id, metric)
    return sorted((entry.step, entry.value) for entry in history)


def test_mlflow_gets_a_run_for_each_candidate_and_in_it_for_each_fold(
    record: WrittenRun, store: str, tmp_path: Path
) -> None:
    from mlflow.artifacts import download_artifacts

    assert "wrote 5 MLflow runs" in track(record, store)
    good, dying = record.candidates
    found = runs(store)
    assert found.keys() == {name(good), f"{name(good)}-f0", f"{name(good)}-f1", name(dying), f"{name(dying)}-f0"}
    parent, child = found[name(good)], found[f"{name(good)}-f0"]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    settings = good.model_dump(mode="json")
    assert parent.data.params == {key: str(value) for key, value in settings.items()}
    assert parent.data.metrics == {"mean_pearson": pytest.approx(0.75), "folds": 2}
    assert parent.data.tags["reason"] == "goes on"
    assert (parent.info.status, child.info.status) == ("RUNNING", "FINISHED")
    assert curve(store, child) == [(500, 0.6), (1000, 0.7)]
    assert curve(store, child, "seconds") == [(500, 30.0), (1000, 60.0)]
    table = download_artifacts(f"{child.info.artifact_uri}/oof.arrow", dst_path=str(tmp_path / "got"))
    assert Path(table).read_bytes() == Path(OofStore(record.path).path("oof", good.id, 0)).read_bytes()


def test_mlflow_is_brought_up_to_date_and_nothing_is_doubled(record: WrittenRun, store: str) -> None:
    good, dying = record.candidates
    track(record, store)
    before = runs(store)
    record.point(good, 2, 0.5, 0.5)
    record.point(dying, 0, 0.5, 0.3)  # instead of NaN: it was tried again
    record.point(good, 0, 0.75, 0.65)
    write_statuses(record.path, {good.id: CandidateStatus("stopped", "dropped")})
    for times in range(2):
        output = track(record, store)
        assert f"wrote {0 if times else 2} MLflow runs" in output, "a new fold, and the one that began anew"
        after = runs(store)
        assert after.keys() - before.keys() == {f"{name(good)}-f2"}
        assert curve(store, after[f"{name(good)}-f0"]) == [(500, 0.6), (750, 0.65), (1000, 0.7)]
        assert curve(store, after[f"{name(dying)}-f0"]) == [(500, 0.3)]
        assert after[name(good)].info.run_id == before[name(good)].info.run_id
        assert after[name(good)].data.tags["reason"] == "dropped"
        assert {after[key].info.status for key in (name(good), f"{name(good)}-f2")} == {"KILLED"}


def test_what_is_missing_or_refused_is_told(
    record: WrittenRun, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="where to write: --tensorboard DIR, --mlflow URI, or both"):
        CliRunner().invoke(app, ["track", record.path], catch_exceptions=False)
    with pytest.raises(InputError, match="not a run directory"):
        CliRunner().invoke(app, ["track", str(tmp_path), "--mlflow", store], catch_exceptions=False)
    with pytest.raises(InputError, match=r"--mlflow nonsense://x: "):
        CliRunner().invoke(app, ["track", record.path, "--mlflow", "nonsense://x"], catch_exceptions=False)
    for uri in ("nodriver://me:SECRET@host/db", "sqlite://me:SECRET@host/db"):
        with pytest.raises(InputError, match=r"--mlflow .*://\*\*\*@") as refused:
            CliRunner().invoke(app, ["track", record.path, "--mlflow", uri], catch_exceptions=False)
        assert "SECRET" not in str(refused.value)
    monkeypatch.setattr("search.watch.mlflow_runs.write_mlflow_runs", lambda *_, **__: (1, 2))
    done = CliRunner().invoke(app, ["track", record.path, "--mlflow", "http://me:SECRET@host"])
    assert "wrote 1 MLflow runs in http://***@host" in done.output
    assert "SECRET" not in done.output


def test_without_mlflow_the_extra_is_named(record: WrittenRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    with pytest.raises(InputError, match=r"mlflow is needed and not installed: pip install 'blendfold\[track\]'"):
        CliRunner().invoke(app, ["track", record.path, "--mlflow", "sqlite:///x.db"], catch_exceptions=False)
