import contextlib
import dataclasses
import functools
import itertools
import json
import math
import re
import shutil
import time

import numpy as np
import pyarrow.compute as pc
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import pearsonr
from typer.testing import CliRunner

from data_prep.errors import InputError
from data_prep.scoring.metrics import METRICS, pearson
from data_prep.store.oof_store import OofStore
from data_prep.store.tables import OOF_SCHEMA, TEST_SCHEMA
from models.__main__ import app
from models.backbones.locate_backbone import locate_backbone
from models.candidate import Candidate
from models.parts.adversary import FastGradientMethod
from models.parts.heads import HEADS
from models.parts.losses import LOSSES, MeanSquaredError
from models.text.batches import training_batches
from models.text.fold_pools import load_fold_pools
from models.text.recipes import RECIPES
from models.training.build_learner import new_learner
from models.training.checkpoint import CheckpointFolder
from models.training.devices import make_repeatable
from models.training.fold_predictions import measure_predictions
from models.training.gradients import StepGradients
from models.training.learner import Learner
from models.training.rung_steps import first_step, rung_sample
from small_models import train as train_fold

FOLD = 1
QUICK = {"max_length": 48, "batch_size": 32, "backbone_lr": 1e-3}
LEARNING = {"max_length": 48, "batch_size": 8, "backbone_lr": 3e-3, "epochs": 5, "dropout": 0.0}


@pytest.fixture
def train(tiny_bert, prepared_tiny, tmp_path):
    def run(settings=None, *, fold=FOLD, **options):
        candidate = Candidate(backbone=tiny_bert, **{**QUICK, **(settings or {})})
        return train_fold(candidate, prepared_tiny, fold, cache=tmp_path / "cache", **options)

    return run


def test_tables_hold_every_row_once_in_prepared_order(train, prepared_tiny):
    found = train()
    rows = prepared_tiny.train.filter(pc.equal(prepared_tiny.train["fold"], FOLD))
    held_out = prepared_tiny.train.filter(pc.equal(prepared_tiny.train["fold"], -1))
    tables = [
        (found.oof, rows, OOF_SCHEMA),
        (found.test, prepared_tiny.test, TEST_SCHEMA),
        (found.holdout, held_out, OOF_SCHEMA),
    ]
    for table, expected, schema in tables:
        assert table.num_rows > 20
        assert table.schema.equals(schema)
        assert table["id"].to_pylist() == expected["id"].to_pylist()
        assert set(table["fold"].to_pylist()) == {FOLD}
        assert np.isfinite(table["prediction"].to_numpy()).all()
    assert found.oof["score"].equals(rows["score"])
    assert found.metric == pytest.approx(
        pearsonr(
            found.oof["score"].to_numpy().astype(float), found.oof["prediction"].to_numpy().astype(float)
        ).statistic
    )
    assert found.provenance.candidate == found.candidate.id
    assert (found.provenance.fold, found.provenance.epoch, found.provenance.seed) == (FOLD, 1.0, 42)
    assert found.provenance.split_hash == prepared_tiny.manifest.split_hash


SLOW_RECIPES = ("marked", "prompt")
"""A row is scored from few of its tokens: untrained attention learns these rows long before what holds for others."""
AXES = [
    *({"recipe": name, "head": "max"} for name in RECIPES if name not in SLOW_RECIPES),
    *({"head": name} for name in HEADS),
    *({"loss": name} for name in LOSSES),
]


@pytest.mark.parametrize("settings", AXES, ids=str)
def test_every_entry_learns_what_holds_for_unseen_anchors(train, settings):
    assert train({**LEARNING, "epochs": 3, **settings}).metric > 0.3


