import numpy as np
import pytest
import torch
from torch import nn

from models.parts.mixout import Mixout

P = 0.3


@pytest.fixture
def moved():
    """Return a linear layer that has moved away from its initial weight, its mixout, and that initial weight."""
    torch.manual_seed(0)
    linear = nn.Linear(40, 30)
    mixout = Mixout(linear, P)
    initial = linear.weight.detach().clone()
    with torch.no_grad():
        linear.weight.add_(torch.randn_like(initial))
    return linear, mixout, initial


def mixed_weight(linear, mixout):
    with mixout.mixed():
        return linear.weight.detach().clone()


def test_each_weight_is_its_initial_value_or_rescaled_as_in_the_paper(moved):
    linear, mixout, initial = moved
    weight = linear.weight.detach()
    mixed = mixed_weight(linear, mixout)
    dropped = mixed == initial
    paper = (dropped * initial + ~dropped * weight - P * initial) / (1 - P)
    torch.testing.assert_close(mixed, paper, rtol=1e-5, atol=1e-6)
    sd = np.sqrt(P * (1 - P) / dropped.numel())
    assert abs(dropped.float().mean().item() - P) < 4 * sd
    for dim in (0, 1):
        counts = dropped.sum(dim=dim)
        assert ((counts > 0) & (counts < dropped.shape[dim])).float().mean() > 0.95, "masks are per weight"


def test_the_mean_over_masks_is_the_weight(moved):
    linear, mixout, initial = moved
    n = 4000
    mean = sum(mixed_weight(linear, mixout).double() for _ in range(n)) / n
    sd = (linear.weight - initial).abs().double() * np.sqrt(P / (1 - P) / n)
    z = ((mean - linear.weight) / sd).detach()
    assert z.abs().max() < 5
    assert 0.9 < z.std() < 1.1


def test_gradients_reach_kept_weights_only_rescaled(moved):
    linear, mixout, initial = moved
    inputs = torch.randn(7, 40)
    with mixout.mixed():
        dropped = linear.weight == initial
        linear(inputs).sum().backward()
    expected = torch.where(dropped, 0.0, inputs.sum(dim=0) / (1 - P))
    torch.testing.assert_close(linear.weight.grad, expected)


def test_names_and_parameters_are_seen_as_they_are_afterwards(moved):
    linear, mixout, _ = moved
    weight, keys = linear.weight, list(linear.state_dict())
    before = weight.detach().clone()

    def fail():
        with mixout.mixed():
            assert linear.weight is not weight
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert linear.weight is weight
    assert torch.equal(weight, before)
    assert (list(linear.state_dict()), [name for name, _ in linear.named_parameters()]) == (keys, ["weight", "bias"])


def test_no_mixout_draws_no_random_numbers_and_keeps_no_copy(moved):
    linear, _, _ = moved
    mixout = Mixout(linear, 0.0)
    state = torch.get_rng_state()
    assert torch.equal(mixed_weight(linear, mixout), linear.weight)
    assert torch.equal(torch.get_rng_state(), state)
    assert mixout.initial == []


def test_frozen_layers_are_left_alone():
    model = nn.Sequential(nn.Linear(3, 3).requires_grad_(False), nn.Linear(3, 3), nn.Embedding(3, 3))
    assert Mixout(model, 0.5).linears == [model[1]]


def test_a_layer_used_twice_has_one_mask(moved):
    torch.manual_seed(1)
    linear = nn.Linear(5, 5)
    mixout = Mixout(linear, 0.5)
    with torch.no_grad():
        linear.weight.add_(1.0)
    inputs = torch.randn(2, 5)
    with mixout.mixed():
        matrix = linear.weight.detach()
        twice = linear(linear(inputs))
    torch.testing.assert_close(twice, (inputs @ matrix.T + linear.bias) @ matrix.T + linear.bias)
