"""Losses of several numbers, of classes and of weighted rows, beside the losses of one number."""

import itertools

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy
from torch.nn import functional

from data_prep.errors import InputError
from data_prep.task import PPPM, Task
from models.candidate import Candidate
from models.part_options import LOSS_OPTIONS
from models.parts.build import new_loss
from models.parts.losses import CLASSES_LOSSES, LOSSES
from models.task_fit import check_task

N_ROWS = 12
LEVELS = (-1.0, 0.0, 0.5, 3.0)
ONE = Task(name="one", text_columns=("text",), score_levels=LEVELS)
SEVERAL = Task(
    name="several", text_columns=("text",), score_columns=("a", "b", "c"), score_levels=LEVELS, metric="rmse"
)
CLASSES = Task(name="moods", text_columns=("text",), classes=("sad", "calm", "happy"), metric="multiclass_log_loss")
WEIGHTED = ONE.model_copy(update={"weight_column": "weight"})
OPTIONS = {"loss_delta": 0.3, "pearson_weight": 0.2, "label_width": 0.7, "label_smoothing": 0.1}
POINTWISE = [name for name in LOSSES if not LOSSES[name].compares_rows]
COMPARING = [name for name in LOSSES if LOSSES[name].compares_rows]


def build(name, task):
    return new_loss(Candidate(loss=name, **{field: OPTIONS[field] for field in LOSS_OPTIONS[name].settings}), task)


def draw(loss, n_targets=3):
    """Return random outputs, targets and groups of four rows."""
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(N_ROWS, loss.n_outputs, generator=generator)
    return outputs, 4 * torch.rand(N_ROWS, n_targets, generator=generator) - 1, torch.arange(N_ROWS) // 4


def with_gaps(targets):
    """Return targets of which some are missing, not as many of each, and one row's of all but the first."""
    gaps = torch.zeros_like(targets, dtype=torch.bool)
    gaps[[0, 3, 4], 0] = gaps[[5], 1] = gaps[[1, 5, 6, 7, 8], 2] = True
    return targets.masked_fill(gaps, torch.nan), gaps


def outputs_of(one, outputs):
    """Return the outputs of each target, [targets, batch, outputs of the loss of one number]."""
    return outputs.split(one.n_outputs, dim=1)


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_of_several_numbers_is_the_mean_of_theirs(name):
    one, several = build(name, ONE), build(name, SEVERAL)
    assert several.n_outputs == 3 * one.n_outputs
    outputs, targets, groups = draw(several)
    alone = [
        one(own, truth, groups) for own, truth in zip(outputs_of(one, outputs), targets.T.contiguous(), strict=True)
    ]
    torch.testing.assert_close(several(outputs, targets, groups), torch.stack(alone).mean())
    predictions = torch.stack([one.to_predictions(own) for own in outputs_of(one, outputs)], dim=1)
    torch.testing.assert_close(several.to_predictions(outputs), predictions)
    assert (several.compares_rows, several.within_groups, several.sees_level) == (
        one.compares_rows,
        one.within_groups,
        one.sees_level,
    )


@pytest.mark.parametrize("name", LOSSES)
def test_missing_targets_do_not_count(name):
    one, several = build(name, ONE), build(name, SEVERAL)
    outputs, targets, groups = draw(several)
    targets, gaps = with_gaps(targets)
    alone = [
        (one(own[there], truth[there], groups[there]), there.sum())
        for own, truth, there in zip(outputs_of(one, outputs), targets.T.contiguous(), ~gaps.T, strict=True)
    ]
    losses, counts = map(torch.stack, zip(*alone, strict=True))
    expected = losses.mean() if one.compares_rows else losses @ counts.float() / counts.sum()
    torch.testing.assert_close(several(outputs, targets, groups), expected)


@pytest.mark.parametrize("name", LOSSES)
def test_outputs_of_missing_targets_change_nothing_and_have_no_gradient(name):
    one, several = build(name, ONE), build(name, SEVERAL)
    outputs, targets, groups = draw(several)
    targets, gaps = with_gaps(targets)
    idle = gaps.repeat_interleave(one.n_outputs, dim=1)
    found = []
    for number in (0.0, 1.0, -70.0):
        values = outputs.masked_fill(idle, number).requires_grad_()
        loss = several(values, targets, groups)
        (gradient,) = torch.autograd.grad(loss, values)
        assert not gradient[idle].any()
        assert gradient[~idle].any()
        found.append((loss, gradient))
    for (loss, gradient), (other, others) in itertools.pairwise(found):
        assert loss.equal(other)
        assert gradient.equal(others)


@pytest.mark.parametrize("name", LOSSES)
def test_a_target_that_no_row_of_a_batch_has_does_not_count(name):
    one, several = build(name, ONE), build(name, SEVERAL)
    outputs, targets, groups = draw(several)
    targets[:, 1:] = torch.nan
    torch.testing.assert_close(
        several(outputs, targets, groups), one(outputs_of(one, outputs)[0], targets[:, 0].contiguous(), groups)
    )