@pytest.mark.parametrize("recipe", SLOW_RECIPES)
def test_slow_recipes_learn_the_rows_that_they_see(tiny_bert, prepared_tiny, tmp_path, recipe):
    settings = Candidate(backbone=tiny_bert, head="max", recipe=recipe, **LEARNING)
    backbone = locate_backbone(tiny_bert)
    pools = load_fold_pools(prepared_tiny, FOLD, candidate=settings, tokenizer=backbone.tokenizer, cache=tmp_path)
    make_repeatable(1, device=torch.device("cpu"), threads=1)
    learner = new_learner(
        settings,
        prepared_tiny.task,
        backbone=backbone,
        vocabulary=pools.vocabulary,
        device=torch.device("cpu"),
    )
    encoded = pools.train.encode()
    for epoch in range(4):
        for texts in training_batches(encoded.lengths, encoded.texts_per_batch(8), seed=1, epoch=epoch):
            learner.step(encoded.batch(texts), 1.0)
    assert pearson(pools.train.targets, learner.predict(encoded)) > 0.5


def test_rows_of_an_anchor_meet_in_the_batches_of_a_loss_that_compares_them(train, monkeypatch):
    batches = []
    whole = Learner.step

    def watched(self, batch, share, **options):
        batches.append(batch)
        whole(self, batch, share, **options)

    def meetings(loss):
        batches.clear()
        train({"loss": loss, "batch_size": 16})
        return sum(len(batch.groups) - len(batch.groups.unique()) for batch in batches)

    monkeypatch.setattr(Learner, "step", watched)
    assert meetings("ranking") > 1.2 * meetings("mse")
    rows = np.concatenate([batch.rows for batch in batches])
    assert len(np.unique(rows)) == len(rows)


def test_a_prediction_is_the_mean_over_orders_of_the_siblings(train, monkeypatch):
    predicted = []
    whole = Learner.predict

    def watched(self, encoded, rows=None):
        predicted.append((encoded.ids.tolist(), whole(self, encoded, rows)))
        return predicted[-1][1]

    monkeypatch.setattr(Learner, "predict", watched)
    once = train({"recipe": "grouped"})
    assert len(predicted) == 3, "validation, test and holdout rows, once each"
    predicted.clear()
    mean = train({"recipe": "grouped", "prediction_shuffles": 4})
    assert len(predicted) == 12
    orders, validation = zip(*predicted[:4], strict=True)
    assert len({tuple(order) for order in orders}) == 4
    expected = np.mean(np.stack(validation).astype(float), axis=0)
    np.testing.assert_allclose(mean.oof["prediction"].to_numpy(), expected, rtol=1e-6)
    np.testing.assert_array_equal(once.oof["prediction"].to_numpy(), validation[0])


@pytest.mark.parametrize("start", [0.0, 0.5, 1.0])
def test_the_adversary_acts_from_its_epoch_on(train, monkeypatch, start):
    shares, acted = [], []
    whole, perturbed = Learner.step, FastGradientMethod.perturbed

    def step(self, batch, share, **options):
        shares.append(share)
        whole(self, batch, share, **options)

    def watched(self):
        acted.append(len(shares) - 1)
        return perturbed(self)

    monkeypatch.setattr(Learner, "step", step)
    monkeypatch.setattr(FastGradientMethod, "perturbed", watched)
    train({"adversary": "fgm", "adversary_start": start, "epochs": 2})
    assert len(shares) % 2 == 0
    assert acted == [number for number in range(len(shares)) if number / (len(shares) / 2) >= start]


@pytest.mark.parametrize("keep", ["last", "best"])
def test_predictions_come_from_the_average_where_there_is_one(train, keep):
    settings = {"keep": keep, "epochs": 2}
    reports, plain = [], []
    found = train({**settings, "ema": 0.9}, rungs=(0.5,), report=lambda report: not reports.append(report))
    train(settings, rungs=(0.5,), report=lambda report: not plain.append(report))
    assert [report.metric for report in reports] != [report.metric for report in plain]
    assert found.metric in [report.metric for report in reports]


def test_same_inputs_same_bytes(train):
    first, second = train(), train()
    assert first.oof.equals(second.oof)
    assert first.test.equals(second.test)
    assert not first.oof.equals(train({"seed": 1}).oof)


