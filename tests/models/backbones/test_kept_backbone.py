"""What is kept of a backbone predicts as the backbone does, with the fold run's weights."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from data_prep.errors import InputError
from data_prep.store.weight_folders import EMBEDDING_FILE, LISTING_FILE
from models.backbones.checkpoint_files import SHIPPED, load_config, load_tokenizer
from models.backbones.families import FAMILIES
from models.backbones.kept_backbone import collect_kept_backbone, write_kept_backbone
from models.candidate import Candidate
from models.text.row_pools import load_fold_pools, load_pool
from models.training.fold_weights import load_scorer, load_weights, save_weights
from models.training.predict_rows import predict_rows
from models.training.train_fold import train_fold

SETTINGS = {"max_length": 48, "batch_size": 32, "backbone_lr": 3e-3, "layers": 1}
FEW = ("bert-for-patents", "deberta-v3-base", "roberta-large", "funnel", "albert", "cocolm", "bart")
CANDIDATES = {
    "a literal becomes a token": {"separator": "[s]", "recipe": "marked", "layers": None},
    "fresh layers, mixout, an average": {"reinit_layers": 1, "mixout": 0.3, "ema": 0.8, "layers": None},
    "frozen": {"freeze_embeddings": True, "freeze_layers": 1, "head": "cls_last4", "layers": None},
}


def named(word: str) -> str:
    return next(name for name in FAMILIES if name.startswith(word))


@pytest.fixture
def kept_folder(tmp_path):
    def make(backbone):
        folder = tmp_path / "kept_folder"
        write_kept_backbone(collect_kept_backbone(backbone), folder)
        return str(folder)

    return make


def new_table():
    """Return rows whose words the fold run never saw."""
    texts = {"anchor": ["hydrogen storage", "quartz"], "target": ["zinc alloy", "jet 9"], "context": ["A61", "F16"]}
    return pa.table({"id": ["n1", "n2"], **texts, "context_text": ["medical science", "engineering elements"]})


@pytest.fixture
def check(prepared_tiny, kept_folder, tmp_path, monkeypatch):
    """Return what trains a fold run and compares what checkpoint and kept backbone predict, on old and new rows."""

    def run(settings, backbone):
        data, candidate = prepared_tiny, Candidate(backbone=backbone, **{**SETTINGS, **settings})
        found = train_fold(candidate, data, 1, cache=tmp_path / "cache", keep_weights=True)
        save_weights(found.weights, tmp_path / "weights")
        weights, kept = load_weights(tmp_path / "weights"), kept_folder(backbone)
        options = {"candidate": candidate, "cache": tmp_path / "cache"}
        pools = [
            (load_fold_pools(data, 1, tokenizer=load_tokenizer(folder), **options).test, new)
            for folder in (backbone, kept)
            for new in [load_pool(new_table(), data, tokenizer=load_tokenizer(folder), **options)]
        ]
        expected = []
        for pool, other in zip(*pools, strict=True):
            assert np.array_equal(pool.encode().ids, other.encode().ids)
            learner = load_scorer(weights, data.task, vocabulary=pool.vocabulary)
            expected.append(predict_rows(learner, pool, orders=1))
        assert np.array_equal(expected[0], found.test["prediction"].to_numpy())
        monkeypatch.setattr(
            "models.backbones.encoder.load_model", lambda *_, **__: pytest.fail("the checkpoint was read")
        )
        for pool, values in zip(pools[1], expected, strict=True):
            torch.manual_seed(99)
            learner = load_scorer(weights, data.task, vocabulary=pool.vocabulary, kept=kept)
            assert np.array_equal(predict_rows(learner, pool, orders=1), values)
        assert len(np.unique(expected[0])) > 10
        assert len(np.setdiff1d(pools[1][1].vocabulary, weights.token_ids)) > 3, "new rows ask for new tokens"

    return run


@pytest.mark.parametrize("family", FEW)
def test_a_remnant_predicts_bit_for_bit(family, tiny, check):
    check({}, tiny(named(family)))


@pytest.mark.parametrize("name", CANDIDATES)
def test_a_remnant_serves_every_kind_of_candidate(name, tiny_bert, check):
    check(CANDIDATES[name], tiny_bert)


@pytest.mark.parametrize("family", FAMILIES)
def test_config_and_tokenizer_of_every_family_come_back(family, tiny, kept_folder):
    name = SHIPPED if family == SHIPPED else tiny(family)
    folder = kept_folder(name)
    before, after = (load_config(place).to_dict() for place in (name, folder))
    passing = {"_name_or_path", "dtype", "transformers_version", "architectures"}
    assert {k: v for k, v in before.items() if k not in passing} == {k: v for k, v in after.items() if k not in passing}
    tokenizers = [load_tokenizer(place) for place in (name, folder)]
    for text in ("valve pump", "Ångström, don't [SEP] x", "  two  spaces", "日本 ½"):
        first, second = (tokenizer(text, text)["input_ids"] for tokenizer in tokenizers)
        assert first == second
    listed = json.loads((Path(folder) / LISTING_FILE).read_text())
    assert {*listed, LISTING_FILE} == {path.name for path in Path(folder).iterdir()}
    assert EMBEDDING_FILE in listed


def test_a_checkpoint_in_half_precision_leaves_half_the_bytes(tiny_bert, monkeypatch):
    whole = collect_kept_backbone(tiny_bert)[EMBEDDING_FILE]
    monkeypatch.setattr(
        "models.backbones.kept_backbone.load_embedding", lambda *_, **__: torch.ones(10, 4).half().float()
    )
    assert len(collect_kept_backbone(tiny_bert)[EMBEDDING_FILE]) - 80 <= 10 * 4 * 2
    assert len(whole) > 4 * 32 * 70


def test_a_tokenizer_that_does_not_come_back_is_named(tiny_bert, monkeypatch):
    monkeypatch.setattr("models.backbones.kept_backbone._behaviour", lambda tokenizer: [id(tokenizer)])
    with pytest.raises(InputError, match=r"BertTokenizer.* gives other tokens when it is saved and loaded again"):
        collect_kept_backbone(tiny_bert)


def test_a_remnant_that_lost_its_table_is_named(tiny_bert, kept_folder, prepared_tiny, tmp_path):
    folder = kept_folder(tiny_bert)
    (Path(folder) / EMBEDDING_FILE).write_bytes(b"short")
    found = train_fold(Candidate(backbone=tiny_bert), prepared_tiny, 1, cache=tmp_path, keep_weights=True)
    with pytest.raises(InputError, match=r"embedding\.safetensors: not the embeddings of the config beside it"):
        load_scorer(found.weights, prepared_tiny.task, kept=folder)
