"""What a candidate is estimated to take, beside what it takes: bytes of tensors, operations counted by torch."""

import numpy as np
import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from data_prep.errors import InputError
from data_prep.task import PPPM
from models.backbones.families import FAMILIES
from models.backbones.family_memory import GIB, count_parameters, released_config, training_memory
from models.candidate import Candidate
from models.cost.memory_and_flops import backbone_config, forward_operations, model_size, peak_memory, step_passes
from models.text.batches import Batch
from small_models import learner_of

TEXTS, TOKENS = 8, 40


def a_batch(highest: int, texts: int = TEXTS, tokens: int = TOKENS) -> Batch:
    ids = torch.randint(5, highest, (texts, tokens), generator=torch.Generator().manual_seed(1))
    return Batch(ids, torch.ones_like(ids), np.arange(texts), torch.rand(texts))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"layers": 1, "head": "lstm"},
        {"freeze_embeddings": True},
        {"freeze_layers": 1},
        {"head_lr": 0.0},
        {"ema": 0.9},
    ],
    ids=lambda settings: "-".join(settings) or "plain",
)
def test_weights_gradients_and_moments_are_what_a_step_leaves(settings, tiny_bert):
    candidate = Candidate(backbone=tiny_bert, precision="fp32", **settings)
    whole = backbone_config(tiny_bert).vocab_size
    learner = learner_of(candidate, whole)
    learner.gradients.compute(a_batch(whole), 0.0)
    gradients = sum(p.grad.nbytes for p in learner.scorer.parameters() if p.grad is not None)
    learner.step(a_batch(whole), 1.0)
    held = [p for state in learner.optimizer.state.values() for p in state.values() if p.ndim]

    size = model_size(candidate, PPPM)
    memory = peak_memory(candidate, size, training=(TEXTS, TOKENS), precision="fp32")
    assert memory.weights == sum(p.nbytes for p in learner.scorer.parameters())
    assert memory.gradients == gradients
    assert memory.optimizer == sum(p.nbytes for p in held)
    assert memory.copies == (4 * size.trained if "ema" in settings else 0)


@pytest.mark.parametrize("separate", [False, True])
def test_heads_of_several_targets_are_counted(tiny_bert, separate):
    task = PPPM.model_copy(update={"score_columns": ("a", "b", "c")})
    candidate = Candidate(backbone=tiny_bert, head="lstm", loss="ordinal", separate_heads=separate)
    learner = learner_of(candidate, backbone_config(tiny_bert).vocab_size, task=task)
    assert model_size(candidate, task).parameters == sum(p.numel() for p in learner.scorer.parameters())
    assert len(learner.scorer.head.last_layers) == (3 if separate else 1)


def kept_for_the_way_back(learner, batch: Batch) -> int:
    """Return the bytes of all that a forward pass keeps, weights apart, each storage once."""
    storages, weights = {}, {p.untyped_storage().data_ptr() for p in learner.scorer.parameters()}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes(), tensor  # the tensor stays, so that no address comes twice
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        learner.gradients.outputs(batch)
    return sum(size for size, _ in storages.values())


@pytest.mark.parametrize(("tokens", "layers"), [(32, 2), (128, 1)])
def test_activations_of_bert_in_fp32_are_those_that_a_forward_pass_keeps(tokens, layers):
    """Without dropout: its masks are counted as a GPU keeps them, a byte for each, and a CPU keeps them as numbers."""
    candidate = Candidate(backbone="minilm-l6", layers=layers, precision="fp32", dropout=0.0)
    learner = learner_of(candidate, 2000)
    kept = kept_for_the_way_back(learner, a_batch(2000, 16, tokens))
    size = model_size(candidate, PPPM)
    estimated = peak_memory(candidate, size, training=(16, tokens), precision="fp32").activations
    assert 1 < estimated / kept < 1.25


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("minilm-l6", 0.97),
        ("roberta-base", 0.97),
        ("albert-xxlarge-v2", 0.9),
        ("deberta-v3-base", 0.9),
        ("funnel-large", 0.7),
    ],
)
def test_operations_are_those_that_torch_counts(name, least, tiny):
    """Those of Funnel's relative positions are left out."""
    folder = str(tiny(name))
    candidate = Candidate(backbone=folder, precision="fp32", dropout=0.0)
    learner = learner_of(candidate, 100)
    batch = a_batch(100)
    with FlopCounterMode(display=False) as forward:
        learner.gradients.outputs(batch)
    with FlopCounterMode(display=False) as both:
        learner.gradients.add(batch)
    estimated = forward_operations(model_size(candidate, PPPM), texts=TEXTS, tokens=TOKENS)
    assert least < estimated / forward.get_total_flops() < 1.05
    assert least < estimated * step_passes(candidate) / both.get_total_flops() < 1.1


def test_a_family_by_its_hub_name_has_the_memory_of_the_table():
    candidate = Candidate(backbone="anferico/bert-for-patents", precision="bf16")
    size = model_size(candidate, PPPM)
    found = peak_memory(candidate, size, training=(16, 128), precision="bf16")
    head = size.parameters - count_parameters("bert-for-patents")
    assert found.total == training_memory("bert-for-patents") + 18 * head
    assert found.process == GIB


def test_smaller_parts_and_checkpointing_need_less_and_ema_more():
    def total(**settings):
        candidate = Candidate(backbone="roberta-large", **settings)
        return peak_memory(candidate, model_size(candidate, PPPM), training=(32, 128), precision="bf16").total

    assert total(accumulation=4) < total()
    assert total(checkpointing=True) < total(accumulation=4)
    assert total(ema=0.999) > total(adversary="awp") > total()


def test_passes_of_a_step():
    assert step_passes(Candidate()) == 3
    assert step_passes(Candidate(checkpointing=True)) == 4
    assert step_passes(Candidate(adversary="fgm", epochs=4, adversary_start=1)) == 3 * 1.75


def test_every_family_has_a_config_and_strangers_are_asked_for_theirs(tmp_path):
    assert all(released_config(family.hub) is not None for family in FAMILIES.values())
    with pytest.raises(InputError, match=r"only its config\.json is needed"):
        backbone_config("nobody/nothing", folder=str(tmp_path))
