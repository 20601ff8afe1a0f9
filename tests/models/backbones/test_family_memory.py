"""The table of families: sizes against published counts, memory against the formula, the document against both."""

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel

from models.backbones.checkpoint_files import bare_encoder, trim
from models.backbones.families import FAMILIES
from models.backbones.family_memory import GIB, count_parameters, gpu_share, table, training_memory
from models.backbones.tiny_checkpoints import make_tiny
from small_models import load

DOCUMENT = Path(__file__).parents[3] / "docs" / "backbones.md"
PUBLISHED = {
    "minilm-l6": 22.7e6,
    "bert-for-patents": 344e6,
    "deberta-v3-large": 434e6,
    "deberta-v3-base": 184e6,
    "deberta-v3-small": 142e6,
    "deberta-v2-xlarge": 900e6,
    "deberta-large": 405e6,
    "roberta-base": 125e6,
    "roberta-large": 355e6,
    "patentsberta": 109e6,
    "funnel-xlarge": 468e6,
    "funnel-large": 386e6,
    "electra-large-discriminator": 335e6,
    "albert-xxlarge-v2": 223e6 - 4096**2,
    "bart-large": 406e6,
}
"""Parameters as their authors or their hub pages give them; ALBERT's include the pooler."""
ISSUE = {
    "anferico/bert-for-patents",
    "microsoft/deberta-v3-large",
    "microsoft/deberta-v3-base",
    "microsoft/deberta-v3-small",
    "microsoft/deberta-v2-xlarge",
    "microsoft/deberta-large",
    "roberta-base",
    "roberta-large",
    "facebook/muppet-roberta-large",
    "microsoft/cocolm-large",
    "microsoft/cocolm-base",
    "AI-Growth-Lab/PatentSBERTa",
    "AI-Growth-Lab/PatentSBERTa_V2",
    "funnel-transformer/xlarge",
    "funnel-transformer/large",
    "nghuyong/ernie-2.0-large-en",
    "albert-xxlarge-v2",
    "google/electra-large-discriminator",
    "studio-ousia/luke-large",
    "facebook/bart-large",
}


def test_every_backbone_of_the_memo_and_of_the_winners_is_a_family():
    assert {family.hub for family in FAMILIES.values()} >= ISSUE
    assert len({family.hub for family in FAMILIES.values()}) == len(FAMILIES)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_as_many_as_published(name):
    assert count_parameters(name) == pytest.approx(PUBLISHED[name], rel=0.02)


@pytest.mark.parametrize("name", ["bert-for-patents", "luke-large", "funnel-large", "cocolm-base"])
def test_the_model_counted_is_the_model_that_trains(name, tmp_path):
    make_tiny(name, tmp_path)
    trained = load(str(tmp_path)).model.model
    with torch.device("meta"):
        counted = bare_encoder(AutoModel.from_config(trim(AutoConfig.from_pretrained(tmp_path))))
    assert {key: value.shape for key, value in counted.named_parameters()} == {
        key: value.shape for key, value in trained.named_parameters()
    }


def test_memory_of_bert_large_by_hand():
    parameters = count_parameters("bert-for-patents")
    layer = 128 * (22 * 1024 + 4 * 4096 + 7 * 16 * 128)
    assert training_memory("bert-for-patents") == 18 * parameters + 16 * 24 * layer + 2**30
    short = training_memory("bert-for-patents", batch=8, tokens=32)
    assert short == 18 * parameters + 8 * 24 * 32 * (22 * 1024 + 4 * 4096 + 7 * 16 * 32) + 2**30


def test_memory_counts_each_layer_at_the_length_it_sees():
    def activations(name):
        return training_memory(name, batch=1, tokens=64) - 18 * count_parameters(name) - 2**30

    def layer(tokens, attentions=1):
        return tokens * (attentions * (15 * 1024 + 7 * 16 * tokens) + 7 * 1024 + 4 * 4096)

    assert activations("funnel-large") == 10 * layer(64) + 8 * layer(32) + 8 * layer(16)
    assert activations("bart-large") == 12 * layer(64) + 12 * layer(64, attentions=2)
    wide = 64 * (22 * 4096 + 4 * 16384 + 7 * 64 * 64)
    assert activations("albert-xxlarge-v2") == 12 * wide


@pytest.mark.parametrize(
    ("gigabytes", "share"), [(5.9, "1/4"), (6.1, "1/3"), (8.1, "1/2"), (12.1, "1"), (24.0, "1"), (24.1, "more")]
)
def test_the_share_is_the_least_that_holds_it(gigabytes, share):
    assert gpu_share(gigabytes * GIB) == share


def test_the_document_holds_the_table_that_the_code_gives():
    found = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert found[: len(FAMILIES) + 1] == [line for line in table().splitlines() if line.startswith("| ")]
    assert table().count("\n") == len(FAMILIES) + 1
