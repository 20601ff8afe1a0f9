"""The conductor: cut off anywhere, a new one over the same directory goes on exactly as the old one would have."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from data_prep.prepared import Prepared
from data_prep.store.oof_store import OofStore, Provenance
from models.candidate import Candidate
from scripted_search import CutOffError, ScriptedWorker, conductor, record, study
from search.run_dir.status_file import StatusFile, read_statuses

THREE: dict[str, dict[str, Any]] = {"a": {}, "b": {"epochs": 2}, "c": {"epochs": 3}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, prepared_tiny: Prepared) -> Path:
    run_dir = tmp_path_factory.mktemp("whole")
    ScriptedWorker(prepared_tiny, run_dir).run(conductor(study(prepared_tiny), prepared_tiny, run_dir))
    return run_dir


def test_a_search_stops_some_retries_the_dead_and_completes_some(whole: Path, prepared_tiny: Prepared) -> None:
    status = conductor(study(prepared_tiny), prepared_tiny, whole).status()
    states = [entry.state for entry in status.values()]
    assert len(states) == 14
    assert states.count("stopped") + states.count("waiting") >= 5
    assert states.count("finished") >= 2
    store = OofStore(whole)
    assert {Provenance.of(store.read("oof", *fold_run)).attempt for fold_run in store.fold_runs()} == {0, 1}


@pytest.mark.parametrize("every", [1, 2, 3, 5, 8])
def test_cut_off_again_and_again_it_ends_with_the_same_record(
    every: int, whole: Path, tmp_path: Path, prepared_tiny: Prepared
) -> None:
    deaths, alive = 0, True
    while alive:
        try:
            ScriptedWorker(prepared_tiny, tmp_path, effects=every).run(
                conductor(study(prepared_tiny), prepared_tiny, tmp_path)
            )
            alive = False
        except CutOffError:
            deaths += 1
        assert deaths < 500, "it gets nowhere"
    assert deaths > 2
    assert record(tmp_path) == record(whole)


def test_a_damaged_table_is_set_aside_and_only_its_fold_run_repeated(
    whole: Path, tmp_path: Path, prepared_tiny: Prepared
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(whole, run_dir)
    victim = sorted(run_dir.glob("oof/*/fold-1.arrow"))[0]
    content = victim.read_bytes()
    victim.write_bytes(content[: len(content) // 2])
    again = conductor(study(prepared_tiny), prepared_tiny, run_dir)
    (assignment,) = [again.next_assignment()]
    assert assignment is not None
    assert (assignment.candidate.id, assignment.fold) == (victim.parent.name, 1)
    assert again.next_assignment() is None, "nothing is decided before the evidence is whole"
    ScriptedWorker(prepared_tiny, run_dir).fold_run(again, assignment)
    undisturbed = conductor(study(prepared_tiny), prepared_tiny, whole)
    assert again.status() == undisturbed.status()
    assert again.next_assignment() is None
    assert victim.read_bytes() == content
    assert record(run_dir)[0] == record(whole)[0]


def test_when_the_time_is_up_nothing_new_starts_but_one_candidate_completes(
    tmp_path: Path, prepared_tiny: Prepared
) -> None:
    hours = iter([0.0] * 10)
    search = conductor(
        study(prepared_tiny, budget={"candidates": 14, "hours": 1}),
        prepared_tiny,
        tmp_path,
        hours_spent=lambda: next(hours, 2.0),
    )
    ScriptedWorker(prepared_tiny, tmp_path).run(search)
    states = [entry.state for entry in search.status().values()]
    assert 1 < len(states) < 14
    assert states.count("finished") >= 1
    assert set(states) <= {"finished", "stopped", "failed"}


def test_a_sampled_candidate_is_never_an_explicit_one(whole: Path) -> None:
    names = [path.stem for path in (whole / "candidates").iterdir()]
    assert len(names) == len(set(names)) == 14


def test_only_the_named_run_and_the_others_go_on_later(tmp_path: Path, prepared_tiny: Prepared) -> None:
    settings = study(prepared_tiny, budget={}, space={}, ladder={"enabled": False}, candidates=THREE)
    ids = {name: Candidate(**changes).id for name, changes in THREE.items()}
    with pytest.raises(CutOffError):
        ScriptedWorker(prepared_tiny, tmp_path, effects=5).run(
            conductor(settings, prepared_tiny, tmp_path, only={ids["a"]})
        )
    ScriptedWorker(prepared_tiny, tmp_path).run(conductor(settings, prepared_tiny, tmp_path, only={ids["b"]}))
    store = OofStore(tmp_path)
    assert store.folds(ids["b"]) == [0, 1, 2, 3]
    assert len(store.folds(ids["a"])) == 1, "it had begun, and was not asked for now"
    assert ids["c"] not in store.candidates()
    assert conductor(settings, prepared_tiny, tmp_path).status()[ids["a"]].state == "running"
    ScriptedWorker(prepared_tiny, tmp_path).run(conductor(settings, prepared_tiny, tmp_path))
    assert {name: store.folds(identity) for name, identity in ids.items()} == {name: [0, 1, 2, 3] for name in THREE}


def test_a_search_that_resumes_says_what_is_done_and_what_continues(tmp_path: Path, prepared_tiny: Prepared) -> None:
    settings = study(prepared_tiny, budget={"candidates": 3})
    assert conductor(settings, prepared_tiny, tmp_path).describe_record() == ""
    said = set()
    for _ in range(6):
        with pytest.raises(CutOffError):
            ScriptedWorker(prepared_tiny, tmp_path, effects=1).run(conductor(settings, prepared_tiny, tmp_path))
        again = conductor(settings, prepared_tiny, tmp_path)
        done = sum(1 for _ in OofStore(tmp_path).fold_runs())
        assert again.describe_record().startswith(f"resuming: {done} of 12 fold runs done")
        said.add(again.describe_record())
    assert any(re.search(r"done, fold \d of \S+ continues at \d\d%$", each) for each in said), said


def test_with_only_nothing_is_drawn_and_a_stopped_candidate_of_another_name_stays_stopped(
    whole: Path, tmp_path: Path, prepared_tiny: Prepared
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(whole, run_dir)
    grown = study(prepared_tiny, budget={"candidates": 20}, candidates={"plain": {}, "dies once": {"batch_size": 16}})
    again = conductor(grown, prepared_tiny, run_dir, only={Candidate().id})
    assert again.candidates_to_come == 0
    ScriptedWorker(prepared_tiny, run_dir).run(again)
    assert record(run_dir)[1] == record(whole)[1], "no candidate was drawn"
    changed = set(record(run_dir)[2]) - set(record(whole)[2])
    assert all(Candidate().id in path for path in changed)


def test_where_candidates_stand_is_written_between_decisions(tmp_path: Path, prepared_tiny: Prepared) -> None:
    never_too_early = StatusFile(str(tmp_path), clock=lambda: 0.0)
    mine = conductor(study(prepared_tiny), prepared_tiny, tmp_path, status_file=never_too_early)
    with pytest.raises(CutOffError):
        ScriptedWorker(prepared_tiny, tmp_path, effects=25).run(mine)
    assert not read_statuses(str(tmp_path)), "no decision waits for it"
    mine.publish()
    assert read_statuses(str(tmp_path)) == mine.status()
    (tmp_path / "status.json").unlink()
    mine.publish()
    assert not read_statuses(str(tmp_path)), "nothing began or ended since"
    assert mine.next_assignment() is not None
    mine.publish()
    assert read_statuses(str(tmp_path)) == mine.status(), "why it goes on is known, should the driver be killed now"
