"""What is kept of a backbone predicts as the backbone does, with the fold run's weights."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from data_prep.errors import InputError
from data_prep.store.sealed_records import read_record
from data_prep.store.weight_folders import EMBEDDING_FILE, LISTING_FILE
from models.backbones.families import FAMILIES, SHIPPED
from models.backbones.kept_backbone import collect_kept_backbone, kept_backbone, write_kept_backbone
from models.backbones.locate_backbone import locate_backbone
from models.candidate import Candidate
from models.text.fold_pools import load_fold_pools, load_pool
from models.training.fold_weights import load_scorer, load_weights, save_weights
from small_models import train

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
        write_kept_backbone(collect_kept_backbone(locate_backbone(backbone)), folder)
        return str(folder)

    return make


def new_table():
    """Return rows whose words the fold run never saw."""
    texts = {"anchor": ["hydrogen storage", "quartz"], "target": ["zinc alloy", "jet 9"], "context": ["A61", "F16"]}
    return pa.table({"id": ["n1", "n2"], **texts, "context_text": ["medical science", "engineering elements"]})


@pytest.fixture
def check(prepared_tiny, kept_folder, tmp_path):
    """Return what trains a fold run and compares what checkpoint and kept backbone predict, on old and new rows."""

    def run(settings, backbone):
        data, candidate = prepared_tiny, Candidate(backbone=backbone, **{**SETTINGS, **settings})
        found = train(candidate, data, 1, cache=tmp_path / "cache", keep_weights=True)
        save_weights(found.weights, tmp_path / "weights")
        weights = load_weights(tmp_path / "weights")
        whole, kept = locate_backbone(backbone), kept_backbone(kept_folder(backbone))
        options = {"candidate": candidate, "cache": tmp_path / "cache"}
        pools = [
            (load_fold_pools(data, 1, tokenizer=files.tokenizer, **options).test, new)
            for files in (whole, kept)
            for new in [load_pool(new_table(), data, tokenizer=files.tokenizer, **options)]
        ]
        expected = []
        for pool, other in zip(*pools, strict=True):
            assert np.array_equal(pool.encode().ids, other.encode().ids)
            learner = load_scorer(weights, data.task, backbone=whole, vocabulary=pool.vocabulary)
            expected.append(learner.predict_pool(pool))
        assert np.array_equal(expected[0], found.test["prediction"].to_numpy())
        for pool, values in zip(pools[1], expected, strict=True):
            torch.manual_seed(99)
            learner = load_scorer(weights, data.task, backbone=kept, vocabulary=pool.vocabulary)
            assert np.array_equal(learner.predict_pool(pool), values)
        assert len(np.unique(expected[0])) > 10
        assert len(np.setdiff1d(pools[1][1].vocabulary, weights.token_ids)) > 3, "new rows ask for new tokens"

    return run


@pytest.mark.parametrize("family", FEW)
def test_a_kept_backbone_predicts_bit_for_bit(family, tiny, check):
    check({}, tiny(named(family)))


@pytest.mark.parametrize("name", CANDIDATES)
def test_a_kept_backbone_serves_every_kind_of_candidate(name, tiny_bert, check):
    check(CANDIDATES[name], tiny_bert)


@pytest.mark.parametrize("family", FAMILIES)
def test_config_and_tokenizer_of_every_family_come_back(family, tiny, kept_folder):
    name = SHIPPED if family == SHIPPED else tiny(family)
    folder = kept_folder(name)
    before, after = (files.config().to_dict() for files in (locate_backbone(name), kept_backbone(folder)))
    passing = {"_name_or_path", "dtype", "transformers_version", "architectures"}
    assert {k: v for k, v in before.items() if k not in passing} == {k: v for k, v in after.items() if k not in passing}
    tokenizers = [files.tokenizer for files in (locate_backbone(name), kept_backbone(folder))]
    for text in ("valve pump", "Ångström, don't [SEP] x", "  two  spaces", "日本 ½"):
        first, second = (tokenizer(text, text)["input_ids"] for tokenizer in tokenizers)
        assert first == second
    listed = read_record(Path(folder) / LISTING_FILE, dict, remedy="")
    assert {*listed, LISTING_FILE} == {path.name for path in Path(folder).iterdir()}
    assert EMBEDDING_FILE in listed


def test_a_checkpoint_in_half_precision_leaves_half_the_bytes(tiny_bert, monkeypatch):
    whole = collect_kept_backbone(locate_backbone(tiny_bert))[EMBEDDING_FILE]
    monkeypatch.setattr(
        "models.backbones.kept_backbone.load_embedding", lambda *_, **__: torch.ones(10, 4).half().float()
    )
    assert len(collect_kept_backbone(locate_backbone(tiny_bert))[EMBEDDING_FILE]) - 80 <= 10 * 4 * 2
    assert len(whole) > 4 * 32 * 70


def test_a_tokenizer_that_does_not_come_back_is_named(tiny_bert, monkeypatch):
    monkeypatch.setattr("models.backbones.kept_backbone._behavior", lambda tokenizer: [id(tokenizer)])
    with pytest.raises(InputError, match=r"BertTokenizer.* gives other tokens when it is saved and loaded again"):
        collect_kept_backbone(locate_backbone(tiny_bert))


def test_a_kept_backbone_that_lost_its_table_is_named(tiny_bert, kept_folder, prepared_tiny, tmp_path):
    folder = kept_folder(tiny_bert)
    (Path(folder) / EMBEDDING_FILE).write_bytes(b"short")
    found = train(Candidate(backbone=tiny_bert), prepared_tiny, 1, cache=tmp_path, keep_weights=True)
    with pytest.raises(InputError, match=r"embedding\.safetensors: not the embeddings of the config beside it"):
        load_scorer(found.weights, prepared_tiny.task, backbone=kept_backbone(folder))
