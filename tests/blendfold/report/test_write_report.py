"""The report of any run directory: hostile texts, large searches, running ones, and those that lack something."""

import json
import re
import shutil
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from blend.__main__ import app as blend_app
from blendfold.report.page.page_text import script_json
from blendfold.report.write_report import watch_report, write_report
from data_prep.console import console
from data_prep.errors import InputError
from data_prep.prepared import Prepared, hash_data, hash_split, load_prepared, write_prepared
from data_prep.store.files import join, read_bytes, write_bytes
from data_prep.store.oof_store import OofStore, Provenance
from read_page import read_page
from search.ladder.decisions import CandidateStatus
from search.run_dir.driver_lock import hold_driver_lock
from search.run_dir.pulse_file import LiveRun, Pulse, Spent, write_pulse
from search.run_dir.status_file import write_statuses
from written_run import WrittenRun

TEXTS = {
    30: "<script>alert('x')</script></script><img src=x onerror=alert(1)>",
    31: "left \u202eright \u2028 end",
    32: "many words " * 910,
}
"""Hostile texts, by row."""
MEGABYTES = 6
"""The page of 200 candidates is smaller."""


def write_study(folder: Path, data: Prepared, **keys: object) -> WrittenRun:
    content = {"name": "made-up", "data": data.path, "ladder": {"rungs": [0.5], "min_peers": 1, "eta": 2}, **keys}
    (folder / "study.yaml").write_text(yaml.safe_dump(content))
    return WrittenRun(str(folder), data)


@pytest.fixture
def hostile(tmp_path: Path, prepared_tiny: Prepared) -> Prepared:
    """Return the prepared folder with texts that would break a page."""
    train, test = prepared_tiny.train, prepared_tiny.test
    targets = train["target"].to_pylist()
    for row, text in TEXTS.items():
        targets[row] = text
    place = train.column_names.index("target")
    train = train.set_column(place, "target", pa.array(targets, pa.string()))
    hashes = {"data_hash": hash_data(train, test), "split_hash": hash_split(train)}
    write_prepared(tmp_path / "hostile", prepared_tiny.manifest.model_copy(update=hashes), train, test)
    return load_prepared(tmp_path / "hostile")


def finished_run(folder: Path, data: Prepared, *, candidates: int = 2) -> WrittenRun:
    run = write_study(folder, data)
    for seed in range(candidates):
        candidate = run.add(seed)
        for fold in range(data.manifest.n_folds):
            run.point(candidate, fold, 0.5, 0.4)
            run.point(candidate, fold, 1.0, 0.5 + seed / 100)
    return run


@pytest.mark.parametrize("place", TEXTS)
def test_a_hostile_text_is_a_text_that_can_be_read_whole(tmp_path: Path, hostile: Prepared, place: int) -> None:
    """Its row has the largest error, so that it is shown first."""
    folder = tmp_path / "run"
    folder.mkdir()
    run = finished_run(folder, hostile)
    identity, fold = hostile.train["id"][place].as_py(), hostile.train["fold"][place].as_py()
    for candidate in run.candidates:
        make_worst(folder, candidate.id, fold, identity)
    page = read_page(write_report(run.path))
    shown = page.tables["worst"][identity]["target"].text
    assert shown.replace("…", "", 1) == TEXTS[place].replace("\u202e", "\\u202e").replace("\u2028", "\\u2028")
    assert page.source.count("<script") == 3, "figures, Plotly, ours"
    assert not {"\u202e", "\u2028"} & set(page.source)
    assert "<img" not in page.source
    assert "<details>" in page.source, "the long text unfolds"


def make_worst(run: Path, candidate: str, fold: int, identity: str) -> None:
    """Write a fold's tables again with a prediction that is far off in one row."""
    store = OofStore(str(run))
    oof, test = (store.read(kind, candidate, fold) for kind in ("oof", "test"))
    provenance = Provenance.of(oof)
    for kind in ("oof", "test"):
        Path(store.path(kind, candidate, fold)).unlink()
    values = oof["prediction"].to_pylist()
    values[oof["id"].to_pylist().index(identity)] = 50.0
    place = oof.column_names.index("prediction")
    oof = oof.set_column(place, "prediction", pa.array(values, pa.float32())).replace_schema_metadata(None)
    store.write(provenance, oof=oof, test=test.replace_schema_metadata(None))


def test_json_in_a_script_ends_no_script() -> None:
    text = script_json({"text": "</script><!-- \u2028 &", "number": float("nan")})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"text": "</script><!-- \u2028 &", "number": None}


def test_the_page_of_200_candidates_is_small(tmp_path: Path, prepared_tiny: Prepared) -> None:
    run = write_study(tmp_path, prepared_tiny)
    statuses = {}
    for seed in range(200):
        candidate = run.add(seed)
        run.point(candidate, 0, 0.5, 0.3 + seed / 1000)
        state, folds = ("finished", 4) if seed < 12 else ("stopped", 1 if seed < 40 else 0)
        for fold in range(folds):
            run.point(candidate, fold, 1.0, 0.5 + seed / 1000)
        statuses[candidate.id] = CandidateStatus(state, "cut on fold 0 at 50%: utility 0.3 is more than 0.1 below 0.5")
    write_statuses(run.path, statuses)
    path = Path(write_report(run.path))
    assert path.stat().st_size < MEGABYTES * 1_000_000
    page = read_page(path)
    assert len(page.tables["leaderboard"]) == 200
    figures = json.loads(re.search(r'id="figures">(.*?)</script>', page.source, re.DOTALL)[1])
    reasons = "".join(text for trace in figures["ladder"]["data"] for text in trace["text"])
    assert reasons.count("cut on fold 0 at 50%") >= 160


