import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional

from models.candidate import Candidate
from models.parts.build import new_head
from models.parts.head_output import CodeEmbedding, Output, SampledDropout, dropout_rates
from models.parts.heads import HEADS, HeadSettings, PoolingHead

BATCH, TOKENS, HIDDEN = 4, 6, 8
N_STATES = 5
LENGTHS = (6, 3, 1, 2)
VARIANTS = {
    "plain": {},
    "dressed": {"codes": True, "norm": True, "layers": 2, "width": 12, "dropout_rates": (0.1, 0.5)},
}


def new(name, **settings):
    """Build a head with random weights, biases included, in evaluation mode."""
    torch.manual_seed(0)
    module = HEADS[name](HeadSettings(HIDDEN, n_states=N_STATES, n_outputs=2, **settings)).eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.1)
    return module


@pytest.fixture(params=HEADS)
def name(request):
    return request.param


@pytest.fixture(params=VARIANTS)
def head(name, request):
    return new(name, **VARIANTS[request.param])


@pytest.fixture
def all_states():
    return tuple(torch.randn(N_STATES, BATCH, TOKENS, HIDDEN, generator=torch.Generator().manual_seed(1)))


@pytest.fixture
def states(head, all_states):
    return all_states[-head.n_states :]


@pytest.fixture
def mask():
    return torch.tensor([[1] * length + [0] * (TOKENS - length) for length in LENGTHS])


@pytest.fixture
def codes():
    return torch.tensor([[0, 61], [8, 99], [7, 4], [0, 0]])


def test_padding_takes_no_part(head, states, mask, codes):
    outputs = head(states, mask, codes)
    assert outputs.shape == (BATCH, 2)
    for row, length in enumerate(LENGTHS):
        own = slice(row, row + 1)
        alone = head([hidden[own, :length] for hidden in states], mask[own, :length], codes[own])
        torch.testing.assert_close(outputs[own], alone, rtol=0, atol=1e-6)
    poisoned = [torch.where(mask.bool().unsqueeze(-1), hidden, 1e4) for hidden in states]
    assert torch.equal(head(poisoned, mask, codes), outputs)


def test_rows_do_not_see_each_other(head, states, mask, codes):
    order = torch.tensor([2, 0, 3, 1])
    turned = head([hidden[order] for hidden in states], mask[order], codes[order])
    torch.testing.assert_close(turned, head(states, mask, codes)[order], rtol=0, atol=1e-6)


def test_leaves_its_input_alone(head, states, mask, codes):
    before = [hidden.clone() for hidden in states]
    head(states, mask, codes)
    assert all(torch.equal(hidden, kept) for hidden, kept in zip(states, before, strict=True))


def test_every_parameter_learns(head, states, mask, codes):
    head(states, mask, codes).square().sum().backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_dropout_acts_in_training_only(name, all_states, mask):
    head = new(name, dropout_rates=(0.5,))
    states = all_states[-head.n_states :]
    with torch.inference_mode():
        assert torch.equal(head(states, mask), head(states, mask))
        assert torch.equal(head(states, mask), new(name)(states, mask))
        head.train()
        assert not torch.equal(head(states, mask), head(states, mask))


def test_pools_low_precision_states_in_float32(head, states, mask, codes):
    with torch.autocast("cpu", torch.bfloat16):
        outputs = head([hidden.bfloat16() for hidden in states], mask, codes)
    assert outputs.dtype == torch.float32
    rounded = head([hidden.bfloat16().float() for hidden in states], mask, codes)
    wide_layer_follows_autocast = {"attention": 0.05, "cnn": 0.02}
    name = next(name for name, kind in HEADS.items() if type(head) is kind)
    scale = rounded.abs().max().item()
    torch.testing.assert_close(outputs, rounded, rtol=0, atol=scale * wide_layer_follows_autocast.get(name, 1e-6))


def test_wants_no_more_states_than_there_are(name):
    for n_states in (1, 3, 25):
        assert 1 <= HEADS[name](HeadSettings(HIDDEN, n_states=n_states)).n_states <= n_states


def test_the_last_token_is_found_behind_padding_as_ahead_of_it(all_states, mask):
    head = new("last")
    expected = head(all_states[-1:], mask)
    ahead = [torch.stack([hidden.roll(TOKENS - n, 0) for hidden, n in zip(all_states[-1], LENGTHS, strict=True)])]
    torch.testing.assert_close(head(ahead, mask.flip(1)), expected, rtol=0, atol=0)


def numbers(tensor):
    return tensor.detach().double().numpy()


def layer_pool_by_hand(module, states):
    shares = np.exp(numbers(module.mixture))
    return np.einsum("s,sth->h", shares / shares.sum(), states) / states.shape[1]


def bi_lstm_by_hand(module, states):
    forward = lstm_by_hand(module.lstm, states[-1], suffix="")
    backward = lstm_by_hand(module.lstm, states[-1][::-1], suffix="_reverse")[::-1]
    return np.concatenate([forward, backward], axis=1).mean(axis=0)


