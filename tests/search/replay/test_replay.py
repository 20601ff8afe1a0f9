"""Replays of hand-made curves, with costs and losses that can be worked out by hand."""

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from scipy.optimize import nnls
from scipy.stats import pearsonr
from typer.testing import CliRunner

from data_prep.errors import InputError
from data_prep.prepared import Prepared
from data_prep.scoring.metrics import METRICS
from data_prep.store.files import write_json
from data_prep.store.oof_store import OofStore, Provenance
from models.candidate import Candidate
from search.__main__ import app
from search.ladder.settings import LadderSettings
from search.replay.ladder_option import read_ladder_option
from search.replay.nested_blend_score import N_DRAWS, BlendScores
from search.replay.players import (
    AshaPlayer,
    LadderPlayer,
    NewScheduler,
    RandomPlayer,
    ReplayJob,
    WilcoxonPlayer,
    _all_folds,
    quantile,
)
from search.replay.recording import (
    RecordedCandidate,
    RecordedRows,
    RecordedRun,
    Recording,
    keep_recording,
    read_recording,
)
from search.replay.replay_search import Play, Replay, play, replay
from search.run_dir.curves import CurvePoint, Curves

MEMO = Path(__file__).parents[4] / "shared" / "data" / "memo" / "curves.csv"
NAN = float("nan")


def run_of(*utility: float, seconds: Sequence[float] | None = None) -> RecordedRun:
    n = len(utility)
    progress = tuple((epoch + 1) / n for epoch in range(n))
    epochs = tuple(float(epoch + 1) for epoch in range(n))
    return RecordedRun(progress, epochs, tuple(seconds or [NAN] * n), utility)


def candidate_of(name: str, *runs: RecordedRun, family: str = "one") -> RecordedCandidate:
    return RecordedCandidate(name, family, f"label-{name}", runs)


def recording_of(*candidates: RecordedCandidate, rows: RecordedRows | None = None) -> Recording:
    return Recording(candidates, len(candidates[0].runs), METRICS["pearson"], (), rows)


def flat(name: str, level: float, *, n_folds: int = 2, n_epochs: int = 2, family: str = "one") -> RecordedCandidate:
    return candidate_of(name, *[run_of(*[level] * n_epochs)] * n_folds, family=family)