def test_while_a_search_runs_the_page_is_written_again_and_reloads(tmp_path: Path, prepared_tiny: Prepared) -> None:
    run = finished_run(tmp_path, prepared_tiny, candidates=1)
    page, seen = tmp_path / "report.html", list[str]()
    with ExitStack() as driver:
        driver.enter_context(hold_driver_lock(run.path))

        def sleep(_seconds: float) -> None:
            seen.append(page.read_text(encoding="utf-8"))
            run.add(7 + len(seen))
            if len(seen) == 2:
                driver.close()

        watch_report(run.path, sleep=sleep)
    counted = [len(read_rows(text)) for text in (*seen, page.read_text(encoding="utf-8"))]
    assert counted == [1, 2, 3]
    assert ["RELOAD_SECONDS = 0;" in text for text in (*seen, page.read_text(encoding="utf-8"))] == [False, False, True]


def read_rows(source: str) -> list[str]:
    return re.findall(
        r'<tr data-row="(\w{12})"', source.split('<table id="leaderboard"')[1].split("</table>", maxsplit=1)[0]
    )


def test_a_search_that_runs_is_said_to_run(tmp_path: Path, prepared_tiny: Prepared) -> None:
    run = finished_run(tmp_path, prepared_tiny, candidates=1)
    live = LiveRun(run.candidates[0].id, "label", 3, 0, 12.0, 0.5, 0.61)
    counts = dict.fromkeys(("started", "finished", "stopped", "dead", "failed", "promoted", "done"), 3)
    pulse = Pulse(
        metric="pearson",
        n_folds=4,
        at=1e9,
        begun=1e9 - 60,
        ended="",
        running=(live,),
        to_come=2,
        counts=counts,
        rows_per_second=None,
        seconds_left=90.0,
        spent=Spent(core_hours=1.5),
        left=None,
        best=None,
        blend=None,
        troubles=(),
        seconds_left_most=300.0,
    )
    write_pulse(pulse, run.path)
    with hold_driver_lock(run.path):
        source = Path(write_report(run.path)).read_text(encoding="utf-8")
    assert "still running: 3 fold runs finished, 1 on workers, 2 candidates not started, 1m30s to 5m00s left" in source
    assert "holding 1.5 core hours" in source


def test_a_directory_without_anything_finished_has_a_report(tmp_path: Path, prepared_tiny: Prepared) -> None:
    run = write_study(tmp_path, prepared_tiny)
    run.add(1)
    source = read_page(write_report(run.path)).source
    for said in ("No fold run has finished yet", "There is no blend yet", "There is no ledger", "holds no audit"):
        assert said in source, said


def test_what_is_missing_is_named_in_its_place(tmp_path: Path, prepared_tiny: Prepared) -> None:
    data = tmp_path / "data"
    shutil.copytree(prepared_tiny.path, data)
    folder = tmp_path / "run"
    folder.mkdir()
    run = finished_run(folder, load_prepared(data))
    shutil.rmtree(data)
    page = read_page(write_report(run.path))
    assert "not a prepared folder" in page.source
    assert "Study file" in page.source


def test_another_folder_and_an_unknown_blend_are_refused(tmp_path: Path, prepared_tiny: Prepared) -> None:
    with pytest.raises(InputError, match="not a run directory"):
        write_report(str(tmp_path))
    run = finished_run(tmp_path, prepared_tiny, candidates=1)
    with pytest.raises(InputError, match="no such blend"):
        write_report(run.path, blend="none")
    assert not (tmp_path / "report.html").exists()


def test_a_directory_of_imported_models_has_a_report(tmp_path: Path, prepared_tiny: Prepared) -> None:
    train, test = prepared_tiny.train, prepared_tiny.test
    noise, ids = np.random.default_rng(0), test["id"].to_pylist()
    rows = ["id,theirs"]
    rows += [f"{row['id']},{row['score'] + noise.normal():.4f}" for row in train.to_pylist() if row["fold"] >= 0]
    (tmp_path / "oof.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "test.csv").write_text("id,theirs\n" + "".join(f"{each},0.{n}\n" for n, each in enumerate(ids)))
    run = str(tmp_path / "team")
    files = ["--oof", str(tmp_path / "oof.csv"), "--test", str(tmp_path / "test.csv"), "--name", "theirs"]
    with console.capture():
        blend_app(["import", *files, "--data", prepared_tiny.path, "--out", run], standalone_mode=False)
    page = read_page(write_report(run))
    assert "nothing was searched here" in page.source
    assert "Cannot be shown" not in page.source
    assert len(page.tables["worst"]) == 50


def test_a_run_in_an_object_store_has_its_report_there(store, tmp_path: Path, prepared_tiny: Prepared) -> None:
    run = finished_run(tmp_path, prepared_tiny, candidates=1)
    target = join(store.uri, "runs", "made-up")
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        write_bytes(path.read_bytes(), join(target, *path.relative_to(tmp_path).parts))
    written = write_report(target)
    assert written == join(target, "report.html")
    assert run.candidates[0].id in read_bytes(written).decode()
