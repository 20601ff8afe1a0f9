import numpy as np
import pytest
import torch
from torch import nn

from models.heads import HEADS, HeadSettings

BATCH, TOKENS, HIDDEN = 3, 5, 8
LENGTHS = (5, 3, 1)


@pytest.fixture(params=HEADS)
def head(request):
    torch.manual_seed(0)
    module = HEADS[request.param](HeadSettings(HIDDEN, n_states=3, n_outputs=2, dropout=0.5)).eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


@pytest.fixture
def hidden():
    return torch.randn(BATCH, TOKENS, HIDDEN, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def mask():
    return torch.tensor([[1] * length + [0] * (TOKENS - length) for length in LENGTHS])


def test_padding_takes_no_part(head, hidden, mask):
    outputs = head([hidden], mask)
    assert outputs.shape == (BATCH, 2)
    for row, length in enumerate(LENGTHS):
        alone = head([hidden[row : row + 1, :length]], mask[row : row + 1, :length])
        torch.testing.assert_close(outputs[row : row + 1], alone, rtol=0, atol=1e-6)
    poisoned = torch.where(mask.bool().unsqueeze(-1), hidden, 1e4)
    torch.testing.assert_close(head([poisoned], mask), outputs, rtol=0, atol=1e-6)


def test_leaves_its_input_alone(head, hidden, mask):
    before = hidden.clone()
    head([hidden], mask)
    assert torch.equal(hidden, before)


def test_every_parameter_learns(head, hidden, mask):
    head([hidden], mask).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in head.parameters())


def test_dropout_acts_in_training_only(head, hidden, mask):
    assert torch.equal(head([hidden], mask), head([hidden], mask))
    head.train()
    assert not torch.equal(head([hidden], mask), head([hidden], mask))


def test_pools_a_low_precision_state_in_float32(head, hidden, mask):
    with torch.autocast("cpu", torch.bfloat16):
        outputs = head([hidden.bfloat16()], mask)
    torch.testing.assert_close(outputs.float(), head([hidden], mask), rtol=0.05, atol=0.1)


def by_hand(name, module, states):
    """Pool one row's states, float64 [tokens, hidden], in plain NumPy."""
    if name == "cls":
        return states[0]
    if name == "mean":
        return states.mean(axis=0)
    weights, bias = (value.detach().double().numpy() for value in (module.project.weight, module.project.bias))
    logits = np.tanh(states @ weights.T + bias) @ module.weigh.weight.detach().double().numpy()[0]
    shares = np.exp(logits - logits.max())
    return (shares / shares.sum()) @ states


@pytest.mark.parametrize("name", HEADS)
def test_equals_the_formula(name, hidden, mask):
    torch.manual_seed(0)
    module = HEADS[name](HeadSettings(HIDDEN, n_states=3))
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    outputs = module([hidden], mask).detach().numpy()
    for row, length in enumerate(LENGTHS):
        pooled = by_hand(name, module, hidden[row, :length].double().numpy())
        expected = pooled @ module.output.weight.detach().double().numpy().T + module.output.bias.detach().numpy()
        np.testing.assert_allclose(outputs[row], expected, rtol=1e-5, atol=1e-5)