def attention_by_hand(module, states):
    logits = np.tanh(states[-1] @ numbers(module.project.weight).T + numbers(module.project.bias))
    shares = np.exp(logits @ numbers(module.weigh.weight)[0])
    return (shares / shares.sum()) @ states[-1]


BY_HAND = {
    "cls": lambda _, states: states[-1, 0],
    "cls_last4": lambda _, states: np.concatenate(states[-4:, 0]),
    "last": lambda _, states: states[-1, -1],
    "mean": lambda _, states: states[-1].mean(axis=0),
    "max": lambda _, states: states[-1].max(axis=0),
    "attention": attention_by_hand,
    "layer_pool": layer_pool_by_hand,
    "lstm": bi_lstm_by_hand,
}
"""Head -> vector of one row from its states, float64 [states, tokens, hidden], in plain NumPy."""


def lstm_by_hand(lstm, inputs, suffix):
    """Run one direction of a torch LSTM, gate by gate, over inputs [tokens, hidden]."""
    weights, recurrent, bias, recurrent_bias = (
        numbers(getattr(lstm, f"{part}_l0{suffix}")) for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    output = cell = np.zeros(recurrent.shape[1])
    outputs = []
    for vector in inputs:
        gates = np.split(weights @ vector + bias + recurrent @ output + recurrent_bias, 4)
        admit, forget, release = (1 / (1 + np.exp(-gates[gate])) for gate in (0, 1, 3))
        cell = forget * cell + admit * np.tanh(gates[2])
        output = release * np.tanh(cell)
        outputs.append(output)
    return np.array(outputs)


@pytest.mark.parametrize("name", [name for name, kind in HEADS.items() if issubclass(kind, PoolingHead)])
def test_pools_by_its_formula(name, all_states, mask):
    module = new(name)
    pooled = numbers(module.pool(all_states[-module.n_states :], mask))
    stacked = numbers(torch.stack(all_states))
    for row, length in enumerate(LENGTHS):
        expected = BY_HAND[name](module, stacked[:, row, :length])
        np.testing.assert_allclose(pooled[row], expected, rtol=1e-5, atol=1e-5)


def convolve(inputs, layer):
    """Convolve inputs [positions, channels] with kernel 2, a zero put before and behind."""
    weight, bias = numbers(layer.weight), numbers(layer.bias)
    padded = np.pad(inputs, ((1, 1), (0, 0)))
    return np.array(
        [
            weight[:, :, 0] @ padded[place] + weight[:, :, 1] @ padded[place + 1] + bias
            for place in range(len(inputs) + 1)
        ]
    )


def test_cnn_is_two_convolutions_of_each_row_alone(all_states, mask):
    head = new("cnn")
    outputs = numbers(head(all_states[-1:], mask))
    positions = []
    for row, length in enumerate(LENGTHS):
        features = np.maximum(convolve(numbers(all_states[-1][row, :length]), head.first), 0)
        scores = convolve(features, head.second)
        positions.append(len(scores))
        np.testing.assert_allclose(outputs[row], scores.max(axis=0), rtol=1e-5, atol=1e-4)
    assert positions == [length + 2 for length in LENGTHS]


@pytest.mark.parametrize("place", range(5))
def test_cnn_looks_at_every_position_of_a_padded_row(place):
    head = new("cnn")
    with torch.no_grad():
        for layer in (head.first, head.second):
            layer.weight.zero_()
            layer.bias.zero_()
        head.first.weight[0, 0] = torch.tensor([1.0, 0.0])  # position p shows token p - 1
        head.second.weight[0, 0] = torch.tensor([1.0, 0.0])  # position q shows position q - 1 of the first
        head.second.bias.fill_(-1)
    hidden = torch.zeros(1, 8, HIDDEN)
    hidden[0, place, 0] = 5
    mask = torch.tensor([[1, 1, 1, 0, 0, 0, 0, 0]])
    assert head([hidden], mask)[0, 0].item() == (4 if place < 3 else -1)


def test_output_is_norm_then_codes_then_selu_layers_then_linear(codes):
    torch.manual_seed(0)
    output = Output(HIDDEN, 2, n_codes=3, norm=True, layers=2, width=12)
    nn.init.normal_(output.norm.weight)
    pooled, beside = torch.randn(BATCH, HIDDEN), torch.randn(BATCH, 3)
    x = functional.layer_norm(pooled, (HIDDEN,)) * output.norm.weight
    x = torch.cat([x, beside], dim=1)
    for number, size in ((0, HIDDEN + 3), (2, 12)):
        layer = output.hidden[number]
        assert layer.weight.shape == (12, size)
        x = functional.selu(x @ layer.weight.T + layer.bias)
    torch.testing.assert_close(output(pooled, beside), x @ output.linear.weight.T + output.linear.bias)


def test_hidden_layers_keep_mean_and_variance():
    torch.manual_seed(0)
    hidden = Output(1024, 1, layers=8, width=1024).hidden
    with torch.no_grad():
        values = hidden(torch.randn(512, 1024))
    assert values.mean().item() == pytest.approx(0, abs=0.1)
    assert values.std().item() == pytest.approx(1, abs=0.15)
    assert all(not layer.bias.any() for layer in hidden[::2])


def test_sampled_dropout_averages_outputs_over_its_masks():
    torch.manual_seed(0)
    rates = (0.1, 0.3, 0.5)
    dropout, values = SampledDropout(rates), torch.randn(BATCH, HIDDEN)
    seen = []
    result = dropout(values, lambda kept: seen.append(kept) or kept.square())
    samples = seen[0].reshape(3, BATCH, HIDDEN)
    torch.testing.assert_close(result, samples.square().mean(dim=0))
    for sample, rate in zip(samples, rates, strict=True):
        kept = sample != 0
        torch.testing.assert_close(sample[kept], values[kept] / (1 - rate))
    assert not torch.equal(samples[0] == 0, samples[2] == 0)


def test_each_mask_drops_at_its_rate():
    torch.manual_seed(0)
    rates = dropout_rates(0.5, samples=5, graded=True)
    dropped = []
    SampledDropout(rates)(torch.ones(100, 1000), lambda kept: dropped.append(kept == 0) or kept)
    shares = dropped[0].reshape(5, -1).double().mean(dim=1)
    np.testing.assert_allclose(shares, [0.1, 0.2, 0.3, 0.4, 0.5], atol=0.01)


def test_dropout_rates():
    assert dropout_rates(0.5, samples=5, graded=True) == pytest.approx((0.1, 0.2, 0.3, 0.4, 0.5))
    assert dropout_rates(0.5, samples=3, graded=False) == (0.5, 0.5, 0.5)
    assert dropout_rates(0.0, samples=1, graded=False) == (0.0,)


def test_codes_are_the_embeddings_of_section_and_class_number(codes):
    embedding = CodeEmbedding()
    expected = [
        torch.cat([embedding.section.weight[section], embedding.class_number.weight[number]])
        for section, number in codes.tolist()
    ]
    assert torch.equal(embedding(codes), torch.stack(expected))
    assert embedding.width == 16


def test_codes_change_the_outputs_of_their_row_only(name, all_states, mask, codes):
    head = new(name, codes=True)
    states = all_states[-head.n_states :]
    other = codes.clone()
    other[1] = torch.tensor([2, 7])
    difference = (head(states, mask, codes) - head(states, mask, other)).abs().sum(dim=1)
    assert difference[1] > 0
    assert not difference[[0, 2, 3]].any()


def test_new_head_follows_the_candidate(name):
    settings = {"head": name, "head_dropout": 0.5, "dropout_samples": 5, "graded_dropout": True}
    if name != "cnn":
        settings |= {"head_norm": True, "head_layers": 2, "head_width": 16}
    head = new_head(Candidate(**settings), hidden_size=HIDDEN, n_states=N_STATES, n_outputs=3)
    output = head.output if name != "cnn" else head
    assert output.dropout.rates == pytest.approx((0.1, 0.2, 0.3, 0.4, 0.5))
    if name != "cnn":
        assert isinstance(output.norm, nn.LayerNorm)
        assert [layer.out_features for layer in output.hidden[::2]] == [16, 16]
        assert output.linear.out_features == 3
    assert head.codes is None


def test_new_head_takes_codes_in_where_the_recipe_gives_them(name):
    head = new_head(Candidate(head=name, recipe="code_embedding"), hidden_size=HIDDEN, n_states=N_STATES, n_outputs=1)
    assert isinstance(head.codes, CodeEmbedding)


def test_same_seed_gives_the_same_head(name):
    def build():
        torch.manual_seed(7)
        return new_head(Candidate(head=name), hidden_size=HIDDEN, n_states=N_STATES, n_outputs=1).state_dict()

    first, second = build(), build()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("option", [{"head_norm": True}, {"head_layers": 2}])
def test_cnn_refuses_what_belongs_to_a_pooled_vector(option):
    with pytest.raises(ValidationError, match=r"has no effect with head='cnn'; it needs cls, "):
        Candidate(head="cnn", **option)


def test_memo_heads_have_their_sizes():
    def shapes(hidden_size=1024, **settings):
        head = new_head(Candidate(**settings), hidden_size=hidden_size, n_states=25, n_outputs=1)
        return [tuple(parameter.shape) for parameter in head.parameters() if parameter.ndim > 1]

    assert sorted(shapes(head="cls_last4", head_layers=2)) == [(1, 1024), (1024, 1024), (1024, 4096)]
    assert sorted(shapes(head="attention")) == [(1, 512), (1, 1024), (512, 1024)]
    assert shapes(head="cnn") == [(256, 1024, 2), (1, 256, 2)]
    code = shapes(hidden_size=768, head="cls", head_layers=2, recipe="code_embedding")
    assert sorted(code) == [(1, 1024), (9, 8), (100, 8), (1024, 784), (1024, 1024)]
