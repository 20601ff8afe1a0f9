import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml
from scipy.stats import pearsonr
from typer.testing import CliRunner

from data_prep.console import EscapingConsole
from data_prep.errors import InputError
from data_prep.prepared import Prepared
from data_prep.store.candidate_records import candidate_path, write_settings
from data_prep.store.files import write_json
from data_prep.store.oof_store import OofStore, Provenance
from models.candidate import Candidate
from search.__main__ import app
from search.ladder.decisions import CandidateStatus
from search.run_dir.curves import CurvePoint, Curves, minutes_by_candidate
from search.run_dir.status_file import write_statuses
from search.watch.leaderboard import Leaderboard, leaderboard


@dataclass
class RunDirectory:
    """A run directory with made-up predictions over a prepared folder."""

    path: str
    data: Prepared

    def add(self, candidate: Candidate, folds: dict[int, float], *, seed: int = 0, attempt: int = 0) -> str:
        """Write the candidate with predictions = score + error of the given size, by fold."""
        write_json(candidate.model_dump(mode="json"), f"{self.path}/candidates/{candidate.id}.json")
        for fold, error in folds.items():
            rows = self.data.train.filter(pc.equal(self.data.train["fold"], fold))
            noise = np.random.default_rng([seed, fold]).normal(size=len(rows))
            oof = pa.table(
                {
                    "id": rows["id"],
                    "fold": rows["fold"],
                    "score": rows["score"],
                    "prediction": pa.array(rows["score"].to_numpy() + error * noise, pa.float32()),
                }
            )
            test = pa.table(
                {
                    "id": self.data.test["id"],
                    "fold": pa.array([fold] * len(self.data.test), pa.int8()),
                    "prediction": pa.array(np.zeros(len(self.data.test)), pa.float32()),
                }
            )
            manifest = self.data.manifest
            stamp = Provenance(candidate.id, fold, manifest.data_hash, manifest.split_hash, 1, 1.0, attempt)
            OofStore(self.path).write(stamp, oof=oof, test=test)
        return candidate.id


@pytest.fixture
def run_directory(tmp_path: Path, prepared_tiny: Prepared) -> RunDirectory:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"name": "made-up", "data": prepared_tiny.path}))
    return RunDirectory(str(tmp_path), prepared_tiny)


def pearson_in_doubles(table: pa.Table) -> float:
    columns = (np.asarray(table[name], dtype=np.float64) for name in ("score", "prediction"))
    return float(pearsonr(*columns).statistic)


def text_of(board: Leaderboard) -> str:
    console = EscapingConsole(width=150, record=True, file=io.StringIO())
    console.print(board)
    return console.export_text()


ALL = range(4)


def test_numbers_are_those_of_the_tables(run_directory: RunDirectory) -> None:
    name = run_directory.add(Candidate(seed=1), dict.fromkeys(ALL, 0.2))
    (row,) = leaderboard(run_directory.path).rows
    tables = [OofStore(run_directory.path).read("oof", name, fold) for fold in ALL]
    values = [pearson_in_doubles(table) for table in tables]
    whole = pa.concat_tables([table.replace_schema_metadata(None) for table in tables])
    assert row.candidate == name
    assert row.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert row.spread == pytest.approx(np.std(values, ddof=1), abs=1e-9)
    assert row.pooled == pytest.approx(pearson_in_doubles(whole), abs=1e-9)
    assert (row.state, row.folds, row.difference) == ("finished", (0, 1, 2, 3), None)


@pytest.mark.parametrize("is_sealed", [True, False])
def test_settings_under_the_id_of_another_candidate_are_refused(run_directory: RunDirectory, is_sealed: bool) -> None:
    names = [run_directory.add(Candidate(seed=seed), dict.fromkeys(ALL, 0.2)) for seed in (1, 2)]
    paths = [Path(candidate_path(run_directory.path, name)) for name in names]
    if is_sealed:
        for seed, name in enumerate(names, start=1):
            write_settings(Candidate(seed=seed).model_dump(mode="json"), run_directory.path, name)
    first, second = (path.read_bytes() for path in paths)
    assert (b'"seal"' in first) == is_sealed
    paths[0].write_bytes(second)
    paths[1].write_bytes(first)
    with pytest.raises(InputError, match=rf"{names[0]}\.json: .*put back a copy"):
        leaderboard(run_directory.path)
    paths[0].write_bytes(first[:99])
    with pytest.raises(InputError, match=rf"{names[0]}\.json: is not what this version .*put back a copy"):
        leaderboard(run_directory.path)
    paths[0].unlink()
    with pytest.raises(InputError, match=rf"{names[0]}\.json: no such file; put back a copy"):
        leaderboard(run_directory.path)


