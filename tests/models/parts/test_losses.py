import inspect
import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import expit, huber, softmax, xlogy
from scipy.stats import entropy, norm, pearsonr
from torch.nn import functional

from data_prep.errors import InputError
from data_prep.task import PPPM, Task
from models.candidate import Candidate
from models.part_options import LOSS_OPTIONS
from models.parts.build import new_loss
from models.parts.losses import LOSSES
from models.task_fit import check_task

LEAST, GREATEST = -1.0, 3.0
LEVELS = (-1.0, 0.0, 0.5, 3.0)
TASK = Task(name="wide", text_columns=("text",), score_levels=LEVELS)
CONTINUOUS = Task(name="smooth", text_columns=("text",), score_range=(LEAST, GREATEST))
SOFT_LABELS = ["cross_entropy", "kl"]
OVER_LEVELS = [*SOFT_LABELS, "ordinal"]
UNSCALED = ["pearson", "ranking"]


@pytest.fixture(params=LOSSES)
def name(request):
    return request.param


@pytest.fixture
def loss(name):
    return LOSSES[name](task=TASK)


def draw(loss, n_rows=16, seed=0):
    """Return random outputs, targets off the levels, and groups of about four rows."""
    generator = torch.Generator().manual_seed(seed)
    targets = LEAST + (GREATEST - LEAST) * torch.rand(n_rows, generator=generator)
    outputs = torch.randn(n_rows, loss.n_outputs, generator=generator)
    return outputs, targets, torch.randint(max(n_rows // 4, 1), (n_rows,), generator=generator)


def outputs_for(loss, targets):
    """Return outputs that a loss turns into `targets` (into an increasing function of them, for soft labels)."""
    targets = torch.as_tensor(targets, dtype=torch.float32)
    if hasattr(loss, "labels"):
        return loss.labels(targets).clamp(min=1e-9).log()
    if type(loss) is LOSSES["ordinal"]:
        return above_levels(targets).clamp(1e-6, 1 - 1e-6).logit().float()
    if loss.n_outputs == 2:
        return torch.stack([targets, torch.full_like(targets, -1.0)], dim=1)
    if type(loss) is LOSSES["bce"]:
        return ((targets - loss.task.least) / (loss.task.greatest - loss.task.least)).logit(1e-6).unsqueeze(1)
    return targets.unsqueeze(1)


def above_levels(targets):
    """Return how far each target is above each level but the last, [rows, levels - 1], by the steps between levels."""
    place = np.interp(targets, LEVELS, np.arange(len(LEVELS)))
    return torch.as_tensor(np.clip(place[:, None] - np.arange(len(LEVELS) - 1), 0, 1))


def soft_labels(targets, width, smoothing=0.0):
    return (1 - smoothing) * sharp_labels(targets, width) + smoothing / len(LEVELS)


def sharp_labels(targets, width):
    place = np.interp(targets, LEVELS, np.arange(len(LEVELS)))
    distance = np.abs(place[:, None] - np.arange(len(LEVELS)))
    if width == 0:
        return np.maximum(1 - distance, 0)
    shares = norm.pdf(distance, scale=width)
    return shares / shares.sum(axis=1, keepdims=True)


def pair_losses(output, score, group):
    """Return RankNet's loss of every pair of one group, by two loops."""
    rows = range(len(output))
    return [
        math.log1p(math.exp(output[worse] - output[better]))
        for better, worse in itertools.product(rows, rows)
        if group[better] == group[worse] and score[better] > score[worse]
    ]


REFERENCES = {
    "mse": lambda output, score: np.mean((output[:, 0] - score) ** 2),
    "huber": lambda output, score: np.mean(huber(0.3, output[:, 0] - score)),
    "smooth_l1": lambda output, score: np.mean(huber(0.3, output[:, 0] - score)) / 0.3,
    "log_cosh": lambda output, score: np.mean(np.log(np.cosh(output[:, 0] - score))),
    "bce": lambda output, score: bce_reference(expit(output[:, 0]), (score - LEAST) / (GREATEST - LEAST)),
    "pearson": lambda output, score: 1 - pearsonr(output[:, 0], score).statistic,
    "mse_pearson": lambda output, score: (
        0.8 * np.mean((output[:, 0] - score) ** 2) + 0.2 * (1 - pearsonr(output[:, 0], score).statistic)
    ),
    "gaussian_nll": lambda output, score: (
        -np.mean(norm.logpdf(score, loc=output[:, 0], scale=np.sqrt(np.exp(output[:, 1]) + 0.04**2)))
    ),
    "cross_entropy": lambda output, score: (
        -np.mean(np.sum(soft_labels(score, 0.7, 0.1) * np.log(softmax(output, axis=1)), axis=1))
    ),
    "kl": lambda output, score: np.mean(entropy(soft_labels(score, 0.7, 0.1), softmax(output, axis=1), axis=1)),
    "ordinal": lambda output, score: bce_reference(expit(output), above_levels(score).numpy()) * (len(LEVELS) - 1),
}
OPTIONS = {"loss_delta": 0.3, "pearson_weight": 0.2, "label_width": 0.7, "label_smoothing": 0.1}


def bce_reference(guess, probability):
    return -np.mean(xlogy(probability, guess) + xlogy(1 - probability, 1 - guess))


def with_options(name, **extra):
    """Build a loss with none of its options at its default."""
    return LOSSES[name](task=TASK, **{setting: OPTIONS[setting] for setting in LOSS_OPTIONS[name].settings} | extra)


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in SOFT_LABELS])
def test_a_loss_says_whether_it_sees_the_level(name):
    loss = LOSSES[name](task=PPPM)
    outputs = torch.linspace(-1, 1, 6).repeat(loss.n_outputs, 1).T
    targets, groups = torch.tensor([0.0, 0.5, 0.25, 1.0, 0.75, 0.5]), torch.zeros(6, dtype=torch.int64)
    higher = outputs + 3 * torch.eye(loss.n_outputs)[0]
    change = (loss(higher, targets, groups) - loss(outputs, targets, groups)).abs()
    assert (change > 1e-3) == loss.sees_level


