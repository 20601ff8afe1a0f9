import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel

from data_prep.errors import InputError
from models.parts.fresh_layers import reinitialize_layers
from small_models import load

FAMILIES = ["bert-for-patents", "deberta-large", "deberta-v2-xlarge", "patentsberta", "funnel-large", "bart-large"]
FAMILIES += ["cocolm-base", "electra-large-discriminator", "luke-large"]


@pytest.mark.parametrize("family", FAMILIES)
def test_fresh_layers_are_as_in_a_model_of_the_family_that_was_never_trained(family, tiny):
    backbone = load(tiny(family))
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
        backbone = load(tiny_bert)
        torch.manual_seed(seed)
        reinitialize_layers(backbone, 1)
        return torch.cat([value.flatten() for value in backbone.layers[-1].parameters()])

    assert torch.equal(fresh(1), fresh(1))
    assert not torch.equal(fresh(1), fresh(2))


def test_no_fresh_layers_changes_nothing(tiny_bert):
    backbone = load(tiny_bert)
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    state = torch.get_rng_state()
    reinitialize_layers(backbone, 0)
    assert all(torch.equal(value, before[name]) for name, value in backbone.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_more_layers_than_there_are_and_frozen_ones_are_refused(tiny_bert):
    with pytest.raises(InputError, match="reinit_layers=3: the backbone has only 2 layers"):
        reinitialize_layers(load(tiny_bert), 3)
    with pytest.raises(InputError, match="reaches down to layers that freeze_layers keeps"):
        reinitialize_layers(load(tiny_bert, freeze_layers=1), 2)


def test_the_one_layer_of_albert_is_not_made_fresh(tiny):
    with pytest.raises(InputError, match="applies one layer 2 times, so nothing pretrained would be left"):
        reinitialize_layers(load(tiny("albert-xxlarge-v2")), 1)
