"""A whole study in an object store: searched, killed, resumed, blended, bundled; as it comes out in folders."""

import csv
import io
import subprocess
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from blend.__main__ import app as blend_app
from data_prep.prepared import Prepared
from data_prep.store.files import join, list_sizes, read_bytes, write_bytes
from data_prep.store.oof_store import OofStore
from data_prep.store.tables import CURVES_SCHEMA, read_table
from models.__main__ import app as models_app
from search.__main__ import app as search_app
from store_server import Store, each_tenth
from whole_search import KINDS, finish, start, tables, write_study

pytestmark = pytest.mark.ray


@pytest.fixture
def tiny(prepared_tiny: Prepared, tiny_bert: str) -> tuple[Prepared, str]:
    """Return data and backbone."""
    return prepared_tiny, tiny_bert


def call(app: typer.Typer, *words: str) -> str:
    """Run a verb in this process; return what it printed."""
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output
    return done.output


def upload(folder: Path | str, uri: str) -> str:
    """Copy a folder into the store."""
    for name in list_sizes(folder):
        write_bytes((Path(folder) / name).read_bytes(), join(uri, name))
    return uri


def stored(run_dir: str) -> dict[str, bytes]:
    """Return every prediction table of a run directory in a store."""
    return {
        join(kind, name): read_bytes(join(run_dir, kind, name))
        for kind in KINDS
        for name in list_sizes(join(run_dir, kind))
        if name.endswith(".arrow")
    }


def wait_for_fold_runs(process: "subprocess.Popen[str]", run_dir: str, number: int) -> None:
    """Wait until so many fold runs are finished."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if len(list(OofStore(run_dir).fold_runs())) >= number:
            return
        time.sleep(0.1)
    raise AssertionError(f"it never came so far: {process.communicate()[0]}")


def test_a_study_in_a_store_that_refuses_each_tenth_request_ends_with_the_same_bytes(
    tmp_path: Path,
    store: Store,
    tiny: tuple[Prepared, str],
    undisturbed: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed once on its way; its data is there too."""
    prepared_tiny, tiny_bert = tiny
    upload(prepared_tiny.path, join(store.uri, "prepared"))
    study = write_study(tmp_path, prepared_tiny, tiny_bert)
    study.write_text(study.read_text().replace(prepared_tiny.path, join(store.uri, "prepared")))
    runs, run_dir = join(store.uri, "runs"), join(store.uri, "runs", "tiny")
    store.door.refuse = each_tenth
    process = start(study, "--runs", runs)
    wait_for_fold_runs(process, run_dir, 1)
    process.kill()
    killed, _ = process.communicate()
    assert "starts" in killed
    output = finish(start(study, "--runs", runs))
    assert "Traceback" not in output
    assert stored(run_dir) == tables(undisturbed)
    assert set(read_table(join(run_dir, "curves.arrow"), schema=CURVES_SCHEMA)["candidate"].to_pylist()) == {
        path.stem for path in (undisturbed / "candidates").iterdir()
    }
    assert not [name for name in list_sizes(join(run_dir, "checkpoints")) if not name.endswith("/")]

    monkeypatch.setenv("BLENDFOLD_CACHE", str(tmp_path / "cache"))
    bundle, test = join(store.uri, "bundle"), join(store.uri, "test.csv")
    rows = prepared_tiny.test.select(["id", "anchor", "target", "context"]).to_pylist()
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(text.getvalue().encode(), test)
    call(search_app, "leaderboard", run_dir)
    call(blend_app, "fit", run_dir, "--name", "whole")
    call(blend_app, "fit", str(undisturbed), "--name", "whole", "--force")
    submission = read_bytes(join(run_dir, "blends", "whole", "submission.csv"))
    assert submission == (undisturbed / "blends" / "whole" / "submission.csv").read_bytes()
    call(blend_app, "bundle", run_dir, "--blend", "whole", "--out", bundle)
    call(models_app, "predict", "--bundle", bundle, "--test", test, "--out", join(store.uri, "out.csv"))
    found = [row.split(",") for row in read_bytes(join(store.uri, "out.csv")).decode().splitlines()[1:]]
    wanted = [row.split(",") for row in submission.decode().splitlines()[1:]]
    assert [name for name, _ in found] == [name for name, _ in wanted]
    assert [float(value) for _, value in found] == pytest.approx([float(value) for _, value in wanted], abs=1e-6)
    assert store.door.refused > 50
