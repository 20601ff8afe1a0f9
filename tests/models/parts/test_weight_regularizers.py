import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel

from data_prep.errors import InputError
from models.backbones.encoder import load_backbone
from models.parts.weight_regularizers import Mixout, reinitialize_layers

P = 0.3
FAMILIES = ["bert-for-patents", "deberta-large", "deberta-v2-xlarge", "patentsberta", "funnel-large", "bart-large"]
FAMILIES += ["cocolm-base", "electra-large-discriminator", "luke-large"]


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


@pytest.mark.parametrize("family", FAMILIES)
def test_fresh_layers_are_as_in_a_model_of_the_family_that_was_never_trained(family, tiny):
    backbone = load_backbone(tiny(family))
    with torch.no_grad():
        for parameter in backbone.model.parameters():
            parameter.fill_(7.0)
    torch.manual_seed(1)
    reinitialize_layers(backbone, 1)
    assert all((value == 7.0).all() for layer in backbone.layers[:-1] for value in layer.parameters())
    never_trained = AutoModel.from_config(AutoConfig.from_pretrained(tiny(family)))
    names = {id(module): name for name, module in backbone.model.model.named_modules()}
    reference = dict(never_trained.get_submodule(names[id(backbone.layers[-1])]).state_dict())
    compared = 0
    for name, value in backbone.layers[-1].state_dict().items():
        if reference[name].std() == 0:
            assert torch.equal(value, reference[name]), name
        else:
            n = value.numel()
            assert value.std().item() == pytest.approx(reference[name].std().item(), rel=5 / np.sqrt(n)), name
            assert abs(value.mean() - reference[name].mean()) < 5 * value.std() * np.sqrt(2 / n), name
            compared += 1
    assert compared >= 4


def test_fresh_layers_depend_on_the_random_stream_alone(tiny_bert):
    def fresh(seed):
        backbone = load_backbone(tiny_bert)
        torch.manual_seed(seed)
        reinitialize_layers(backbone, 1)
        return torch.cat([value.flatten() for value in backbone.layers[-1].parameters()])

    assert torch.equal(fresh(1), fresh(1))
    assert not torch.equal(fresh(1), fresh(2))


def test_no_fresh_layers_changes_nothing(tiny_bert):
    backbone = load_backbone(tiny_bert)
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    state = torch.get_rng_state()
    reinitialize_layers(backbone, 0)
    assert all(torch.equal(value, before[name]) for name, value in backbone.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_more_layers_than_there_are_and_frozen_ones_are_refused(tiny_bert):
    with pytest.raises(InputError, match="reinit_layers=3: the backbone has only 2 layers"):
        reinitialize_layers(load_backbone(tiny_bert), 3)
    with pytest.raises(InputError, match="reaches down to layers that freeze_layers keeps"):
        reinitialize_layers(load_backbone(tiny_bert, freeze_layers=1), 2)


def test_the_one_layer_of_albert_is_not_made_fresh(tiny):
    with pytest.raises(InputError, match="applies one layer 2 times, so nothing pretrained would be left"):
        reinitialize_layers(load_backbone(tiny("albert-xxlarge-v2")), 1)
