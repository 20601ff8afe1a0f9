"""What a run directory says of a search, read once and read again."""

from pathlib import Path

import pytest

from data_prep.errors import InputError
from data_prep.store.candidate_records import candidate_path
from data_prep.store.files import write_json
from models.candidate import Candidate
from search.ladder.decisions import CandidateStatus
from search.run_dir.curves import CurvePoint, Curves
from search.run_dir.run_dir import RunDir
from search.run_dir.status_file import write_statuses

FIRST, SECOND = Candidate(seed=1), Candidate(seed=2, head="cls")


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Return a run directory with two candidates, of which the second reported first."""
    (tmp_path / "study.yaml").write_text("name: s\ndata: nowhere\nladder: {a_setting_of_another_version: 1}\n")
    for candidate in (FIRST, SECOND):
        write_json(candidate.model_dump(mode="json"), tmp_path / "candidates" / f"{candidate.id}.json")
    curves = Curves(str(tmp_path))
    for candidate, fold, progress in ((SECOND, 0, 0.4), (FIRST, 1, 1.0), (SECOND, 0, 1.0), (FIRST, 0, 0.4)):
        curves.append(CurvePoint(candidate.id, fold, progress, 1.0, 0.5, 60 * progress))
    write_statuses(str(tmp_path), {FIRST.id: CandidateStatus("running", "goes on", "was the best")})
    return str(tmp_path)


def test_a_run_directory_tells_what_was_tried_and_what_happened(path: str) -> None:
    run = RunDir(path)
    assert run.study["ladder"] == {"a_setting_of_another_version": 1}, "settings of any version are read"
    assert set(run.candidates) == {FIRST.id, SECOND.id}
    for candidate in (FIRST, SECOND):
        assert run.candidate(candidate.id) == candidate
        assert (run.label(candidate.id), run.family(candidate.id)) == (candidate.label, candidate.family)
    reports = {
        name: {fold: [point.progress for point in curve] for fold, curve in folds.items()}
        for name, folds in run.curves.items()
    }
    assert reports == {SECOND.id: {0: [0.4, 1.0]}, FIRST.id: {1: [1.0], 0: [0.4]}}
    assert list(reports) == [SECOND.id, FIRST.id], "in order of first report"
    assert run.minutes == {SECOND.id: pytest.approx(1.0), FIRST.id: pytest.approx(1.4)}
    assert run.statuses[FIRST.id].promotion == "was the best"
    assert run.pulse is None
    assert run.driver_lock is None


def test_a_snapshot_stays_as_it_was_read(path: str) -> None:
    run = RunDir(path)
    before = list(run.points)
    label = run.label(FIRST.id)
    Curves(path).append(CurvePoint(FIRST.id, 0, 1.0, 2.0, 0.6, 90.0))
    write_statuses(path, {FIRST.id: CandidateStatus("finished", "all folds done")})
    Path(candidate_path(path, FIRST.id)).unlink()
    assert run.points == before
    assert run.statuses[FIRST.id].state == "finished", "read when first used"
    now = run.reread()
    assert len(now.points) == len(before) + 1
    assert now.label(FIRST.id) == label, "settings never change, so they are read once"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"not a run directory \(no study.yaml\); make one with"),
        ("a: [", r"study.yaml: is not what .* \(.*put back a copy"),
        ("- a", r"study.yaml: is not what .* \(it holds list, .*put back a copy"),
    ],
)
def test_another_folder_and_an_edited_study_are_refused(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(InputError, match=f"(?s){message}"):
        _ = RunDir(str(tmp_path)).study


def test_settings_of_another_version_make_no_candidate_but_have_a_label(path: str) -> None:
    write_json({**SECOND.model_dump(mode="json"), "a_later_setting": 1}, candidate_path(path, SECOND.id))
    run = RunDir(path)
    with pytest.raises(ValueError, match="a_later_setting"):
        run.candidate(SECOND.id)
    assert run.label(SECOND.id) == SECOND.label
