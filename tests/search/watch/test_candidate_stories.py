"""The story of each candidate: what is on record, in its order, with the search's own reasons."""

import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from data_prep.console import console
from data_prep.errors import InputError
from data_prep.prepared import Prepared
from data_prep.store.oof_store import OofStore
from data_prep.store.study_record import write_study_record
from data_prep.store.tables import metadata_of, read_table, write_table
from search.__main__ import app
from search.ladder.decisions import CandidateStatus
from search.run_dir.status_file import write_statuses
from search.watch.candidate_stories import explain
from written_run import WrittenRun


@pytest.fixture
def record(tmp_path, prepared_tiny: Prepared) -> WrittenRun:
    ladder = {"rungs": [0.5], "min_peers": 1, "eta": 2}
    (tmp_path / "study.yaml").write_text(
        yaml.safe_dump({"name": "made-up", "data": prepared_tiny.path, "ladder": ladder})
    )
    return WrittenRun(str(tmp_path), prepared_tiny)


def test_a_line_tells_what_was_scored_where_decided_and_spent(record: WrittenRun) -> None:
    good, weak = record.add(1), record.add(2)
    record.point(good, 0, 0.5, 0.7)
    record.point(weak, 0, 0.5, 0.6)
    for fold in range(record.data.manifest.n_folds):
        record.point(good, fold, 1.0, 0.8 + fold / 100)
    stories = record.stories()
    assert stories[good.id].folds[0] == ("50% 0.7000", "0.8000")
    assert stories[good.id].folds[1] == ("0.8100",)
    assert "promoted: fold 0 0.8000 ranks 1 of 2 in" in stories[good.id].promotion
    assert stories[good.id].state == "finished"
    assert stories[good.id].minutes == record.data.manifest.n_folds
    assert stories[weak.id].state == "stopped"
    cut = "cut on fold 0 at 50%: utility 0.6000 is more than 0.0100 below the 0.7000 of rank 1 of 2"
    assert cut in str(stories[weak.id])
    assert stories[weak.id].minutes == 0.5
    assert list(stories) == [good.id, weak.id], "in the order in which they first reported"


def test_the_search_has_the_word_on_what_it_decided(record: WrittenRun) -> None:
    waiting, going = record.add(1), record.add(2)
    for candidate in (waiting, going):
        record.point(candidate, 0, 1.0, 0.7)
    kept = {
        waiting.id: CandidateStatus("stopped", "not promoted: the search said so"),
        going.id: CandidateStatus("running", "goes on: the search said so"),
    }
    write_statuses(record.path, kept)
    stories = record.stories()
    assert (stories[waiting.id].state, stories[waiting.id].reason) == ("stopped", "not promoted: the search said so")
    assert stories[going.id].reason == "goes on: the search said so"
    for fold in range(1, record.data.manifest.n_folds):
        record.point(going, fold, 1.0, 0.7)
    assert record.stories()[going.id].state == "finished", "the record went on after status.json was last written"


def test_a_death_a_lost_table_and_a_candidate_that_never_began_are_told(record: WrittenRun) -> None:
    dying, lost, idle = record.add(1), record.add(2), record.add(3)
    record.point(dying, 0, 0.5, float("nan"))
    record.point(dying, 0, 0.5, float("nan"))
    record.point(lost, 0, 1.0, 0.7, table=False)
    stories = record.stories()
    assert stories[dying.id].folds[0] == ("50% nan, failed to learn, tried again", "50% nan")
    assert stories[dying.id].state == "failed"
    assert stories[lost.id].folds[0] == ("0.7000, its tables are gone",)
    assert stories[lost.id].state == "running"
    assert stories[idle.id].state == "not started"


def test_a_table_with_a_row_fewer_is_refused(record: WrittenRun) -> None:
    candidate = record.add(1)
    record.point(candidate, 0, 1.0, 0.7)
    path = OofStore(record.path).path("oof", candidate.id, 0)
    table = read_table(path)
    write_table(table[:-1], path, schema=table.schema, metadata=metadata_of(table))
    with pytest.raises(InputError, match=rf"{path}: holds other rows than fold 0 of the prepared folder"):
        record.stories()


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.9])
def test_a_study_that_is_cut_off_is_refused(record: WrittenRun, keep: float) -> None:
    path = Path(record.path) / "study.yaml"
    write_study_record(yaml.safe_load(path.read_text()), record.path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(InputError, match=rf"{path}: is not what this version .*put back a copy"):
        record.stories()


def test_the_command_prints_a_line_each_and_what_to_run_next(record: WrittenRun) -> None:
    candidate = record.add(1)
    record.point(candidate, 0, 1.0, 0.7)
    open_ended = CliRunner().invoke(app, ["explain", record.path])
    assert open_ended.exit_code == 0
    first, *_, last = open_ended.output.strip().splitlines()
    assert first.startswith(f"{candidate.label} {candidate.id[:6]} (1.0 min): fold 0: 0.7000 -> waiting: ")
    assert "the search has not ended" in last
    write_statuses(record.path, {candidate.id: CandidateStatus("stopped", "enough")})
    assert f"next: blendfold blend {record.path}" in CliRunner().invoke(app, ["explain", record.path]).output


def test_a_page_tells_the_latest_and_reads_nothing_else(record: WrittenRun, monkeypatch) -> None:
    candidates = [record.add(seed) for seed in range(4)]
    for candidate in candidates:
        record.point(candidate, 0, 0.5, 0.6)
        record.point(candidate, 0, 1.0, 0.7)
    record.point(candidates[3], 1, 1.0, 0.7)
    statuses = {each.id: CandidateStatus("stopped", "not promoted: rank 3 of 4") for each in candidates}
    statuses[candidates[3].id] = CandidateStatus("finished", "all folds done", "promoted: the search said so")
    time.sleep(0.02)  # a file system's clock ticks a few times in that time
    write_statuses(record.path, statuses)
    whole, read = explain(record.path), OofStore.read
    tables = []
    monkeypatch.setattr(OofStore, "read", lambda *where: tables.append(where) or read(*where))
    page = explain(record.path, most=2)
    assert page.stories == whole.stories[2:]
    assert [(where[2], where[3]) for where in tables] == [
        (candidates[2].id, 0),
        (candidates[3].id, 0),
        (candidates[3].id, 1),
    ]
    assert (page.n_candidates, page.has_open_ends) == (4, False)
    with console.capture() as shown:
        console.print(page)
    assert shown.get().startswith("2 earlier candidates; show them with --all")


def test_a_folder_without_a_study_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="not a run directory"):
        explain(str(tmp_path))


def test_why_a_candidate_went_on_is_told_as_it_was_decided(record: WrittenRun) -> None:
    candidate = record.add(1)
    for fold in (0, 1):
        record.point(candidate, fold, 1.0, 0.7)
    assert "had started before" in record.stories()[candidate.id].promotion
    write_statuses(record.path, {candidate.id: CandidateStatus("running", "is on fold 1", "goes on: it was the best")})
    assert record.stories()[candidate.id].promotion == "goes on: it was the best"


def test_ladder_settings_of_another_version_are_left_out_and_named(record: WrittenRun) -> None:
    candidate = record.add(1)
    record.point(candidate, 0, 1.0, 0.7)
    study = Path(record.path) / "study.yaml"
    study.write_text(study.read_text().replace("eta: 2", "eta: 2\n  paired_sd: 0.005"))
    first, line, *_ = CliRunner().invoke(app, ["explain", record.path]).output.splitlines()
    assert first.startswith(f"{study}: ladder has settings of another version, ignored here (paired_sd=0.005)")
    assert line.startswith(candidate.label)
