"""`--json` and `--csv`: what other programs read is what the functions return, and nothing else."""

import csv
import io
import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from data_prep.errors import InputError
from data_prep.prepared import Prepared
from search.__main__ import PAGE, app
from search.watch.leaderboard import leaderboard
from written_run import WrittenRun


@pytest.fixture
def record(tmp_path: Path, prepared_tiny: Prepared) -> WrittenRun:
    """Return a run with more candidates than a page shows; the first has all folds."""
    run = WrittenRun(str(tmp_path), prepared_tiny)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"name": "made-up", "data": prepared_tiny.path}))
    for seed in range(PAGE + 2):
        run.point(run.add(seed), 0, 0.5, 0.5 + seed / 1000)
    for fold in range(prepared_tiny.manifest.n_folds):
        run.point(run.candidates[0], fold, 1.0, 0.8)
    return run


def output(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    if isinstance(done.exception, InputError):
        raise done.exception
    assert done.exit_code == 0
    return done.stdout


@pytest.mark.parametrize("verb", ["leaderboard", "status", "explain"])
def test_every_candidate_is_in_it_with_its_settings_and_reasons(record: WrittenRun, verb: str) -> None:
    found = json.loads(output(verb, record.path, "--json"))
    entries = found["stories" if verb == "explain" else "candidates"]
    assert {entry["candidate"] for entry in entries} == {candidate.id for candidate in record.candidates}
    assert all(entry["label"] and entry["state"] and entry["reason"] for entry in entries)
    rows = list(csv.DictReader(io.StringIO(output(verb, record.path, "--csv", "-"))))
    assert [row["candidate"] for row in rows] == [entry["candidate"] for entry in entries]


def test_the_numbers_of_the_leaderboard_are_exact(record: WrittenRun) -> None:
    (row,) = (row for row in leaderboard(record.path).rows if len(row.folds) == record.data.manifest.n_folds)
    first = json.loads(output("leaderboard", record.path, "--json"))["candidates"][0]
    assert (first["mean"], first["spread"], first["pooled"]) == (row.mean, row.spread, row.pooled)
    assert first["scores"] == {str(fold): score for fold, score in row.scores.items()}
    assert first["settings"]["seed"] == 0
    line = next(csv.DictReader(io.StringIO(output("leaderboard", record.path, "--csv", "-"))))
    assert (float(line["mean"]), float(line["scores_0"])) == (row.mean, row.scores[0])


def test_one_candidate_gives_its_reports(record: WrittenRun) -> None:
    candidate = record.candidates[0]
    rows = list(csv.DictReader(io.StringIO(output("explain", record.path, candidate.id, "--csv", "-"))))
    assert [float(row["progress"]) for row in rows][:2] == [0.5, 1.0]
    found = json.loads(output("explain", record.path, candidate.id, "--json"))
    assert (found["story"]["candidate"], len(found["reports"])) == (candidate.id, len(rows))


def test_a_page_that_renews_itself_is_for_people(record: WrittenRun) -> None:
    with pytest.raises(InputError, match="--watch"):
        output("status", record.path, "--watch", "--json")
