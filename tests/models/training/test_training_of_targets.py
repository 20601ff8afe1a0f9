import contextlib
import functools
import math

import numpy as np
import pyarrow.compute as pc
import pytest
import torch

from data_prep.scoring.metrics import METRICS
from data_prep.store.tables import column_names, oof_schema, prediction_schema
from data_prep.targets.target_columns import numbers_of
from models.backbones.locate_backbone import locate_backbone
from models.candidate import Candidate
from models.text.batches import Batch
from models.text.fold_pools import load_fold_pools
from models.training.checkpoint import CheckpointFolder
from models.training.fold_predictions import describe_fault, measure_predictions
from models.training.fold_weights import load_scorer
from models.training.learner import Learner
from other_targets import several_numbers, three_classes, with_targets
from small_models import learner_of
from small_models import train as train_fold

FOLD = 1
LEARNING = {"max_length": 48, "batch_size": 8, "backbone_lr": 3e-3, "epochs": 4, "dropout": 0.0, "head": "max"}
KINDS = {
    "several numbers": functools.partial(several_numbers, metric="pearson"),
    "classes": functools.partial(three_classes, metric="multiclass_accuracy"),
}
LOSSES = {"several numbers": "mse", "classes": "cross_entropy"}


@pytest.fixture
def train(tiny_bert, prepared_tiny, tmp_path):
    def run(kind, settings=None, *, data=None, **options):
        candidate = Candidate(backbone=tiny_bert, **{**LEARNING, "loss": LOSSES[kind], **(settings or {})})
        data = KINDS[kind](prepared_tiny) if data is None else data
        return train_fold(candidate, data, FOLD, cache=tmp_path / "cache", **options)

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_learns_and_gives_wide_tables_in_prepared_order(train, kind, prepared_tiny):
    data = KINDS[kind](prepared_tiny)
    found = train(kind, data=data)
    names = data.task.target.names
    own, held_out = (data.train.filter(pc.equal(data.train["fold"], fold)) for fold in (FOLD, -1))
    for table, rows, schema in [
        (found.oof, own, oof_schema(names)),
        (found.test, data.test, prediction_schema(names)),
        (found.holdout, held_out, oof_schema(names)),
    ]:
        assert table.num_rows > 20
        assert table.schema.equals(schema)
        assert table["id"].to_pylist() == rows["id"].to_pylist()
        assert np.isfinite(numbers_of(table, "prediction")).all()
    assert found.oof.select(column_names("score", names)).equals(own.select(column_names("score", names)))
    targets, predictions = (numbers_of(found.oof, quantity) for quantity in ("score", "prediction"))
    assert found.metric == data.task.measure(targets, predictions)
    assert found.metric > 0.7
    if kind == "classes":
        np.testing.assert_allclose(predictions.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("several numbers", {"separate_heads": True}),
        ("several numbers", {"loss": "pearson", "keep": "best"}),
        ("classes", {"loss": "kl", "ema": 0.8}),
    ],
    ids=str,
)
def test_a_wide_run_that_was_cut_off_gives_the_same_bytes(train, kind, settings, tmp_path, monkeypatch):
    quick = {"epochs": 1, "batch_size": 16, "dropout": 0.1, **settings}
    options = {"rungs": (0.5,), "rung_rows": 20}
    reports, again = [], []
    whole = train(kind, quick, report=lambda report: not reports.append(report), **options)
    step, folder, steps = Learner.step, CheckpointFolder(tmp_path / "checkpoint"), []

    def die(self, batch, share, **given):
        step(self, batch, share, **given)
        steps.append(share)
        if len(steps) in {3, 8}:
            raise KeyboardInterrupt

    monkeypatch.setattr(Learner, "step", die)
    for _ in range(3):
        with contextlib.suppress(KeyboardInterrupt):
            found = train(
                kind,
                quick,
                checkpoint=folder,
                checkpoint_seconds=0,
                report=lambda report: not again.append(report),
                **options,
            )
    assert len(steps) > 9
    assert found.oof.equals(whole.oof)
    assert found.test.equals(whole.test)
    assert [report.metric for report in again] == [report.metric for report in reports]
    assert len(reports) == 2


