"""One candidate in full: found by name or id, every report with its decision, what blends make of it."""

import io
from pathlib import Path

import pytest
import yaml

from data_prep.console import EscapingConsole
from data_prep.errors import InputError
from data_prep.prepared import Prepared
from data_prep.store.files import write_json
from search.run_dir.run_dir import RunDir
from search.watch.candidate_page import explain_candidate, find_candidate
from written_run import WrittenRun


@pytest.fixture
def record(tmp_path: Path, prepared_tiny: Prepared) -> WrittenRun:
    """Return a run in which `good` finished and `weak` was cut."""
    run = WrittenRun(str(tmp_path), prepared_tiny)
    good, weak = run.add(1), run.add(2)
    ladder = {"rungs": [0.5], "min_peers": 1, "eta": 2}
    study = {"name": "made-up", "data": prepared_tiny.path, "ladder": ladder, "names": {"good": good.id}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    run.point(good, 0, 0.5, 0.7)
    run.point(weak, 0, 0.5, 0.6)
    for fold in range(prepared_tiny.manifest.n_folds):
        run.point(good, fold, 1.0, 0.8 + fold / 100)
    return run


def test_every_report_comes_with_what_was_decided(record: WrittenRun) -> None:
    weak = record.candidates[1]
    page = explain_candidate(record.path, "good")
    n_folds = record.data.manifest.n_folds
    assert [(report.fold, report.progress) for report in page.reports] == [
        (0, 0.5),
        *((k, 1.0) for k in range(n_folds)),
    ]
    assert [report.metric for report in page.reports] == [0.7, *(0.8 + fold / 100 for fold in range(n_folds))]
    assert "finished with 0.8000" in page.reports[1].decision
    assert (page.story.name, page.story.state, page.story.minutes) == ("good", "finished", n_folds)
    assert page.settings["seed"] == 1
    (cut,) = explain_candidate(record.path, weak.id).reports
    assert cut.decision.startswith("cut on fold 0 at 50%: utility 0.6000 is more than 0.0100 below")


def test_a_page_tells_what_each_blend_makes_of_it(record: WrittenRun) -> None:
    good, weak = record.candidates
    member = {
        "candidate": good.id,
        "weight": 0.75,
        "resampled": {"low": 0.6, "high": 0.9},
        "drop_cost": {"difference": 0.0123, "standard_error": 0.004},
    }
    write_json({"members": [member]}, f"{record.path}/blends/first/blend.json")
    assert explain_candidate(record.path, weak.id).blends[0].weight == 0.0
    page = explain_candidate(record.path, "good")
    told = {"blends": [{"name": "all/a", "members": [member]}, {"name": "all/b", "members": []}]}
    write_json(told, f"{record.path}/blends/all/blend.json")
    by_target = explain_candidate(record.path, "good").blends[:2]
    assert [(one.blend, one.weight) for one in by_target] == [("all/a", 0.75), ("all/b", 0.0)]
    console = EscapingConsole(width=80, record=True, file=io.StringIO())
    console.print(page)
    shown = " ".join(console.export_text().split())
    assert "weight 0.750 (90 % of resamples 0.60 to 0.90); without it the nested score loses +0.0123 ±0.0040" in shown
    assert f"good: {good.label} {good.id}" in shown
    assert "promoted fold 0 0.8000 ranks 1 of 2" in shown
    assert "seed 1 42" in shown


def test_a_candidate_is_found_by_name_id_or_the_start_of_its_id(record: WrittenRun) -> None:
    good, weak = record.candidates
    run = RunDir(record.path)
    assert [find_candidate(run, given) for given in ("good", good.id, weak.id[:6])] == [good.id, good.id, weak.id]
    with pytest.raises(InputError, match=rf"bad: no such candidate in .*; known: good, .*{weak.id}"):
        find_candidate(run, "bad")
    with pytest.raises(InputError, match="no such candidate"):
        find_candidate(run, "")


def test_a_start_that_several_ids_have_is_refused(record: WrittenRun) -> None:
    taken = {candidate.id[0] for candidate in record.candidates}
    seed = 3
    while record.add(seed).id[0] not in taken:
        seed += 1
    start = record.candidates[-1].id[0]
    with pytest.raises(InputError, match=rf"{start}: \d candidates begin with it: .*; give more of the id"):
        find_candidate(RunDir(record.path), start)
