"""Tiny checkpoints of all families: the files of the hub, made anew the same, usable at once."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from data_prep.errors import InputError
from models.backbones.families import FAMILIES
from models.backbones.tiny_checkpoints import make_tiny, sample_phrases
from small_models import load

FILES = {
    "AlbertTokenizer": {"spiece.model"},
    "BertTokenizer": {"vocab.txt"},
    "CocolmTokenizer": {"sp.model", "dict.txt"},
    "DebertaTokenizer": {"vocab.json", "merges.txt"},
    "DebertaV2Tokenizer": {"spm.model"},
    "FunnelTokenizer": {"vocab.txt"},
    "LukeTokenizer": {"vocab.json", "merges.txt", "entity_vocab.json"},
    "MPNetTokenizer": {"vocab.txt"},
    "RobertaTokenizer": {"vocab.json", "merges.txt"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of checkpoints, as `--backbones` takes it, with all families."""
    folder = tmp_path_factory.mktemp("all")
    made = make_tiny("all", folder)
    assert len(made) == len(FAMILIES) - 1, "MiniLM comes through the package index"
    return folder


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - {"minilm-l6"}))
def test_every_family_loads_by_hub_name_trains_and_predicts(name, folder):
    family = FAMILIES[name]
    backbone = load(family.hub, folder=str(folder), freeze_embeddings=True)
    assert backbone.hidden_size == 32
    assert type(backbone.tokenizer).__name__ == family.tokenizer
    head = nn.Linear(32, 1)
    encoded = backbone.tokenizer(["abrasive grain", "a valve of steel"], padding=True, return_tensors="pt")
    ids, mask = encoded["input_ids"], encoded["attention_mask"]
    before = head(backbone.model.eval()(ids, mask)[-1].mean(dim=1))
    optimizer = torch.optim.AdamW([*backbone.model.parameters(), *head.parameters()], lr=1e-3)
    before.square().sum().backward()
    optimizer.step()
    with torch.inference_mode():
        after = head(backbone.model(ids, mask)[-1].mean(dim=1))
    assert after.isfinite().all()
    assert not torch.equal(after, before)


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - {"minilm-l6"}))
def test_files_and_settings_are_those_of_the_hub(name, folder):
    family = FAMILIES[name]
    weights = {"pytorch_model.bin" if family.model_type == "cocolm" else "model.safetensors"}
    found = {path.name for path in (folder / family.hub).iterdir()}
    assert found == {"config.json", "tokenizer_config.json"} | weights | FILES[family.tokenizer]
    config = json.loads((folder / family.hub / "config.json").read_text())
    assert config["model_type"] == family.model_type
    resized = {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"}
    resized |= {"d_model", "n_head", "d_inner", "block_sizes", "encoder_layers", "decoder_layers", "embedding_size"}
    resized |= {"attention_head_size"}
    for key in set(family.sizes) - resized:
        assert config[key] == family.sizes[key], key


@pytest.mark.parametrize("name", ["deberta-v3-base", "roberta-base", "bert-for-patents", "cocolm-base", "funnel-large"])
def test_the_same_seed_makes_the_same_bytes(name, tmp_path):
    torch.manual_seed(8)
    drawn = torch.rand(3)
    torch.manual_seed(8)
    for number in (1, 2):
        make_tiny(name, tmp_path / str(number))
    torch.testing.assert_close(torch.rand(3), drawn, rtol=0, atol=0)
    first, second = ({path.name: path.read_bytes() for path in (tmp_path / n).iterdir()} for n in ("1", "2"))
    assert first == second


def test_another_seed_makes_other_weights(tmp_path):
    for seed in (0, 1):
        make_tiny("roberta-base", tmp_path / str(seed), seed=seed)
    first, second = (load_file(tmp_path / n / "model.safetensors") for n in ("0", "1"))
    key = "encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(first[key], second[key])


def test_tokenizers_learn_from_the_texts_given(tmp_path):
    make_tiny("bert-for-patents", tmp_path, texts=["zyxwv zyxwv"] * 5)
    tokenizer = load(str(tmp_path)).tokenizer
    assert len(tokenizer("zyxwv")["input_ids"]) == 3
    assert len(tokenizer("abrasive")["input_ids"]) > 4


def test_families_go_by_hub_name_too(tmp_path):
    assert make_tiny("AI-Growth-Lab/PatentSBERTa", tmp_path) == [tmp_path]
    assert load(str(tmp_path)).model.config.model_type == "mpnet"


def test_unknown_families_and_full_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"--family 'gpt'.*known: minilm-l6, bert-for-patents, .*, all"):
        make_tiny("gpt", tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="there are files already"):
        make_tiny("roberta-base", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_the_sample_has_phrases():
    phrases = sample_phrases()
    assert len(phrases) > 1_000
    assert phrases == sorted(set(phrases))
    assert np.mean([len(phrase.split()) for phrase in phrases]) > 1