def test_neither_the_scores_of_the_fold_nor_of_the_holdout_reach_training(train, prepared_tiny, tiny_bert):
    folds = prepared_tiny.train["fold"].to_numpy()
    targets = prepared_tiny.train["score"].to_numpy()
    targets = np.where(np.isin(folds, [FOLD, -1]), 1 - targets, targets)
    place = prepared_tiny.train.schema.get_field_index("score")
    turned = dataclasses.replace(
        prepared_tiny, train=prepared_tiny.train.set_column(place, prepared_tiny.train.schema.field(place), [targets])
    )
    candidate = Candidate(backbone=tiny_bert, **QUICK)
    assert train_fold(candidate, turned, FOLD).oof["prediction"].equals(train().oof["prediction"])


def test_reports_at_rungs_and_last_on_the_whole_fold(train):
    reports = []
    found = train({"epochs": 2}, rungs=(0.25, 0.5), rung_rows=20, report=lambda report: not reports.append(report))
    assert [report.progress for report in reports] == [0.25, 0.5, 1.0]
    assert [report.rows for report in reports] == [20, 20, found.oof.num_rows]
    assert reports[1].epoch == 1.0
    assert [report.epoch for report in reports] == sorted(report.epoch for report in reports)
    assert reports[-1].metric == found.metric
    assert all(math.isfinite(report.metric) and report.seconds > 0 for report in reports)


def test_seconds_and_checkpoints_go_by_a_clock_that_only_rises(train, monkeypatch, tmp_path):
    reports, times, saves, save = [], itertools.count(), [], CheckpointFolder.save
    monkeypatch.setattr(time, "time", lambda: -1800.0 * (next(times) % 50))
    monkeypatch.setattr(CheckpointFolder, "save", lambda *given: saves.append(save(*given)))
    train(report=lambda report: not reports.append(report), checkpoint=CheckpointFolder(tmp_path / "checkpoint"))
    assert len(saves) == len(reports) == 1, "one at the rung, none for a minute that the wall clock alone has seen"
    assert 0 < reports[0].seconds < 60


def test_validation_on_the_way_changes_nothing(train):
    assert train(rungs=(0.2, 0.4, 0.6)).oof.equals(train().oof)


@pytest.mark.parametrize("stop", [0.25, 0.5, 1.0])
def test_a_report_can_stop_the_run(train, stop):
    seen = []

    def report(rung):
        seen.append(rung.progress)
        return rung.progress < stop

    assert train(rungs=(0.25, 0.5), report=report) is None
    assert seen[-1] == stop


def test_keep_best_predicts_with_the_best_rung(train):
    settings = {"epochs": 3, "backbone_lr": 1e-2, "batch_size": 8, "schedule": "cosine", "loss": "pearson"}
    rungs = tuple(step / 6 for step in range(1, 7))
    reports = []
    last = train(settings, rungs=rungs, report=lambda report: not reports.append(report))
    best = train({**settings, "keep": "best"}, rungs=rungs)
    top = max(reports, key=lambda report: report.metric)
    assert top.progress < 1.0, "the case must have its best rung before its last"
    assert best.epoch == top.epoch
    assert best.metric == pytest.approx(top.metric, abs=1e-6)  # outputs are anchored in the end only
    assert last.metric == reports[-1].metric < best.metric


def test_a_constant_prediction_is_reported_as_nan(train, monkeypatch):
    def predict_ones(self, encoded, rows=None):
        return np.ones(encoded.n_rows if rows is None else len(rows), np.float32)

    monkeypatch.setattr(Learner, "predict", predict_ones)
    reports = []
    found = train({"keep": "best"}, rungs=(0.5,), report=lambda report: not reports.append(report))
    assert [math.isnan(report.metric) for report in reports] == [True, True]
    assert math.isnan(found.metric)