@pytest.mark.parametrize("settings", [{}, {"separate_heads": True, "head": "cnn"}], ids=str)
def test_each_output_is_anchored_to_its_own_target(train, prepared_tiny, tmp_path, settings):
    data = several_numbers(prepared_tiny)
    found = train("several numbers", {"loss": "pearson", "epochs": 1, **settings}, data=data, keep_weights=True)
    backbone = locate_backbone(found.candidate.backbone)
    pools = load_fold_pools(
        data, FOLD, candidate=found.candidate, tokenizer=backbone.tokenizer, cache=tmp_path / "cache"
    )
    learner = load_scorer(found.weights, data.task, backbone=backbone)
    predictions = learner.predict_pool(pools.train)
    assert pools.train.targets.shape == predictions.shape == (len(pools.train), 2)
    for truth, prediction in zip(pools.train.targets.T, predictions.T, strict=True):
        known = ~np.isnan(truth)
        assert 0 < (~known).sum() < 100
        assert prediction[known].mean() == pytest.approx(truth[known].mean(), abs=1e-3)
        assert prediction[known].std() == pytest.approx(truth[known].std(), abs=1e-3)
    assert np.array_equal(learner.predict_pool(pools.validation), numbers_of(found.oof, "prediction"))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_decide_which_rows_are_learnt(train, kind, prepared_tiny):
    """Where a row has a weight next to nothing, its targets may be others."""
    data = KINDS[kind](prepared_tiny)
    names = data.task.target.names
    targets = data.targets.copy()
    weights = np.where(np.arange(len(targets)) % 3 == 0, 1e-30, 1.0)
    other = targets.copy()
    other[::3] = other[::3, ::-1]

    def predictions(values, weights):
        settings = {name: value for name, value in data.task.model_dump().items() if name in KEPT}
        changed = with_targets(prepared_tiny, dict(zip(names, values.T, strict=True)), weights=weights, **settings)
        return numbers_of(train(kind, {"epochs": 1}, data=changed).test, "prediction")

    found = predictions(targets, weights)
    np.testing.assert_array_equal(predictions(other, weights), found)
    assert np.abs(predictions(other, None) - predictions(targets, None)).max() > 1e-4
    assert np.abs(predictions(targets, None) - found).max() > 1e-4


KEPT = {"score_columns", "score_column", "score_range", "classes", "metric"}
EXACT = {"dropout": 0.0, "precision": "fp32", "clip_norm": None}


