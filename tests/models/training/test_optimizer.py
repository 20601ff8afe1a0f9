import pytest
import torch
from torch import nn
from transformers import T5Config, T5EncoderModel, get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from models.backbones.families import FAMILIES
from models.candidate import Candidate
from models.parts.heads import HEADS, HeadSettings
from models.training.optimizer import new_optimizer, parameter_groups, rate_share, undecayed_parameters
from small_models import load

RATES = {"backbone_lr": 1e-4, "head_lr": 1e-3, "layer_decay": 0.5, "weight_decay": 0.1}


@pytest.fixture
def backbone(tiny_bert):
    return load(tiny_bert)


@pytest.fixture
def head():
    return HEADS["attention"](HeadSettings(hidden_size=32, n_states=3))


def groups_of(backbone, head, **changed):
    return parameter_groups(backbone.model, backbone.layers, head, Candidate(**{**RATES, **changed}))


def test_every_parameter_is_in_one_group_and_learns_where_its_rate_says_so(backbone, head):
    backbone.layers[0].requires_grad_(False)
    groups = groups_of(backbone, head)
    grouped = [parameter for group in groups for parameter in group.parameters]
    every = [parameter for module in (backbone.model, head) for parameter in module.parameters()]
    assert len(every) > 30
    assert len(grouped) == len(every)
    assert set(grouped) == set(every)
    for group in groups:
        assert {parameter.requires_grad for parameter in group.parameters} == {group.rate > 0}


def test_a_rate_of_0_keeps_the_head_from_the_optimiser(backbone, head):
    groups = groups_of(backbone, head, head_lr=0.0)
    optimised = {id(value) for group in new_optimizer(groups, beta2=0.9).param_groups for value in group["params"]}
    assert optimised == {id(value) for value in backbone.model.parameters()}
    assert sum(len(group.parameters) for group in groups if group.name == "head, frozen") == len([*head.parameters()])


LINEAR = {"Linear.bias"}
NORM = {"LayerNorm.weight", "LayerNorm.bias"}
UNDECAYED = {
    "bert-for-patents": LINEAR | NORM,
    "deberta-v3-small": LINEAR | NORM,
    "deberta-v2-xlarge": LINEAR | NORM | {"Conv1d.bias"},
    "deberta-large": LINEAR
    | {"DebertaLayerNorm.weight", "DebertaLayerNorm.bias"}
    | {"DisentangledSelfAttention.q_bias", "DisentangledSelfAttention.v_bias"},
    "roberta-base": LINEAR | NORM,
    "cocolm-base": LINEAR | NORM,
    "patentsberta": LINEAR | NORM,
    "funnel-large": LINEAR | NORM | {f"FunnelRelMultiheadAttention.r_{kind}_bias" for kind in "rsw"},
    "ernie-2.0-large-en": LINEAR | NORM,
    "albert-xxlarge-v2": LINEAR | NORM,
    "electra-large-discriminator": LINEAR | NORM,
    "luke-large": LINEAR | NORM,
    "bart-large": LINEAR | NORM,
}


def split_by_decay(model):
    """Return type and name of every parameter, those without decay and those with it."""
    spared = undecayed_parameters(model)
    names = {True: set(), False: set()}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            names[parameter in spared].add(f"{type(module).__name__}.{name}")
    return names[True], names[False]


@pytest.mark.parametrize("family", UNDECAYED)
def test_biases_and_norms_are_spared_by_decay_in_every_family(family, tiny):
    undecayed, decayed = split_by_decay(load(tiny(family)).model)
    assert undecayed == UNDECAYED[family]
    assert {"Linear.weight"} < decayed
    assert not decayed & undecayed


def test_every_architecture_is_in_the_list():
    assert {FAMILIES[name].model_type for name in UNDECAYED} == {family.model_type for family in FAMILIES.values()}


def test_rms_norms_are_spared_and_embeddings_are_decayed():
    undecayed, decayed = split_by_decay(T5EncoderModel(T5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)))
    assert undecayed == {"T5LayerNorm.weight"}
    assert decayed == {"Linear.weight", "Embedding.weight"}


def test_a_norm_over_two_dimensions_is_spared():
    assert split_by_decay(nn.LayerNorm((3, 4))) == ({"LayerNorm.weight", "LayerNorm.bias"}, set())


@pytest.mark.parametrize("name", HEADS)
def test_in_every_head_vectors_are_spared(name):
    head = HEADS[name](HeadSettings(hidden_size=32, n_states=3))
    spared = undecayed_parameters(head)
    assert spared == {parameter for parameter in head.parameters() if parameter.ndim < 2}


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
    groups = parameter_groups(model, list(model), head, Candidate(**RATES))
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