def test_frozen_parts_stay_as_they_were(train, monkeypatch):
    learners = []
    whole = Learner.step

    def watched(self, batch, share, **options):
        if not learners:
            learners.append((self, self.weights()))
        whole(self, batch, share, **options)

    monkeypatch.setattr(Learner, "step", watched)
    train({"freeze_embeddings": True, "freeze_layers": 1})
    learner, before = learners[0]
    moved = {name for name, value in learner.weights().items() if not torch.equal(value, before[name])}
    assert moved
    assert not any("embeddings" in name or "layer.0." in name for name in moved)
    assert any("layer.1." in name for name in moved)
    assert any(name.startswith("head.") for name in moved)


def test_gradients_are_clipped_to_the_norm(train, monkeypatch):
    norms = []
    whole = torch.nn.utils.clip_grad_norm_

    def watched(parameters, limit):
        parameters = list(parameters)
        whole(parameters, limit)
        norms.append(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]).item())

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", watched)
    train({"clip_norm": 0.01})
    assert norms
    assert max(norms) == pytest.approx(0.01, rel=1e-3)
    norms.clear()
    train({"clip_norm": None})
    assert norms == []


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 0), ("bf16", 0.02), ("fp16", 0.005)])
def test_precisions_agree(train, precision, tolerance, monkeypatch):
    never_too_large = functools.partial(torch.amp.GradScaler, init_scale=16.0)
    monkeypatch.setattr(torch.amp, "GradScaler", never_too_large)
    settings = {"dropout": 0.0, "backbone_lr": 1e-4}
    exact = train({**settings, "precision": "fp32"}).oof["prediction"].to_numpy()
    found = train({**settings, "precision": precision}).oof["prediction"].to_numpy()
    np.testing.assert_allclose(found, exact, rtol=0, atol=tolerance)


def test_fp16_learns_in_spite_of_steps_whose_gradients_overflow(train):
    assert train({**LEARNING, "precision": "fp16"}).metric > 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": 4}, r"fold must be 0 to 3 .* got 4"),
        ({"fold": -1}, r"fold must be 0 to 3 .* got -1"),
        ({"rungs": (0.0, 1.5)}, r"in \(0, 1\], got \[0\.0, 1\.5\]"),
        ({"device": "cuda:77"}, r"device 'cuda:77' is not available"),
    ],
)
def test_wrong_arguments_are_refused(train, options, message):
    with pytest.raises(InputError, match=message):
        train(**options)


@pytest.mark.parametrize(("rung", "total", "step"), [(0.1, 30, 3), (1 / 3, 3, 1), (1 / 3, 100, 34), (1.0, 7, 7)])
def test_first_step_of_a_rung(rung, total, step):
    assert first_step(rung, total) == step


def test_rung_sample_is_fixed():
    sample = rung_sample(1000, 100)
    assert np.array_equal(sample, rung_sample(1000, 100))
    assert len(np.unique(sample)) == 100
    assert sample.min() >= 0
    assert sample.max() < 1000
    assert np.array_equal(rung_sample(10, None), np.arange(10))
    assert np.array_equal(rung_sample(10, 99), np.arange(10))