def test_complete_candidates_come_first_and_partial_ones_meet_the_leader_on_its_folds(
    run_directory: RunDirectory,
) -> None:
    good = run_directory.add(Candidate(seed=1), dict.fromkeys(ALL, 0.3), seed=1)
    weak = run_directory.add(Candidate(seed=2), dict.fromkeys(ALL, 0.9), seed=2)
    best_on_one = run_directory.add(Candidate(seed=3), {0: 0.05}, seed=3)
    weak_on_one = run_directory.add(Candidate(seed=4), {0: 0.7}, seed=4)
    weak_on_two = run_directory.add(Candidate(seed=5), {0: 0.9, 1: 0.9}, seed=5)
    board = leaderboard(run_directory.path)
    assert [row.candidate for row in board.rows] == [good, weak, weak_on_two, best_on_one, weak_on_one]
    _, second, _, third, fourth = board.rows
    assert second.difference is not None
    assert second.difference.value == pytest.approx(second.mean - board.rows[0].mean)
    assert not second.difference.is_noise
    on_fold_0 = pearson_in_doubles(OofStore(run_directory.path).read("oof", good, 0))
    for row in (third, fourth):
        assert row.difference is not None
        assert row.difference.value == pytest.approx(row.mean - on_fold_0, abs=1e-9)
    assert (third.state, third.reason) == ("unfinished", "1 of 4 folds done, no decision on record")


def test_the_same_quality_with_other_noise_is_a_tie(run_directory: RunDirectory) -> None:
    run_directory.add(Candidate(seed=1), dict.fromkeys(ALL, 0.3), seed=1)
    run_directory.add(Candidate(seed=2), dict.fromkeys(ALL, 0.3), seed=2)
    board = leaderboard(run_directory.path)
    assert board.rows[1].difference is not None
    assert board.rows[1].difference.is_noise
    assert "tie" in text_of(board)


def test_stopped_and_failed_are_counted_with_their_reasons(run_directory: RunDirectory) -> None:
    done = run_directory.add(Candidate(seed=1), dict.fromkeys(ALL, 0.3))
    dropped = run_directory.add(Candidate(seed=2), {0: 0.9}, seed=2)
    cut = run_directory.add(Candidate(seed=3), {})
    dead = run_directory.add(Candidate(seed=4), {})
    statuses = {
        done: CandidateStatus("running", "written before its last fold was done"),
        dropped: CandidateStatus("stopped", "not promoted: rank 2 of 3"),
        cut: CandidateStatus("stopped", "cut on fold 0 at 33%: [0.31]"),
        dead: CandidateStatus("failed", "NaN for the second time"),
    }
    write_statuses(run_directory.path, statuses)
    board = leaderboard(run_directory.path)
    assert board.counts == {"finished": 1, "stopped": 2, "failed": 1}
    text = text_of(board)
    for reason in ("not promoted: rank 2 of 3", "cut on fold 0 at 33%: [0.31]", "NaN for the second time"):
        assert reason in text
    assert "1 finished, 2 stopped, 1 failed" in text


def test_retries_and_minutes_are_shown(run_directory: RunDirectory) -> None:
    name = run_directory.add(Candidate(seed=1), {0: 0.3}, attempt=1)
    curves = Curves(run_directory.path)
    for fold, progress, seconds in ((0, 0.5, 60.0), (0, 1.0, 90.0), (1, 0.5, 30.0)):
        curves.append(CurvePoint(name, fold, progress, progress, 0.5, seconds))
    board = leaderboard(run_directory.path)
    assert board.rows[0].retried == (0,)
    assert board.rows[0].minutes == pytest.approx(2.0)
    assert "fold 0 died once, retried" in text_of(board)


def test_an_empty_run_directory_says_so(run_directory: RunDirectory) -> None:
    board = leaderboard(run_directory.path)
    assert board.rows == ()
    assert "no fold run has finished yet" in text_of(board)


def test_the_command_names_blending_once_a_candidate_is_complete(run_directory: RunDirectory) -> None:
    def last_line() -> str:
        return CliRunner().invoke(app, ["leaderboard", run_directory.path]).output.strip().splitlines()[-1]

    where, n_folds = run_directory.path, run_directory.data.manifest.n_folds
    assert last_line() == f"read {where}; next: blendfold explain {where}"
    run_directory.add(Candidate(), dict.fromkeys(range(n_folds - 1), 0.1))
    assert last_line() == f"read {where}; next: blendfold explain {where}"
    run_directory.add(Candidate(loss="bce"), dict.fromkeys(range(n_folds), 0.2))
    assert last_line() == f"read {where}; next: blendfold blend {where}"