def test_equals_an_independent_reference(name):
    loss = with_options(name)
    outputs, targets, groups = draw(loss)
    output, score = outputs.double().numpy(), targets.double().numpy()
    if loss.within_groups:
        expected = np.mean(pair_losses(output[:, 0], score, groups.numpy()))
    else:
        expected = REFERENCES[name](output, score)
    assert loss(outputs, targets, groups).item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_gradient_is_that_of_finite_differences(name):
    loss = with_options(name)
    outputs, targets, groups = draw(loss, 6)
    doubled = outputs.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda values: loss(values, targets.double(), groups), (doubled,), atol=1e-6)


def test_computes_in_float32_and_leaves_float64_alone(loss):
    outputs, targets, groups = draw(loss)
    value = loss(outputs.bfloat16(), targets, groups)
    assert value.dtype == torch.float32
    assert value.shape == ()
    assert torch.equal(value, loss(outputs.bfloat16().float(), targets, groups))
    assert loss.to_predictions(outputs.bfloat16()).dtype == torch.float32
    assert loss(outputs.double(), targets, groups).dtype == torch.float64


def test_every_option_is_a_field_of_candidate_with_the_same_default(name):
    parameters = inspect.signature(LOSSES[name]).parameters
    assert set(parameters) == {"task", *LOSS_OPTIONS[name].settings}
    for option in LOSS_OPTIONS[name].settings:
        assert Candidate.model_fields[option].default == parameters[option].default
        built = new_loss(Candidate(loss=name, **{option: OPTIONS[option]}), PPPM)
        assert getattr(built, option) == OPTIONS[option]


def test_to_scores_gives_a_score_per_row_in_the_order_of_the_outputs(loss):
    truth = torch.linspace(LEAST + 0.1, GREATEST - 0.1, 9)
    outputs = outputs_for(loss, truth)
    assert outputs.shape == (9, loss.n_outputs)
    predictions = loss.to_predictions(outputs)
    assert predictions.shape == (9,)
    assert (predictions.diff() > 0).all()
    if type(loss) not in [LOSSES[name] for name in UNSCALED]:
        torch.testing.assert_close(predictions, truth, rtol=0, atol=1e-4)