def test_command_line_trains_a_fold_and_says_what_is_next(tiny_bert, prepared_tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("BLENDFOLD_CACHE", str(tmp_path / "cache"))
    settings = tmp_path / "candidate.yaml"
    settings.write_text(f"backbone: {tiny_bert}\nbatch_size: 32\nmax_length: 48\n")
    out = tmp_path / "run"
    arguments = ["train", "--data", prepared_tiny.path, "--candidate", str(settings), "--out", str(out)]
    arguments += ["--threads", "2", "--backbones", str(tmp_path)]
    store = OofStore(out)
    identity = Candidate(backbone=tiny_bert, batch_size=32, max_length=48).id
    for fold in range(4):
        result = CliRunner().invoke(app, [*arguments, "--fold", str(fold)])
        assert result.exit_code == 0, result.output
        assert store.read("oof", identity, fold).num_rows > 0
        kept = f"--threads 2 --backbones {tmp_path} --fold {fold + 1} --out {out}"
        following = kept if fold < 3 else f"blendfold blend {out} --data"
        assert following in result.output.splitlines()[-1]
    assert Candidate.model_validate_json((out / "candidates" / f"{identity}.json").read_text()).id == identity
    assert not list((out / "checkpoints").rglob("state.pt"))
    again = CliRunner().invoke(app, [*arguments, "--fold", "0"])
    assert isinstance(again.exception, InputError)
    assert "finished, nothing to do" in str(again.exception)


@pytest.fixture
def by_hand(tiny_bert, prepared_tiny, tmp_path, monkeypatch):
    """Return a function that runs `models train` with some settings into an empty folder and returns the error."""
    monkeypatch.setenv("BLENDFOLD_CACHE", str(tmp_path / "cache"))

    def run(**settings):
        file, out = tmp_path / "candidate.json", tmp_path / "run"
        file.write_text(json.dumps({"backbone": tiny_bert, "batch_size": 32, "max_length": 48} | settings))
        arguments = ["--data", prepared_tiny.path, "--candidate", str(file), "--fold", "0", "--out", str(out)]
        error = CliRunner().invoke(app, ["train", *arguments]).exception
        assert isinstance(error, InputError)
        assert not [path for path in out.rglob("*") if path.is_file()]
        return str(error)

    return run


def test_command_line_refuses_weights_that_are_no_numbers_by_name(by_hand, tiny_bert, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(tiny_bert, broken)
    tensors = load_file(broken / "model.safetensors")
    name = next(name for name in tensors if "layer.1.output.dense.weight" in name)
    tensors[name][0, 0] = math.nan
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    message = by_hand(backbone=str(broken))
    assert "1 of its tensors hold NaN or infinite numbers, such as encoder.layer.1.output.dense.weight;" in message


def test_command_line_keeps_no_table_of_a_run_that_explodes(by_hand):
    message = by_hand(backbone_lr=1e6, head_lr=1e6, clip_norm=None)
    assert re.search(
        r"failed to learn, seen at \d+% of its schedule: .*(tensors of the model|diverged|the same)", message
    )


@pytest.mark.parametrize(
    ("pool", "value", "message"),
    [
        ("validation", 0.5, "10% of its schedule: all predictions are the same (0.5)"),
        ("validation", math.inf, "10% of its schedule: predictions are NaN or infinite"),
        ("test", math.nan, "predictions of test and holdout rows, which are NaN or infinite"),
    ],
)
def test_command_line_keeps_no_table_of_predictions_that_tell_nothing(by_hand, monkeypatch, pool, value, message):
    whole = Learner.predict_pool

    def predict(self, rows, chosen=None):
        prediction = whole(self, rows, chosen)
        return np.full_like(prediction, value) if (rows.targets is None) == (pool == "test") else prediction

    monkeypatch.setattr(Learner, "predict_pool", predict)
    assert message in by_hand(epochs=4, backbone_lr=3e-3)


def test_command_line_keeps_no_table_of_a_correlation_next_to_chance(by_hand, monkeypatch):
    monkeypatch.setattr("models.training.train_command.DEAD_BELOW", 0.999)
    assert "seen at 100% of its schedule: pearson is below 0.999, next to chance" in by_hand()


def run_out_once(monkeypatch, step):
    """Let the first try at a training step, counted from 0, run out of memory."""
    whole, tries = StepGradients.compute, []

    def watched(self, batch, epoch, micro_batches):
        tries.append(micro_batches)
        gradients = whole(self, batch, epoch, micro_batches)
        if len(tries) == step + 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return gradients

    monkeypatch.setattr(StepGradients, "compute", watched)
    return tries


@pytest.mark.parametrize("settings", [{}, {"loss": "pearson"}], ids=str)
def test_memory_that_runs_out_gives_the_bytes_of_micro_batches_set_by_hand(train, monkeypatch, settings):
    by_hand = train(settings, micro_batches=2)
    reports = []
    with monkeypatch.context() as patch:
        run_out_once(patch, 0)
        starved = train(settings, report=lambda report: not reports.append(report))
    assert starved.oof.equals(by_hand.oof)
    assert starved.test.equals(by_hand.test)
    assert starved.holdout.equals(by_hand.holdout)
    assert starved.provenance == by_hand.provenance
    assert starved.provenance.micro_batches == reports[-1].micro_batches == 2
    assert not starved.oof.equals(train(settings).oof), "the case must tell them apart"


def test_a_resumed_run_starts_with_the_halved_micro_batches(train, monkeypatch, tmp_path):
    class Killed(BaseException):
        pass

    def die(report):
        raise Killed

    with monkeypatch.context() as patch:
        run_out_once(patch, 1)
        whole = train(rungs=(0.5,))
    folder = CheckpointFolder(tmp_path / "checkpoint")
    with monkeypatch.context() as patch:
        run_out_once(patch, 1)
        with pytest.raises(Killed):
            train(rungs=(0.5,), checkpoint=folder, report=die)
    with monkeypatch.context() as patch:
        tries = run_out_once(patch, 10**9)
        resumed = train(rungs=(0.5,), checkpoint=folder)
    assert set(tries) == {2}
    assert resumed.oof.equals(whole.oof)
    assert resumed.provenance == whole.provenance


def test_each_death_of_memory_halves_what_the_run_had_come_to(train, monkeypatch, tmp_path):
    folder, tries = CheckpointFolder(tmp_path / "checkpoint"), []

    def die(self, batch, share, **options):
        tries.append(self.retry.micro_batches)
        whole(self, batch, share, **options)
        if len(tries) % 2 == 0:
            raise KeyboardInterrupt

    whole = Learner.step
    monkeypatch.setattr(Learner, "step", die)
    for given in (1, 2, 2, 4, 1, 2):
        with contextlib.suppress(KeyboardInterrupt):
            train({"epochs": 3}, checkpoint=folder, checkpoint_seconds=0, micro_batches=given)
    assert tries[::2] == [1, 2, 2, 4, 4, 8]


@pytest.fixture
def train_rmse(tiny_bert, prepared_tiny, tmp_path):
    """Return a function that trains for a task whose metric is no correlation, and returns what rungs report."""
    task = prepared_tiny.task.model_copy(update={"metric": "rmse"})
    data = dataclasses.replace(prepared_tiny, manifest=prepared_tiny.manifest.model_copy(update={"task": task}))

    def run(settings):
        reports = []
        candidate = Candidate(backbone=tiny_bert, **{**QUICK, **settings})
        options = {"rungs": (0.5,), "cache": tmp_path / "cache"}
        train_fold(candidate, data, FOLD, report=lambda report: not reports.append(report), **options)
        return [report.metric for report in reports]

    return run


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
@pytest.mark.parametrize("values", [[0.5], [math.nan], [math.inf], [0.5, math.inf]])
def test_predictions_that_tell_nothing_have_no_metric_whatever_it_is(metric, values):
    targets = np.linspace(0, 1, 6, dtype=np.float32)
    assert math.isnan(measure_predictions(metric, targets, np.resize(np.float32(values), 6)))
    np.testing.assert_equal(measure_predictions(metric, targets, targets[::-1]), metric(targets, targets[::-1]))


@pytest.mark.parametrize("factor", [math.nan, math.inf, 1e4])
@pytest.mark.parametrize("settings", [{}, {"precision": "fp16"}, {"keep": "best"}], ids=str)
def test_a_loss_that_explodes_is_dead_at_the_next_rung(train_rmse, monkeypatch, factor, settings):
    whole, steps = MeanSquaredError.of_rows, []

    def explode(self, outputs, targets):
        steps.append(len(steps))
        return whole(self, outputs, targets) * (factor if steps[-1] >= 12 else 1.0)

    monkeypatch.setattr(MeanSquaredError, "of_rows", explode)
    metrics = train_rmse({"batch_size": 8, "clip_norm": None, **settings})
    assert len(steps) > 20, "the explosion must lie before the last rung and after the first steps"
    assert math.isfinite(metrics[0])
    assert math.isnan(metrics[1]) == (settings.get("keep") != "best")
