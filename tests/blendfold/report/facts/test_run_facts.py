"""What the report works out from the record of a run: ways, slots, saved time, cut texts."""

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from blendfold.report.facts.cut_texts import cut_texts
from blendfold.report.facts.data_facts import token_lengths
from blendfold.report.facts.ladder_ways import ladder_ways
from blendfold.report.facts.saved_time import saved_time
from blendfold.report.facts.slot_times import slot_times
from data_prep.prepared import Prepared, hash_data, hash_split, load_prepared, write_prepared
from data_prep.store.files import write_json
from models.candidate import Candidate
from search.ladder.decisions import CandidateStatus
from search.run_dir.run_dir import RunDir
from search.run_dir.status_file import write_statuses
from written_run import WrittenRun

BEGUN = 1_700_000_000.0


@pytest.fixture
def written(tmp_path: Path, prepared_tiny: Prepared) -> WrittenRun:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"name": "made-up", "data": prepared_tiny.path}))
    return WrittenRun(str(tmp_path), prepared_tiny)


def end_at(run: WrittenRun, candidate: Candidate, fold: int, seconds: float) -> None:
    """Give the table of a fold run the time at which it would have been written."""
    path = Path(run.path) / "oof" / candidate.id / f"fold-{fold}.arrow"
    os.utime(path, (BEGUN + seconds, BEGUN + seconds))


def test_a_way_has_rungs_of_fold_0_then_means_over_folds(written: WrittenRun) -> None:
    good, weak = written.add(1), written.add(2)
    written.point(good, 0, 0.5, 0.60)
    written.point(weak, 0, 0.5, 0.30)
    for fold, metric in enumerate((0.7, 0.8, 0.6)):
        written.point(good, fold, 1.0, metric)
    write_statuses(written.path, {weak.id: CandidateStatus("stopped", "cut on fold 0")})
    first, second = ladder_ways(RunDir(written.path))
    assert [(step.place, step.metric) for step in first.steps] == [
        (0.5, 0.60),
        (1.0, 0.7),
        (2.0, pytest.approx(0.75)),
        (3.0, pytest.approx(0.7)),
    ]
    assert (second.candidate, second.state, second.reason) == (weak.id, "stopped", "cut on fold 0")
    assert [(step.place, step.metric) for step in second.steps] == [(0.5, 0.30)]


def test_slots_follow_from_the_tables_times_and_hold_one_fold_run_at_a_time(written: WrittenRun) -> None:
    """Each fold run takes 60 s to the end and 30 s to the rung; two slots work side by side."""
    first, second, stopped = written.add(1), written.add(2), written.add(3)
    for fold, ends in enumerate((60.0, 150.0)):
        for candidate in (first, second):
            written.point(candidate, fold, 1.0, 0.7)
            end_at(written, candidate, fold, ends)
        if fold == 0:
            written.point(stopped, 0, 0.5, 0.2)
    times = {(time.candidate, time.fold): time for time in slot_times(RunDir(written.path))}
    assert {key: time.kind for key, time in times.items() if time.kind == "stopped"} == {(stopped.id, 0): "stopped"}
    assert times[first.id, 0].start == BEGUN
    assert times[second.id, 1].end == BEGUN + 150
    assert (times[stopped.id, 0].start, times[stopped.id, 0].end) == (BEGUN + 60, BEGUN + 90)
    assert {time.slot for time in times.values()} == {0, 1}
    for slot in (0, 1):
        mine = sorted((time for time in times.values() if time.slot == slot), key=lambda time: time.start)
        assert all(one.end <= other.start for one, other in pairwise(mine))


def test_times_of_a_copy_are_not_believed(written: WrittenRun) -> None:
    candidate = written.add(1)
    for fold, ends in enumerate((900.0, 60.0)):
        written.point(candidate, fold, 1.0, 0.7)
        end_at(written, candidate, fold, ends)
    assert slot_times(RunDir(written.path)) == ()


def test_saved_time_is_what_the_full_grid_would_have_taken_beyond_the_training(written: WrittenRun) -> None:
    """A whole fold run takes a minute, so two candidates on four folds take eight."""
    whole, cut = written.add(1), written.add(2)
    written.point(cut, 0, 0.25, 0.2)
    for fold in range(4):
        written.point(whole, fold, 1.0, 0.7)
    write_statuses(written.path, {cut.id: CandidateStatus("stopped", "cut"), whole.id: CandidateStatus("finished", "")})
    saved = saved_time(RunDir(written.path))
    assert saved.full == pytest.approx(8.0)
    assert saved.trained == pytest.approx(4.25)
    assert saved.cut == pytest.approx(0.75)
    assert saved.not_promoted == pytest.approx(3.0)
    assert saved.open == 0.0
    assert saved.share == pytest.approx(3.75 / 8)


def test_rows_longer_than_max_length_are_cut_to_it(tmp_path: Path, prepared_tiny: Prepared) -> None:
    train, targets = prepared_tiny.train, prepared_tiny.train["target"].to_pylist()
    targets[40] = "word " * 100
    place = train.column_names.index("target")
    train = train.set_column(place, "target", pa.array(targets, pa.string()))
    hashes = {"data_hash": hash_data(train, prepared_tiny.test), "split_hash": hash_split(train)}
    write_prepared(tmp_path / "long", prepared_tiny.manifest.model_copy(update=hashes), train, prepared_tiny.test)
    data = load_prepared(tmp_path / "long")
    run = tmp_path / "run"
    run.mkdir()
    (run / "study.yaml").write_text(yaml.safe_dump({"name": "made-up", "data": data.path}))
    for candidate in (Candidate(recipe="pair", max_length=40), Candidate(recipe="pair", max_length=128)):
        write_json(candidate.model_dump(mode="json"), str(run / "candidates" / f"{candidate.id}.json"))
    lengths = token_lengths(data)
    words = len(data.train["anchor"][40].as_py().split())
    found = {each.max_length: each for each in cut_texts(RunDir(str(run)), lengths)}
    assert found[40].whole[40] == 100 + words
    assert found[40].lost[40] == 100 + words - (40 - 3), "three special tokens stand around and between two phrases"
    assert np.flatnonzero(found[40].lost).tolist() == [40]
    assert not found[128].lost.any()