def test_is_the_mean_over_rows_of_a_batch_twice_as_large(loss):
    outputs, targets, groups = draw(loss)
    twice = loss(outputs.repeat(2, 1), targets.repeat(2), torch.cat([groups, groups + 100]))
    torch.testing.assert_close(twice, loss(outputs, targets, groups))


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in UNSCALED])
def test_is_least_where_to_predictions_gives_the_truth(name):
    loss = LOSSES[name](task=TASK)
    _, targets, _ = draw(loss, 5)
    outputs = outputs_for(loss, targets + torch.tensor([0.3, -0.2, 0.1, -0.3, 0.2])).requires_grad_()
    optimizer = torch.optim.LBFGS([outputs], max_iter=500, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def evaluate():
        optimizer.zero_grad()
        value = loss(outputs, targets)
        value.backward()
        return value

    optimizer.step(evaluate)
    torch.testing.assert_close(loss.to_predictions(outputs.detach()), targets, rtol=0, atol=5e-3)


def test_perfect_order_is_best_and_reversed_order_worst(name):
    loss = LOSSES[name](task=TASK, **({"label_width": 1.0} if name in SOFT_LABELS else {}))
    targets = torch.tensor([-1.0, -0.5, 0.0, 0.5, 3.0])
    outputs = outputs_for(loss, [-0.9, -0.4, 0.1, 0.8, 2.7])
    groups = torch.zeros(5, dtype=torch.int64)
    values = {order: loss(outputs[list(order)], targets, groups).item() for order in itertools.permutations(range(5))}
    assert len(values) == 120
    assert min(values, key=values.get) == (0, 1, 2, 3, 4)
    assert values[4, 3, 2, 1, 0] == pytest.approx(max(values.values()))


@pytest.mark.parametrize("n_rows", [1, 2, 32])
@pytest.mark.parametrize("constant", ["outputs", "targets", "both"])
def test_constants_give_finite_losses_and_gradients(loss, n_rows, constant):
    outputs, targets, groups = draw(loss, n_rows)
    if constant != "targets":
        outputs = torch.full_like(outputs, 0.1)
    if constant != "outputs":
        targets = torch.full_like(targets, 0.7)
    outputs.requires_grad_()
    value = loss(outputs, targets, groups)
    value.backward()
    assert value.isfinite()
    assert outputs.grad.isfinite().all()


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_huge_outputs_give_finite_losses_and_gradients(name, size):
    loss = LOSSES[name](task=PPPM)
    outputs = torch.zeros(6, loss.n_outputs)
    outputs[::2] = size
    outputs[:, 1:] = -outputs[:, 1:]
    outputs.requires_grad_()
    value = loss(outputs, torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0, 0.0]), torch.zeros(6, dtype=torch.int64))
    value.backward()
    assert value.isfinite()
    assert outputs.grad.isfinite().all()
    assert loss.to_predictions(outputs).isfinite().all()


@pytest.mark.parametrize("n_rows", [2, 4, 32])
@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e-12, 0.0), (1e15, 0.0), (0.5, 7.0)])
def test_pearson_of_perfect_and_reversed_outputs_whatever_the_scale(n_rows, scale, offset):
    loss = LOSSES["pearson"](task=PPPM)
    targets = torch.rand(n_rows, generator=torch.Generator().manual_seed(0))
    outputs = (targets * scale + offset).unsqueeze(1)
    assert loss(outputs, targets).item() == pytest.approx(0, abs=1e-5)
    assert loss(-outputs, targets).item() == pytest.approx(2, abs=1e-5)


@pytest.mark.parametrize("n_rows", [1, 3, 32])
@pytest.mark.parametrize("constant", ["outputs", "targets", "both"])
def test_pearson_learns_nothing_from_a_constant(n_rows, constant):
    loss = LOSSES["pearson"](task=PPPM)
    outputs, targets, _ = draw(loss, n_rows)
    if constant != "targets":
        outputs = torch.full_like(outputs, 0.1)
    if constant != "outputs":
        targets = torch.full_like(targets, 0.7)
    outputs.requires_grad_()
    value = loss(outputs, targets)
    value.backward()
    assert value.item() == 1
    assert torch.equal(outputs.grad, torch.zeros_like(outputs))


def test_huber_with_delta_1_is_half_the_squared_error_on_small_errors():
    targets = torch.tensor([0.0, 0.25, 1.0])
    outputs = torch.tensor([[0.3], [0.9], [0.1]])
    half = LOSSES["mse"](task=PPPM)(outputs, targets) / 2
    torch.testing.assert_close(LOSSES["huber"](task=PPPM)(outputs, targets), half)


@pytest.mark.parametrize("delta", [0.1, 1.0, 2.0])
def test_smooth_l1_is_huber_divided_by_its_delta(delta):
    huber, smooth = (LOSSES[name](task=TASK, loss_delta=delta) for name in ("huber", "smooth_l1"))
    outputs, targets, _ = draw(huber)
    torch.testing.assert_close(smooth(outputs, targets) * delta, huber(outputs, targets))


def test_gaussian_variance_is_learnt_down_to_its_floor():
    loss = LOSSES["gaussian_nll"](task=TASK)
    targets = torch.tensor([0.5, 1.5])
    exact = torch.tensor([[0.5, -1000.0], [1.5, -1000.0]])
    floor = 0.01 * (GREATEST - LEAST)
    assert loss(exact, targets).item() == pytest.approx(-norm.logpdf(0, scale=floor), rel=1e-6)
    spread = torch.tensor([[1.0, math.log(0.25 - floor**2)]] * 2)  # both miss by 0.5, so a variance of 0.25 is best
    for step in (-0.1, 0.1):
        assert loss(spread, targets) < loss(spread + torch.tensor([0.0, step]), targets)


