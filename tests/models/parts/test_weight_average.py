import numpy as np
import pytest
import torch
from torch import nn

from models.parts.weight_average import WeightAverage

DECAY = 0.9


def run(steps, *, average=None, seed=0):
    """Return an average after some steps, its parameter, and the parameter's history, [steps, 3]."""
    generator = torch.Generator().manual_seed(seed)
    parameter = nn.Parameter(torch.full((3,), 100.0))
    average = average or WeightAverage([parameter], DECAY)
    history = []
    for _ in range(steps):
        with torch.no_grad():
            parameter.copy_(torch.randn(3, generator=generator))
        average.update()
        history.append(parameter.detach().numpy().astype(float))
    return average, parameter, np.array(history)


def applied(average, parameter):
    with average.applied():
        return parameter.detach().clone().numpy()


@pytest.mark.parametrize("steps", [1, 2, 30])
def test_is_the_mean_over_steps_with_weights_that_decay(steps):
    average, parameter, history = run(steps)
    weights = DECAY ** np.arange(steps - 1, -1, -1)
    np.testing.assert_allclose(applied(average, parameter), weights @ history / weights.sum(), rtol=0, atol=1e-6)


def test_before_any_step_it_is_the_weights_themselves():
    average, parameter, _ = run(0)
    assert applied(average, parameter).tolist() == [100.0] * 3


def test_the_weights_come_back_even_after_an_error():
    average, parameter, history = run(5)
    before = parameter.detach().clone()

    def fail():
        with average.applied():
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert torch.equal(parameter, before)
    weights = DECAY ** np.arange(4, -1, -1)
    np.testing.assert_allclose(applied(average, parameter), weights @ history / weights.sum(), atol=1e-6)


def test_goes_on_from_a_state():
    average, _, _ = run(5)
    other = WeightAverage(average.parameters, DECAY)
    other.load_state(average.state())
    for each in (average, other):
        each.update()
    assert other.steps == 6
    assert torch.equal(other.averages[0], average.averages[0])
    assert other.averages[0] is not average.averages[0]
