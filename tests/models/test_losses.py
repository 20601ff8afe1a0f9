import numpy as np
import pytest
import torch
from scipy.special import expit, xlogy
from scipy.stats import pearsonr

from data_prep.task import PPPM, Task
from models.losses import LOSSES

LEAST, GREATEST = -1.0, 3.0
TASK = Task(name="wide", text_columns=("text",), score_range=(LEAST, GREATEST))


@pytest.fixture(params=LOSSES)
def loss(request):
    return LOSSES[request.param](task=TASK)


def draw(n_rows=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = LEAST + (GREATEST - LEAST) * torch.rand(n_rows, generator=generator)
    return torch.randn(n_rows, 1, generator=generator), scores


def reference(name, output, score):
    if name == "mse":
        return np.mean((output - score) ** 2)
    if name == "pearson":
        return 1 - pearsonr(output, score).statistic
    probability, guess = (score - LEAST) / (GREATEST - LEAST), expit(output)
    return -np.mean(xlogy(probability, guess) + xlogy(1 - probability, 1 - guess))


@pytest.mark.parametrize("name", LOSSES)
def test_equals_an_independent_reference(name):
    outputs, scores = draw()
    value = LOSSES[name](task=TASK)(outputs, scores).item()
    expected = reference(name, outputs[:, 0].double().numpy(), scores.double().numpy())
    assert value == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_gradient_is_that_of_finite_differences(loss):
    outputs, scores = draw(6)
    outputs.requires_grad_()
    loss(outputs, scores).backward()
    step = 1e-2
    for row in range(len(outputs)):
        shift = torch.zeros_like(outputs)
        shift[row] = step
        with torch.no_grad():
            slope = (loss(outputs + shift, scores) - loss(outputs - shift, scores)) / (2 * step)
        assert outputs.grad[row].item() == pytest.approx(slope.item(), abs=2e-4)


def test_computes_in_float32(loss):
    outputs, scores = draw()
    value = loss(outputs.bfloat16(), scores)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(outputs.bfloat16().float(), scores))
    assert loss.to_scores(outputs.bfloat16()).dtype == torch.float32


def test_to_scores_gives_a_score_per_row_in_the_order_of_the_outputs(loss):
    outputs = torch.linspace(-2, 2, 9).unsqueeze(1)
    scores = loss.to_scores(outputs)
    assert scores.shape == (9,)
    assert (scores.diff() > 0).all()


@pytest.mark.parametrize("name", ["mse", "bce"])
def test_is_least_where_to_scores_gives_the_truth(name):
    loss = LOSSES[name](task=TASK)
    outputs, scores = draw(5)
    outputs.requires_grad_()
    optimizer = torch.optim.LBFGS([outputs], max_iter=200, tolerance_grad=1e-9)

    def evaluate():
        optimizer.zero_grad()
        value = loss(outputs, scores)
        value.backward()
        return value

    optimizer.step(evaluate)
    torch.testing.assert_close(loss.to_scores(outputs.detach()), scores, rtol=0, atol=1e-3)


@pytest.mark.parametrize("n_rows", [2, 4, 32])
@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e-12, 0.0), (1e15, 0.0), (0.5, 7.0)])
def test_pearson_of_perfect_and_reversed_outputs_whatever_the_scale(n_rows, scale, offset):
    loss = LOSSES["pearson"](task=PPPM)
    scores = torch.rand(n_rows, generator=torch.Generator().manual_seed(0))
    outputs = (scores * scale + offset).unsqueeze(1)
    assert loss(outputs, scores).item() == pytest.approx(0, abs=1e-5)
    assert loss(-outputs, scores).item() == pytest.approx(2, abs=1e-5)


@pytest.mark.parametrize("n_rows", [1, 3, 32])
@pytest.mark.parametrize("constant", ["outputs", "scores", "both"])
def test_pearson_learns_nothing_from_a_constant(n_rows, constant):
    loss = LOSSES["pearson"](task=PPPM)
    outputs, scores = draw(n_rows)
    if constant != "scores":
        outputs = torch.full_like(outputs, 0.1)
    if constant != "outputs":
        scores = torch.full_like(scores, 0.7)
    outputs.requires_grad_()
    value = loss(outputs, scores)
    value.backward()
    assert value.item() == 1
    assert torch.equal(outputs.grad, torch.zeros_like(outputs))