@pytest.mark.parametrize("width", [0.0, 0.3, 1.0, 5.0])
def test_kl_is_cross_entropy_less_the_entropy_of_the_labels(width):
    kl, cross = (LOSSES[name](task=TASK, label_width=width) for name in ("kl", "cross_entropy"))
    outputs, targets, _ = draw(kl)
    outputs.requires_grad_()
    difference = (cross(outputs, targets) - kl(outputs, targets)).item()
    assert difference == pytest.approx(entropy(soft_labels(targets.numpy(), width), axis=1).mean(), abs=1e-5)
    gradients = [torch.autograd.grad(loss(outputs, targets), outputs)[0] for loss in (kl, cross)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-7)


def test_cross_entropy_of_scores_on_levels_is_that_of_classes():
    loss = LOSSES["cross_entropy"](task=PPPM)
    classes = torch.arange(5).repeat(3)
    outputs = torch.randn(15, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss(outputs, classes / 4), functional.cross_entropy(outputs, classes))


@pytest.mark.parametrize("width", [0.0, 0.3, 1.0])
def test_labels_are_distributions(width):
    loss = LOSSES["kl"](task=TASK, label_width=width)
    targets = torch.tensor([*LEVELS, 0.2, 1.0, 2.9])
    labels = loss.labels(targets)
    np.testing.assert_allclose(labels, soft_labels(targets.numpy(), width), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(labels.sum(dim=1), torch.ones(len(targets)))
    if width == 0:
        assert torch.equal(labels[: len(LEVELS)], torch.eye(len(LEVELS)))
        torch.testing.assert_close(labels @ torch.tensor(LEVELS), targets)


def test_scores_beyond_the_levels_count_as_the_nearest():
    task = Task(name="wider", text_columns=("text",), score_levels=(0.0, 1.0, 2.0), score_range=(-1.0, 5.0))
    labels = LOSSES["kl"](task=task).labels(torch.tensor([-1.0, 5.0]))
    assert torch.equal(labels, torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))


@pytest.mark.parametrize("name", OVER_LEVELS)
def test_a_task_without_levels_is_refused(name):
    with pytest.raises(InputError, match=r"task 'smooth' has score_range only; give its task file score_levels, or"):
        new_loss(Candidate(loss=name), CONTINUOUS)
    with pytest.raises(InputError, match="give its task file score_levels"):
        check_task(Candidate(recipe="pair", loss=name), CONTINUOUS)


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in OVER_LEVELS])
def test_other_losses_need_no_levels(name):
    check_task(Candidate(recipe="pair", loss=name), CONTINUOUS)
    loss = new_loss(Candidate(loss=name), CONTINUOUS)
    outputs, targets, groups = draw(loss)
    assert loss(outputs, targets, groups).isfinite()


@pytest.mark.parametrize(
    ("targets", "groups"),
    [([0.5], [0]), ([0.5, 0.5, 0.5], [1, 1, 1]), ([0.0, 0.5, 1.0], [0, 1, 2])],
    ids=["one row", "equal scores", "different anchors"],
)
def test_ranking_learns_nothing_without_a_pair(targets, groups):
    loss = LOSSES["ranking"](task=PPPM)
    outputs = torch.randn(len(targets), 1, generator=torch.Generator().manual_seed(0)).requires_grad_()
    value = loss(outputs, torch.tensor(targets), torch.tensor(groups))
    value.backward()
    assert value.item() == 0
    assert torch.equal(outputs.grad, torch.zeros_like(outputs))


def test_ranking_compares_within_an_anchor_only():
    loss = LOSSES["ranking"](task=PPPM)
    outputs, targets = torch.tensor([[0.0], [1.0], [5.0], [7.0]]), torch.tensor([0.0, 1.0, 0.0, 1.0])
    groups = torch.tensor([3, 3, 8, 8])
    shifted = outputs + torch.tensor([[0.0], [0.0], [100.0], [100.0]])
    assert loss(outputs, targets, groups).item() == pytest.approx(
        (math.log1p(math.exp(-1)) + math.log1p(math.exp(-2))) / 2
    )
    torch.testing.assert_close(loss(shifted, targets, groups), loss(outputs, targets, groups))


def test_only_ranking_asks_for_anchors():
    assert [name for name, kind in LOSSES.items() if kind.within_groups] == ["ranking"]
