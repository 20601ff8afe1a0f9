import pytest
import torch
from torch import nn
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from models.backbones import load_backbone
from models.heads import HEADS, HeadSettings
from models.optimizer import new_optimizer, parameter_groups, rate_share, set_rates

RATES = {"backbone_lr": 1e-4, "head_lr": 1e-3, "layer_decay": 0.5, "weight_decay": 0.1}


@pytest.fixture
def backbone(tiny_bert):
    return load_backbone(tiny_bert)


@pytest.fixture
def head():
    return HEADS["attention"](HeadSettings(hidden_size=32, n_states=3))


def groups_of(backbone, head, **changed):
    return parameter_groups(backbone.model, backbone.layers, head, **{**RATES, **changed})


def test_every_parameter_that_learns_is_in_one_group(backbone, head):
    backbone.layers[0].requires_grad_(False)
    grouped = [parameter for group in groups_of(backbone, head) for parameter in group.parameters]
    learning = [p for module in (backbone.model, head) for p in module.parameters() if p.requires_grad]
    assert len(learning) > 30
    assert len(grouped) == len(learning)
    assert set(grouped) == set(learning)


def test_biases_and_norms_are_spared_by_decay(backbone, head):
    groups = groups_of(backbone, head)
    decay = {parameter: group.weight_decay for group in groups for parameter in group.parameters}
    seen = {0.0: 0, 0.1: 0}
    for module in [*backbone.model.modules(), *head.modules()]:
        for name, parameter in module.named_parameters(recurse=False):
            expected = 0.0 if isinstance(module, nn.LayerNorm) or name == "bias" else 0.1
            assert decay[parameter] == expected
            seen[expected] += 1
    assert seen[0.0] > 20
    assert seen[0.1] > 10


def test_rates_fall_from_layer_to_layer(backbone, head):
    rate = {parameter: group.rate for group in groups_of(backbone, head) for parameter in group.parameters}
    for module, expected in zip([*backbone.layers, head], [0.25e-4, 0.5e-4, 1e-4, 1e-3], strict=True):
        assert {rate[parameter] for parameter in module.parameters()} == {expected}


def test_parameters_of_no_layer_learn_at_the_top_rate(backbone, head):
    backbone.model.extra = nn.Linear(2, 2)
    rate = {parameter: group.rate for group in groups_of(backbone, head) for parameter in group.parameters}
    assert {rate[parameter] for parameter in backbone.model.extra.parameters()} == {1e-4}


def test_a_module_shared_by_layers_is_grouped_once(head):
    shared = nn.Linear(4, 4)
    model = nn.ModuleList([nn.Embedding(3, 4), shared, shared])
    groups = parameter_groups(model, list(model), head, **RATES)
    assert sum(len(group.parameters) for group in groups) == 3 + len(list(head.parameters()))


@pytest.mark.parametrize(
    ("schedule", "theirs"),
    [("linear", get_linear_schedule_with_warmup), ("cosine", get_cosine_schedule_with_warmup)],
)
@pytest.mark.parametrize("total", [1, 7, 100])
def test_schedule_falls_like_that_of_transformers(schedule, theirs, total):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = theirs(optimizer, 0, total)
    for step in range(total):
        share = rate_share(step, total=total, warmup=0.0, schedule=schedule)
        assert share == pytest.approx(scheduler.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize(("total", "warmup"), [(100, 0.1), (10, 0.06), (3, 0.9), (50, 0.99)])
def test_schedule_warms_up_to_the_peak_and_never_stands_still(schedule, total, warmup):
    shares = [rate_share(step, total=total, warmup=warmup, schedule=schedule) for step in range(total)]
    rising = round(warmup * total)
    assert shares[:rising] == pytest.approx([(step + 1) / rising for step in range(rising)])
    assert max(shares) == 1
    assert min(shares) > 0
    assert shares[rising:] == sorted(shares[rising:], reverse=True)


def test_set_rates_scales_each_group_from_its_own_peak(backbone, head):
    optimizer = new_optimizer(groups_of(backbone, head))
    peaks = [group["lr"] for group in optimizer.param_groups]
    assert len(set(peaks)) == 4
    for share in (0.5, 0.1):
        set_rates(optimizer, share)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([peak * share for peak in peaks])