def cases(name):
    """Return the losses of that name with outputs and targets for them."""
    several = build(name, SEVERAL)
    outputs, targets, _ = draw(several)
    yield several, outputs, with_gaps(targets)[0]
    yield build(name, ONE), outputs_of(build(name, ONE), outputs)[0], targets[:, 0].contiguous()
    if LOSS_OPTIONS[name].for_classes:
        loss = new_loss(Candidate(loss=name), CLASSES)
        yield loss, outputs[:, :3], targets.softmax(dim=1)


@pytest.mark.parametrize("name", POINTWISE)
def test_a_row_of_weight_2_is_the_row_twice(name):
    twice = [*range(N_ROWS), 1, 5]
    weights = torch.ones(N_ROWS)
    weights[[1, 5]] = 2
    n_seen = 0
    for loss, outputs, targets in cases(name):
        found = loss(outputs, targets, weights=weights)
        torch.testing.assert_close(found, loss(outputs[twice], targets[twice]))
        assert not torch.isclose(found, loss(outputs, targets))
        torch.testing.assert_close(loss(outputs, targets, weights=7 * weights), found)
        n_seen += 1
    assert n_seen == 2 + LOSS_OPTIONS[name].for_classes


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_losses_of_classes_are_those_of_torch_and_scipy(smoothing):
    cross_entropy, kl = (
        new_loss(Candidate(loss=name, label_smoothing=smoothing), CLASSES) for name in ("cross_entropy", "kl")
    )
    assert cross_entropy.n_outputs == kl.n_outputs == 3
    generator = torch.Generator().manual_seed(1)
    outputs = torch.randn(8, 3, generator=generator)
    shares = torch.rand(8, 3, generator=generator).softmax(dim=1)
    number = torch.arange(8) % 3
    for targets, truth in ((shares, shares), (torch.eye(3)[number], number)):
        expected = functional.cross_entropy(outputs, truth, label_smoothing=smoothing)
        torch.testing.assert_close(cross_entropy(outputs, targets), expected)
        smooth = (1 - smoothing) * targets.numpy() + smoothing / 3
        assert kl(outputs, targets).item() == pytest.approx(
            entropy(smooth, softmax(outputs.numpy(), axis=1), axis=1).mean(), rel=1e-5
        )
    for loss in (cross_entropy, kl):
        predictions = loss.to_predictions(outputs.bfloat16())
        assert predictions.dtype == torch.float32
        np.testing.assert_allclose(predictions, softmax(outputs.bfloat16().float().numpy(), axis=1), rtol=1e-5)


def test_bce_of_classes_asks_about_one_class_after_the_other():
    loss, one = new_loss(Candidate(loss="bce"), CLASSES), new_loss(Candidate(loss="bce"), PPPM)
    generator = torch.Generator().manual_seed(1)
    outputs, shares = torch.randn(8, 3, generator=generator), torch.rand(8, 3, generator=generator).softmax(dim=1)
    alone = [one(outputs[:, place : place + 1], shares[:, place]) for place in range(3)]
    torch.testing.assert_close(loss(outputs, shares), torch.stack(alone).mean())
    probabilities = outputs.sigmoid()
    torch.testing.assert_close(loss.to_predictions(outputs), probabilities / probabilities.sum(dim=1, keepdim=True))
    np.testing.assert_allclose(loss.to_predictions(outputs - 1000).sum(dim=1), 1, rtol=1e-5)


def test_the_table_of_losses_says_what_they_are():
    assert [name for name, option in LOSS_OPTIONS.items() if option.compares_rows] == COMPARING
    assert [name for name, option in LOSS_OPTIONS.items() if option.for_classes] == list(CLASSES_LOSSES)


REFUSED = [
    *(
        (
            {"loss": name},
            CLASSES,
            f"loss={name} does not take classes, which task 'moods' has; use bce, cross_entropy, kl",
        )
        for name in LOSSES
        if name not in CLASSES_LOSSES
    ),
    ({"loss": "kl", "label_width": 1.0}, CLASSES, "label_width has no effect on classes, which task 'moods' has"),
    *(
        (
            {"loss": name},
            WEIGHTED,
            f"loss={name} compares rows, .*has weight_column 'weight': use mse, huber, .*ordinal",
        )
        for name in COMPARING
    ),
    (
        {"loss": "pearson"},
        Task(name="r", text_columns=("text",), score_range=(0, 1), weight_column="w"),
        "bce, gaussian_nll, or leave",
    ),
    ({"separate_heads": True}, PPPM, "separate_heads has no effect: task 'pppm' has one number for each row"),
]


@pytest.mark.parametrize(("settings", "task", "message"), REFUSED, ids=str)
def test_what_does_not_suit_the_targets_is_refused(settings, task, message):
    candidate = Candidate(**settings, **({} if task is PPPM else {"recipe": "pair"}))
    with pytest.raises(InputError, match=message):
        new_loss(candidate, task)
    with pytest.raises(InputError, match=message):
        check_task(candidate, task)


@pytest.mark.parametrize("name", LOSSES)
def test_what_suits_the_targets_is_not_refused(name):
    check_task(Candidate(recipe="pair", loss=name, separate_heads=True), SEVERAL)
    if name in CLASSES_LOSSES:
        check_task(Candidate(recipe="pair", loss=name, separate_heads=True), CLASSES)
    if name in POINTWISE:
        check_task(Candidate(recipe="pair", loss=name), WEIGHTED)