def rows_of(n_candidates: int, n_folds: int, seed: int = 0) -> RecordedRows:
    """Made-up predictions: the score with errors that candidates share in part."""
    random = np.random.default_rng(seed)
    n = 60 * n_folds
    fold = np.repeat(np.arange(n_folds), 60).astype(np.int8)
    score = random.choice([0.0, 0.25, 0.5, 0.75, 1.0], n).astype(np.float32)
    error = random.normal(size=(n, 1)) + random.normal(size=(n, n_candidates)) * random.uniform(0.5, 2, n_candidates)
    predictions = (score[:, None] + 0.3 * error + 0.1 * fold[:, None]).astype(np.float32)
    group = (np.arange(n) // 5).astype(np.int32)
    return RecordedRows(pa.array([f"r{i}" for i in range(n)]), fold, group, score, predictions)


def noisy_recording(n_candidates: int, *, n_folds: int = 3, seed: int = 0, rows: bool = False) -> Recording:
    random = np.random.default_rng(seed)
    candidates = []
    for number in range(n_candidates):
        epochs = int(random.integers(2, 6))
        level = random.normal(0.7, 0.02)
        runs = [
            run_of(*(level + 0.01 * np.arange(epochs) + random.normal(0, 0.01, epochs)).tolist())
            for _ in range(n_folds)
        ]
        candidates.append(candidate_of(f"c{number}", *runs, family=f"family-{number % 3}"))
    return recording_of(*candidates, rows=rows_of(n_candidates, n_folds, seed) if rows else None)


# ---------------------------------------------------------------- what each player spends


def test_random_search_spends_what_its_candidates_cost() -> None:
    recording = recording_of(flat("a", 0.8, n_epochs=3), flat("b", 0.6, n_epochs=1), flat("c", 0.7, n_epochs=2))
    found = play(recording, lambda r, o: RandomPlayer(r, o, n_candidates=2), [1, 2, 0], n_workers=1)
    assert found == Play(cost=6 / 12, completions=((2 / 12, 1), (6 / 12, 2)))


def test_asha_stops_what_is_under_the_quantile_of_those_before() -> None:
    recording = recording_of(flat("good", 0.8), flat("bad", 0.5))
    asha = _asha(2)
    assert play(recording, asha, [0, 1], n_workers=1) == Play(5 / 8, ((4 / 8, 0),))
    assert play(recording, asha, [1, 0], n_workers=1) == Play(8 / 8, ((4 / 8, 1), (8 / 8, 0)))


def test_asha_lets_equals_go_on() -> None:
    twins = recording_of(flat("a", 0.8), flat("b", 0.8))
    assert play(twins, _asha(2), [0, 1], n_workers=1).completed() == {0, 1}


def test_asha_reports_the_running_mean_over_folds() -> None:
    """What counts at the fourth epoch is the mean of .71 and .6; at the second the end of fold 0 alone."""
    even = flat("even", 0.7)
    late = candidate_of("late", run_of(0.71, 0.71), run_of(0.6, 0.6))
    assert play(recording_of(even, late), _asha(2), [0, 1], n_workers=1).cost == (4 + 4) / 8
    late = candidate_of("late", run_of(0.71, 0.69), run_of(0.6, 0.6))
    assert play(recording_of(even, late), _asha(2), [0, 1], n_workers=1).cost == (4 + 2) / 8


@pytest.mark.parametrize("reduction", [2, 3, 4])
@pytest.mark.parametrize("n_workers", [1, 4])
def test_asha_decides_as_ray_tune_does(reduction: int, n_workers: int) -> None:
    recording = noisy_recording(14, seed=reduction)
    order = np.random.default_rng(reduction).permutation(14).tolist()
    ours = play(recording, _asha(reduction), order, n_workers=n_workers)
    theirs = play(recording, lambda r, o: TunePlayer(r, o, reduction), order, n_workers=n_workers)
    assert ours == theirs
    assert ours.cost < 1


class TunePlayer:
    """Ray Tune's own scheduler, asked the same questions."""

    def __init__(self, recording: Recording, order: Sequence[RecordedCandidate], reduction: int) -> None:
        longest = max(candidate.epochs for candidate in recording.candidates)
        self._asha = AsyncHyperBandScheduler(
            time_attr="epoch", metric="mean", mode="max", max_t=longest, grace_period=1, reduction_factor=reduction
        )
        self._fresh = deque(order)

    def next_job(self) -> ReplayJob | None:
        job = _all_folds(self._fresh)
        if job is not None:
            self._asha.on_trial_add(None, SimpleNamespace(trial_id=job.candidate.name))
        return job

    def report(self, job: ReplayJob, fold: int, step: int) -> bool:
        runs = job.candidate.runs
        if fold == len(runs) - 1 and step == len(runs[fold].progress) - 1:
            return True
        result = {
            "epoch": sum(run.epochs[-1] for run in runs[:fold]) + step + 1,
            "mean": np.mean([*(run.utility[-1] for run in runs[:fold]), runs[fold].utility[step]]),
        }
        answer = self._asha.on_trial_result(None, SimpleNamespace(trial_id=job.candidate.name), result)
        return bool(answer == TrialScheduler.CONTINUE)


@pytest.mark.parametrize("share", [0, 0.25, 0.5, 2 / 3, 1])
def test_quantile_is_numpys(share: float) -> None:
    values = sorted(np.random.default_rng(0).normal(size=7).tolist())
    assert quantile(values, share) == pytest.approx(np.percentile(values, 100 * share), rel=1e-14)


def test_the_wilcoxon_pruner_can_stop_after_four_folds_only() -> None:
    recording = recording_of(flat("good", 0.8, n_folds=5, n_epochs=1), flat("bad", 0.5, n_folds=5, n_epochs=1))
    assert play(recording, WilcoxonPlayer, [0, 1], n_workers=1) == Play(9 / 10, ((5 / 10, 0),))
    assert play(recording, WilcoxonPlayer, [1, 0], n_workers=1).completed() == {0, 1}


def test_the_ladder_stops_after_fold_0_what_is_far_behind_in_its_family() -> None:
    recording = recording_of(flat("good", 0.8, n_folds=4), flat("bad", 0.5, n_folds=4))
    for order in ([0, 1], [1, 0]):
        found = play(recording, _ladder(LadderSettings()), order, n_workers=1)
        assert found.cost == (4 * 2 + 2) / 16
        assert found.completed() == {0}


def test_without_decisions_the_ladder_is_the_full_grid() -> None:
    found = play(noisy_recording(6), _ladder(LadderSettings(enabled=False)), list(range(6)), n_workers=3)
    assert found.cost == pytest.approx(1)
    assert found.completed() == set(range(6))


def test_a_fold_that_the_ladder_calls_dead_is_not_completed() -> None:
    dead = candidate_of("dead", run_of(0.6, 0.6), run_of(0.6, 0.01))
    found = play(recording_of(dead, flat("good", 0.7)), _ladder(LadderSettings(enabled=False)), [0, 1], n_workers=1)
    assert found.completed() == {1}


def test_a_report_takes_the_seconds_that_it_took() -> None:
    slow = candidate_of("slow", run_of(0.5, 0.8, seconds=(10, 20)))
    quick = candidate_of("quick", *[run_of(*[0.7] * 6, seconds=[1, 2, 3, 4, 5, 6])])
    timed = recording_of(slow, quick)
    everything = lambda r, o: RandomPlayer(r, o, n_candidates=2)  # noqa: E731
    assert [number for _, number in play(timed, everything, [0, 1], n_workers=2).completions] == [1, 0]
    untimed = recording_of(candidate_of("slow", run_of(0.5, 0.8)), quick)
    assert [number for _, number in play(untimed, everything, [0, 1], n_workers=2).completions] == [0, 1]


def _asha(reduction: int) -> NewScheduler:
    return lambda recording, order: AshaPlayer(recording, order, reduction=reduction)


def _ladder(settings: LadderSettings) -> NewScheduler:
    return lambda recording, order: LadderPlayer(recording, order, settings=settings)


# ---------------------------------------------------------------- what it comes to


def summary(found: Replay, name: str):
    return next(row for row in found.summaries if row.name == name)


def test_regret_and_members_of_random_search_by_hand() -> None:
    recording = recording_of(flat("a", 0.8, family="org/first"), flat("b", 0.5, family="org/second"))
    found = replay(recording, LadderSettings(), members=("a", "second", "org/second"), n_orders=50)
    row = summary(found, "random, 1 of 2")
    has_a, has_b, again = row.members
    assert has_a + has_b == 1
    assert has_b == again
    assert 0 < has_b < 1
    assert row.regret.mean == pytest.approx(0.3 * has_b)
    assert (row.regret.low, row.regret.high) == pytest.approx((0, 0.3))
    assert row.cost.mean == 0.5
    assert summary(found, "full grid").families.low == 2


def test_the_same_seed_gives_the_same_replay() -> None:
    recording = noisy_recording(9, rows=True)
    first, second, other = (replay(recording, LadderSettings(), n_orders=12, seed=seed) for seed in (3, 3, 4))
    assert first.summaries == second.summaries
    assert summary(first, "random, 2 of 9") != summary(other, "random, 2 of 9")


def test_the_nested_score_is_that_of_separate_fits() -> None:
    rows = rows_of(4, 3)
    columns = [0, 2, 3]
    fold = rows.fold
    x = rows.predictions[:, columns].astype(float)
    y = rows.target.astype(float)
    for k in range(3):
        x[fold == k] -= x[fold == k].mean(axis=0)
        y[fold == k] -= y[fold == k].mean()
    fits = [nnls(x[fold != k], y[fold != k])[0] for k in range(3)]
    expected = np.mean([pearsonr(x[fold == k] @ fits[k], y[fold == k]).statistic for k in range(3)])
    assert BlendScores(rows).score(columns) == pytest.approx(expected, rel=1e-9)
    assert np.isnan(BlendScores(rows).score([]))


def test_the_standard_error_is_that_of_rows_drawn_by_whole_groups() -> None:
    rows = rows_of(3, 2)
    scores = BlendScores(rows)
    groups = np.unique(rows.group)
    random = np.random.default_rng(1)
    drawn = []
    x = [rows.predictions[:, column].astype(float) for column in (0, 1)]
    for _ in range(N_DRAWS):
        picked = np.concatenate([np.flatnonzero(rows.group == g) for g in random.choice(groups, len(groups))])
        means = [
            np.mean(
                [pearsonr(c[p], rows.target[p]).statistic for k in (0, 1) if len(p := picked[rows.fold[picked] == k])]
            )
            for c in x
        ]
        drawn.append(means[0] - means[1])
    assert scores.standard_error([0], [1]) == pytest.approx(np.std(drawn, ddof=1), rel=0.15)
    assert scores.standard_error([0, 1], [1, 0]) == 0


def test_blends_are_scored_at_the_end_and_at_each_budget() -> None:
    recording = noisy_recording(6, rows=True)
    found = replay(recording, LadderSettings(), n_orders=8)
    assert recording.rows is not None
    scores = BlendScores(recording.rows)
    assert found.grid_blend == scores.score(range(6))
    for row in found.summaries:
        assert row.blend is not None
        budgets = [point[0] for point in row.blend.curve]
        assert budgets == sorted(budgets)
        assert row.blend.behind.mean == pytest.approx(found.grid_blend - row.blend.score.mean)
    grid = summary(found, "full grid").blend
    assert grid.standard_error == 0
    assert grid.within == 1
    assert grid.curve[-1][:2] == pytest.approx((1.0, found.grid_blend))


# ---------------------------------------------------------------- reading and keeping

HEADER = "experiment,backbone,fold,epoch,valid_pearson,split_id\n"


def csv_of(tmp_path: Path, *lines: str, header: str = HEADER) -> str:
    path = tmp_path / "curves.csv"
    path.write_text(header + "".join(f"{line}\n" for line in lines))
    return str(path)


def whole(name: str, split: str, backbone: str = "bert", level: float = 0.5) -> list[str]:
    return [f"{name},{backbone},{fold},{epoch},{level + epoch / 10},{split}" for fold in (0, 1) for epoch in (0, 1)]


def test_a_csv_gives_curves_and_names_what_is_incomplete(tmp_path: Path) -> None:
    partial = whole("cut", "B")[:-1]
    path = csv_of(tmp_path, *whole("e1", "B"), *partial, *whole("e2", "K"), "gone,bert,0,0,.5,B")
    recording = read_recording(path, split="B")
    assert recording.candidates == (RecordedCandidate("e1", "bert", "e1", recording.candidates[0].runs),)
    run = recording.candidates[0].runs[1]
    assert (run.progress, run.epochs, run.utility) == ((0.5, 1.0), (1.0, 2.0), (0.5, 0.6))
    assert not recording.is_timed
    assert recording.left_out == (
        "cut (bert): left out, no complete curve of fold 1",
        "gone (bert): left out, no complete curve of fold 1",
    )


@pytest.mark.parametrize(
    ("lines", "header", "split", "message"),
    [
        (whole("e", "B"), HEADER.replace("valid_pearson", "pearson"), None, "lacks column valid_pearson; found exp"),
        (whole("e", "B"), HEADER, "Z", "no line has split_id 'Z'; known: B"),
        ([*whole("e", "B"), *whole("f", "K")], HEADER, None, r"several splits.*one of \['B', 'K'\]"),
        (whole("e", "B")[:3], HEADER, None, "no candidate has complete curves of all folds\ne .bert.: left out"),
        (["e,bert,0,zero,.5,B"], HEADER, None, "not a CSV of curves"),
        (["e,bert,0,0,,B"], HEADER, None, "line 2 has an empty cell"),
        ([*whole("e", "B"), "e,bert,0,0,.5,B"], HEADER, None, "e fold 0 epoch 0 occurs twice"),
    ],
)
def test_a_bad_csv_is_refused(tmp_path: Path, lines: list[str], header: str, split: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_recording(csv_of(tmp_path, *lines, header=header), split=split)


def test_what_is_not_there_or_not_a_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_recording(str(tmp_path / "none.csv"))
    with pytest.raises(InputError, match="not a CSV of curves, a run directory"):
        read_recording(str(tmp_path))
    with pytest.raises(InputError, match="--split selects rows of a CSV"):
        read_recording(str(tmp_path), split="B")
    recording = recording_of(flat("a", 0.5))
    with pytest.raises(InputError, match=r"--members b: no candidate .* families: one"):
        replay(recording, LadderSettings(), members=["b"], n_orders=1)


@pytest.mark.parametrize("with_rows", [True, False])
def test_what_is_kept_reads_back_the_same(tmp_path: Path, with_rows: bool) -> None:
    recording = noisy_recording(5, rows=with_rows)
    keep_recording(recording, str(tmp_path / "kept"))
    again = read_recording(str(tmp_path / "kept"))
    assert again.candidates == recording.candidates or _no_nan(again) == _no_nan(recording)
    assert (again.n_folds, again.metric, again.left_out) == (3, METRICS["pearson"], ())
    assert (again.rows is None) is not with_rows
    if with_rows:
        for name in ("id", "fold", "group", "target", "predictions"):
            assert np.array_equal(getattr(again.rows, name), getattr(recording.rows, name)), name
    with pytest.raises(InputError, match=r"already holds curves\.arrow"):
        keep_recording(recording, str(tmp_path / "kept"))
    write_json({}, str(tmp_path / "run" / "study.yaml"))
    with pytest.raises(InputError, match=r"already holds study\.yaml"):
        keep_recording(recording, str(tmp_path / "run"))


def _no_nan(recording: Recording) -> list[RecordedCandidate]:
    return [replace(c, runs=tuple(replace(run, seconds=()) for run in c.runs)) for c in recording.candidates]


def test_predictions_may_lie_elsewhere(tmp_path: Path) -> None:
    recording = noisy_recording(3, rows=True)
    keep_recording(recording, str(tmp_path / "with"))
    more = recording_of(*recording.candidates, candidate_of("extra", *recording.candidates[0].runs))
    keep_recording(more, str(tmp_path / "without"))
    again = read_recording(str(tmp_path / "without"), rows=str(tmp_path / "with" / "predictions.arrow"))
    assert [candidate.name for candidate in again.candidates] == ["c0", "c1", "c2"]
    assert "extra (one): left out, no column in" in again.left_out[0]
    with pytest.raises(InputError, match="lacks column id, group, score; found candidate"):
        read_recording(str(tmp_path / "without"), rows=str(tmp_path / "with" / "curves.arrow"))


@pytest.fixture
def run_dir(tmp_path: Path, prepared_tiny: Prepared) -> str:
    """A run directory of two whole candidates and one without its last fold."""
    path, manifest = str(tmp_path / "run"), prepared_tiny.manifest
    write_json({"name": "made-up", "data": str(prepared_tiny.path)}, f"{path}/study.yaml")
    curves = Curves(path)
    for number, folds in enumerate((4, 4, 3)):
        candidate = Candidate(seed=number)
        write_json(candidate.model_dump(mode="json"), f"{path}/candidates/{candidate.id}.json")
        for fold in range(folds):
            rows = prepared_tiny.train.filter(pc.equal(prepared_tiny.train["fold"], fold))
            noise = np.random.default_rng([number, fold]).normal(size=len(rows))
            prediction = (rows["score"].to_numpy() + 0.3 * noise).astype(np.float32)
            oof = pa.table({name: rows[name] for name in ("id", "fold", "score")})
            test = pa.table({"id": prepared_tiny.test["id"]})
            test = test.append_column("fold", pa.array([fold] * len(test), pa.int8()))
            test = test.append_column("prediction", pa.array(np.zeros(len(test)), pa.float32()))
            stamp = Provenance(candidate.id, fold, manifest.data_hash, manifest.split_hash, 1, 1.0)
            OofStore(path).write(stamp, oof=oof.append_column("prediction", pa.array(prediction)), test=test)
            curves.append(CurvePoint(candidate.id, fold, 0.5, 1.0, 0.4, 3.0))
            metric = METRICS["pearson"](rows["score"].to_numpy(), prediction)
            curves.append(CurvePoint(candidate.id, fold, 1.0, 2.0, metric, 7.0))
    return path


def test_a_run_directory_gives_curves_and_predictions_and_stays_small(
    tmp_path: Path, run_dir: str, prepared_tiny: Prepared
) -> None:
    recording = read_recording(run_dir)
    assert [c.name for c in recording.candidates] == sorted(Candidate(seed=n).id for n in (0, 1))
    assert recording.candidates[0].family == Candidate().family
    assert recording.candidates[0].label == Candidate().label
    assert recording.left_out == (f"{Candidate(seed=2).id} (minilm-l6): left out, no complete curve of fold 3",)
    assert recording.is_timed
    rows = recording.rows
    assert rows is not None
    assert rows.predictions.shape == (np.count_nonzero(prepared_tiny.train["fold"].to_numpy() >= 0), 2)
    for index, candidate in enumerate(recording.candidates):
        for fold, run in enumerate(candidate.runs):
            inside = rows.fold == fold
            value = METRICS["pearson"](rows.target[inside], rows.predictions[inside, index])
            assert value == run.utility[-1]
    kept = tmp_path / "kept"
    keep_recording(recording, str(kept))
    assert replay(read_recording(str(kept)), LadderSettings(), n_orders=3).summaries == (
        replay(recording, LadderSettings(), n_orders=3).summaries
    )
    per_row = (kept / "predictions.arrow").stat().st_size / len(rows.target)
    assert per_row < 40


# ---------------------------------------------------------------- settings and command line


def test_settings_from_text_and_file(tmp_path: Path) -> None:
    assert read_ladder_option(None) == LadderSettings()
    assert read_ladder_option("eta=2, rungs=[0.4,0.8]") == LadderSettings(eta=2, rungs=(0.4, 0.8))
    path = tmp_path / "ladder.yaml"
    path.write_text(yaml.safe_dump({"eta": 2, "noise": 0.01}))
    assert read_ladder_option(str(path)) == LadderSettings(eta=2, noise=0.01)
    with pytest.raises(InputError, match="unknown key 'etta'; known keys: dead_below"):
        read_ladder_option("etta=2")
    with pytest.raises(InputError, match="stands twice"):
        read_ladder_option("eta=2,eta=3")
    with pytest.raises(InputError, match="not a YAML file"):
        read_ladder_option("rungs=[0.4")
    with pytest.raises(InputError, match="'3' is not KEY=VALUE"):
        read_ladder_option("eta=2,3")


def test_the_command_line_plays_and_keeps(tmp_path: Path) -> None:
    path = csv_of(tmp_path, *whole("e1", "B"), *whole("e2", "B", "funnel", 0.6), *whole("e3", "B")[:2])
    runner = CliRunner(env={"COLUMNS": "160"})
    shown = runner.invoke(app, ["replay", path, "--split", "B", "--orders", "5", "--members", "funnel"])
    assert shown.exit_code == 0, shown.output
    assert "e3 (bert): left out, no complete curve of fold 1" in shown.output
    for words in ("fold ladder", "ASHA, reduction 4", "Wilcoxon pruner", "random, 1 of 2", "full grid", "funnel kept"):
        assert words in shown.output, words
    exported = runner.invoke(app, ["replay", path, "--split", "B", "--orders", "5", "--members", "funnel", "--json"])
    schedulers = json.loads(exported.stdout)["schedulers"]
    assert {row["name"] for row in schedulers} >= {"fold ladder", "full grid"}
    assert next(row for row in schedulers if row["name"] == "full grid")["members"] == {"funnel": 1.0}
    kept = tmp_path / "kept"
    told = runner.invoke(app, ["replay", path, "--split", "B", "--keep", str(kept)])
    assert f"next: blendfold replay {kept}" in told.output.replace("\n", "")
    again = runner.invoke(app, ["replay", str(kept), "--orders", "5", "--ladder", "eta=2"])
    assert "2 candidates of 2 families on 2 folds, 8 fold-epochs" in again.output
    refused = runner.invoke(app, ["replay", path, "--split", "Z"])
    assert isinstance(refused.exception, InputError)


# ---------------------------------------------------------------- the memo


@pytest.fixture(scope="module")
def memo() -> Replay:
    recording = read_recording(str(MEMO), split="B")
    return replay(recording, LadderSettings(), members=("deberta-v3-large", "funnel-transformer/xlarge"), n_orders=200)


@pytest.mark.shared
@pytest.mark.skipif(not MEMO.exists(), reason="needs the memo's curves beside the project")
def test_on_the_memo_the_ladder_keeps_what_is_good_at_under_a_third_of_the_work(memo: Replay) -> None:
    assert len(memo.recording.candidates) == 26
    assert [sentence.split()[0] for sentence in memo.recording.left_out] == ["exp021", "exp023", "exp029"]
    row = summary(memo, "fold ladder")
    assert row.cost.mean <= 0.30
    assert row.regret.mean <= 0.001
    assert row.families.low >= 3
    assert row.members == (1.0, 1.0)
    assert row.empty == 0


@pytest.mark.shared
@pytest.mark.skipif(not MEMO.exists(), reason="needs the memo's curves beside the project")
def test_on_the_memo_plain_asha_loses_families(memo: Replay) -> None:
    for reduction in (2, 3, 4):
        row = summary(memo, f"ASHA, reduction {reduction}")
        assert row.families.mean < 3
        assert row.members[1] < 0.5


@pytest.mark.shared
@pytest.mark.skipif(not MEMO.exists(), reason="needs the memo's curves beside the project")
@pytest.mark.parametrize("first", [1, 2, 3, 4])
@pytest.mark.parametrize("leave_out", ["nothing", "exp047"])
def test_the_memo_has_no_regret_whichever_fold_comes_first(first: int, leave_out: str) -> None:
    """What holds for the one table as it comes would be worth little: its folds, and a leader far ahead, are chance."""
    recording = read_recording(str(MEMO), split="B")
    turned = tuple(
        replace(c, runs=c.runs[first:] + c.runs[:first]) for c in recording.candidates if c.name != leave_out
    )
    recording = replace(recording, candidates=turned)
    orders = [np.random.default_rng(seed).permutation(len(turned)).tolist() for seed in range(40)]
    plays = [play(recording, _ladder(LadderSettings()), order, n_workers=4) for order in orders]
    best = max(candidate.mean_utility for candidate in turned)
    regrets = [best - max(turned[number].mean_utility for number in found.completed()) for found in plays]
    assert np.mean(regrets) <= 0.0001
    assert np.mean([found.cost for found in plays]) <= 0.40
    assert min(len({turned[number].family for number in found.completed()}) for found in plays) >= 3