def batch_of(task, *, packed=False, rows=12, tokens=9):
    generator = torch.Generator().manual_seed(5)
    n_rows = 2 * rows if packed else rows
    targets = torch.rand(n_rows, task.target.n_numbers, generator=generator)
    if task.classes is None:
        targets[torch.rand(targets.shape, generator=generator) < 0.3] = torch.nan
        targets[:, 0] = targets[:, 0].nan_to_num(0.5)
    else:
        targets /= targets.sum(dim=1, keepdim=True)
    return Batch(
        input_ids=torch.randint(5, 40, (rows, tokens), generator=generator),
        attention_mask=torch.ones(rows, tokens, dtype=torch.int64),
        rows=np.arange(n_rows),
        targets=targets,
        weights=0.5 + torch.rand(n_rows, generator=generator) if task.weight_column else None,
        spans=torch.stack([torch.arange(n_rows) // 2, torch.arange(n_rows) % 4, torch.full((n_rows,), 3)], dim=1)
        if packed
        else None,
        groups=torch.arange(n_rows) // 6,
    )


@pytest.mark.parametrize("rows", [(), ("packed",), ("weighted",), ("packed", "weighted")], ids=str)
@pytest.mark.parametrize(("accumulation", "micro_batches"), [(5, 1), (2, 2), (100, 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_batch_have_its_gradient(check_parts, kind, rows, accumulation, micro_batches):
    check_parts(kind, LOSSES[kind], rows, accumulation, micro_batches)


@pytest.mark.parametrize("rows", [(), ("packed",)], ids=str)
@pytest.mark.parametrize("loss", ["pearson", "mse_pearson", "ranking"])
def test_micro_batches_of_a_loss_that_compares_rows_have_its_gradient(check_parts, loss, rows):
    check_parts("several numbers", loss, rows, 1, 3)


@pytest.fixture
def check_parts(tiny_bert, prepared_tiny):
    return functools.partial(gradients_agree, tiny_bert, prepared_tiny)


def gradients_agree(*case):
    """Compare the gradient of a batch that is computed in parts with that of the whole."""
    backbone, data, kind, loss, rows, accumulation, micro_batches = case
    task = KINDS[kind](data).task.model_copy(update={"weight_column": "weight" if "weighted" in rows else None})
    learner = learner_of(Candidate(backbone=backbone, loss=loss, accumulation=accumulation, **EXACT), task=task)
    learner.scorer.eval()
    batch = batch_of(task, packed="packed" in rows)
    outputs = learner.scorer(batch)
    whole = learner.gradients.loss(outputs, batch.targets, batch.groups, batch.weights)
    expected = torch.autograd.grad(whole, learner.trained, allow_unused=True)
    found = learner.gradients.compute(batch, 0.0, micro_batches)
    torch.testing.assert_close(found, whole.detach())
    for parameter, gradient in zip(learner.trained, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", ["mse", "gaussian_nll"])
@pytest.mark.parametrize("head", ["mean", "attention", "cnn", "lstm", "layer_pool"])
def test_separate_heads_share_the_backbone_alone(tiny_bert, prepared_tiny, head, loss):
    task = several_numbers(prepared_tiny).task
    settings = {"backbone": tiny_bert, "head": head, "loss": loss, **EXACT}
    learner = learner_of(Candidate(separate_heads=True, **settings), task=task)
    shared = learner_of(Candidate(**settings), task=task)
    scorer, to_predictions = learner.scorer.eval(), learner.gradients.loss.to_predictions
    batch = batch_of(task)
    n_parameters = [sum(p.numel() for p in each.parameters()) for each in scorer.head.heads]
    assert len(n_parameters) == 2
    assert n_parameters[0] == n_parameters[1] >= sum(p.numel() for p in shared.scorer.head.parameters()) / 2
    before = to_predictions(scorer(batch))
    assert before.shape == shared.gradients.loss.to_predictions(shared.scorer(batch)).shape == (12, 2)
    for place, own in enumerate(scorer.head.heads):
        gradients = torch.autograd.grad(
            to_predictions(scorer(batch))[:, 1 - place].sum(), list(own.parameters()), allow_unused=True
        )
        assert not any(gradient is not None and gradient.any() for gradient in gradients)
    with torch.no_grad():
        for parameter in scorer.head.heads[0].parameters():
            parameter.add_(0.1)
    after = to_predictions(scorer(batch))
    assert torch.equal(after[:, 1], before[:, 1])
    assert not torch.isclose(after[:, 0], before[:, 0]).any()


def test_separate_heads_learn(train, prepared_tiny):
    assert train("several numbers", {"separate_heads": True, "epochs": 5}).metric > 0.6
    assert train("classes", {"separate_heads": True, "loss": "bce", "epochs": 6}).metric > 0.8


def test_a_metric_is_measured_on_the_targets_that_have_one():
    targets = np.float32([[0, 1, math.nan, 2], [1, 1, math.nan, 0], [2, 1, math.nan, math.nan]])
    predictions = np.float32([[0, 2, 1, 1], [3, 5, 3, 2], [4, 2, 7, 6]])
    pearson = measure_predictions(METRICS["pearson"], targets, predictions)
    assert pearson == pytest.approx((np.corrcoef([0, 1, 2], [0, 3, 4])[0, 1] - 1) / 2)
    rmse = measure_predictions(METRICS["rmse"], targets, predictions)
    assert rmse == pytest.approx(
        (math.sqrt((0 + 4 + 4) / 3) + math.sqrt((1 + 16 + 1) / 3) + math.sqrt((1 + 4) / 2)) / 3
    )
    assert math.isnan(measure_predictions(METRICS["pearson"], targets[:, 1:3], predictions[:, 1:3]))


def test_predictions_are_all_the_same_where_those_of_every_target_are():
    predictions = np.float32([[0.5, 2], [0.5, 2], [0.5, 2]])
    targets = np.float32([[0, 1], [1, 2], [2, 0]])
    assert math.isnan(measure_predictions(METRICS["rmse"], targets, predictions))
    assert describe_fault(predictions, broken=[], diverged=False) == "all predictions are the same (0.5, 2)"
    predictions[0, 1] = 3
    assert math.isfinite(measure_predictions(METRICS["rmse"], targets, predictions))