@pytest.mark.parametrize("most", [1, 2, 4])
@pytest.mark.parametrize("with_curves", [True, False])
def test_a_page_is_the_start_of_the_whole(run_directory: RunDirectory, most: int, *, with_curves: bool) -> None:
    n_folds = run_directory.data.manifest.n_folds
    parts = [(0.3, n_folds), (0.1, 1), (0.2, n_folds), (0.5, n_folds), (0.4, 2), (0.2, 2)]
    names = [
        run_directory.add(Candidate(seed=seed), dict.fromkeys(range(folds), error), seed=seed)
        for seed, (error, folds) in enumerate(parts)
    ]
    silent = run_directory.add(Candidate(seed=9), {})
    whole = leaderboard(run_directory.path)
    if with_curves:
        curves, store = Curves(run_directory.path), OofStore(run_directory.path)
        for name, fold in store.fold_runs():
            curves.append(CurvePoint(name, fold, 1.0, 1.0, pearson_in_doubles(store.read("oof", name, fold)), 0.0))
        Path(store.path("oof", names[1], 0)).write_bytes(b"damaged, and not on the page")
    page = leaderboard(run_directory.path, most=most)
    assert page.rows == whole.rows[:most]
    assert [entry.candidate for entry in page.unscored] == [silent]
    assert page.counts == whole.counts
    assert f"{6 - most} candidates more; show them with --all" in text_of(page)
    assert "more" not in text_of(whole)


@pytest.mark.parametrize("verb", ["leaderboard", "explain", "status"])
def test_hostile_names_and_reasons_are_shown_as_they_are(run_directory: RunDirectory, verb: str) -> None:
    candidate = Candidate(backbone="de[v3]\x1b[2J:x:")
    name = run_directory.add(candidate, {0: 0.1})
    write_statuses(run_directory.path, {name: CandidateStatus("stopped", "cut[/]\x1b]0;pwned\x07")})
    for progress in (0.5, 1.0):
        Curves(run_directory.path).append(CurvePoint(name, 0, progress, progress, 0.5, 60.0))
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, [verb, run_directory.path], catch_exceptions=False)
    assert r"de[v3]\x1b[2J:x:" in done.output
    assert r"cut[/]\x1b]0;pwned" in done.output
    assert not {"\x1b", "\x07"} & set(done.output)


def test_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not a run directory \(no study.yaml\)"):
        leaderboard(str(tmp_path))


def test_tables_of_other_rows_are_refused(run_directory: RunDirectory, prepared_tiny: Prepared) -> None:
    fold = np.asarray(prepared_tiny.train["fold"])
    fewer = prepared_tiny.train.filter(pa.array((fold != 0) | (np.arange(len(fold)) % 2 == 0)))
    path = run_directory.data
    run_directory.data = Prepared(path.path, path.manifest, fewer, path.test)
    run_directory.add(Candidate(seed=1), {0: 0.3})
    with pytest.raises(InputError, match="holds other rows than fold 0 of the prepared folder"):
        leaderboard(run_directory.path)


def test_minutes_are_the_longest_of_each_fold_added_up() -> None:
    told = [("a", 0, 90.0), ("b", 0, 30.0), ("a", 0, 60.0), ("a", 1, 30.0), ("b", 1, float("nan"))]
    points = [CurvePoint(candidate, fold, 0.5, 1.0, 0.5, seconds) for candidate, fold, seconds in told]
    assert minutes_by_candidate(points) == {"a": 2.0, "b": 0.5}


def test_candidates_are_told_apart_by_name_and_settings_at_80_columns(run_directory: RunDirectory) -> None:
    shared = {"backbone": "minilm-l6", "loss": "bce", "epochs": 3}
    named = run_directory.add(Candidate(**shared, backbone_lr=3e-4), dict.fromkeys(ALL, 0.2))
    first = run_directory.add(Candidate(**shared, backbone_lr=2e-4), dict.fromkeys(ALL, 0.3))
    second = run_directory.add(Candidate(**{**shared, "epochs": 5}), {})
    study = Path(run_directory.path) / "study.yaml"
    study.write_text(yaml.safe_dump({**yaml.safe_load(study.read_text()), "names": {"fast": named, "fast-too": named}}))
    board = leaderboard(run_directory.path)
    assert [row.name for row in board.rows] == ["fast, fast-too", ""]
    console = EscapingConsole(width=80, record=True, file=io.StringIO())
    console.print(board)
    shown = console.export_text()
    assert all(len(line) <= 80 for line in shown.splitlines())
    for title, settings in {
        f"fast, fast-too {named[:6]}": "backbone_lr=0.0003",
        f"{board.rows[1].label} {first[:6]}": "backbone_lr=0.0002",
        f"{board.rows[1].label} {second[:6]}": "epochs=5 backbone_lr=0.0001",
        "where not given": "epochs=3",
    }.items():
        assert re.search(rf"{re.escape(title)} +{re.escape(settings)} *$", shown, re.MULTILINE), title
    assert all(f"{row.mean:.4f}" in shown and f"{row.pooled:.4f}" in shown for row in board.rows)
