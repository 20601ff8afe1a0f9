import errno

import numpy as np
import pytest
import safetensors
import torch

from data_prep.errors import InputError
from data_prep.store.weight_folders import WEIGHTS_FILE, weights_folder
from models.backbones.locate_backbone import locate_backbone
from models.candidate import Candidate
from models.text.fold_pools import load_fold_pools
from models.training.fold_weights import load_scorer, load_weights, save_weights
from models.training.learner import Learner
from small_models import train as train_fold

SETTINGS = {"max_length": 48, "batch_size": 32, "backbone_lr": 3e-3}
CANDIDATES = {
    "plain": {},
    "average": {"ema": 0.8},
    "best": {"keep": "best", "epochs": 3, "backbone_lr": 3e-2},
    "orders": {"recipe": "grouped", "prediction_shuffles": 3, "seed": 7},
    "packed": {"recipe": "packed", "loss": "pearson"},
    "new token": {"separator": "[s]", "head": "attention", "loss": "cross_entropy"},
    "bf16": {"precision": "bf16"},
}


@pytest.fixture
def train(tiny_bert, prepared_tiny, tmp_path):
    def run(settings, **options):
        candidate = Candidate(backbone=tiny_bert, **{**SETTINGS, **settings})
        return train_fold(
            candidate, prepared_tiny, 1, rungs=(0.5,), cache=tmp_path / "cache", keep_weights=True, **options
        )

    return run


def predict(weights, data, tmp_path, **options):
    """Return the predictions of loaded weights for the test rows."""
    candidate = weights.candidate
    backbone = locate_backbone(candidate.backbone)
    pools = load_fold_pools(data, 1, candidate=candidate, tokenizer=backbone.tokenizer, cache=tmp_path)
    return load_scorer(weights, data.task, backbone=backbone, **options).predict_pool(pools.test)


@pytest.mark.parametrize("name", CANDIDATES)
def test_loaded_weights_predict_bit_for_bit(name, train, prepared_tiny, tmp_path):
    found = train(CANDIDATES[name])
    save_weights(found.weights, tmp_path / "weights")
    expected = found.test["prediction"].to_numpy()
    torch.manual_seed(99)
    weights = load_weights(tmp_path / "weights")
    assert np.array_equal(predict(weights, prepared_tiny, tmp_path), expected)
    assert len(np.unique(expected)) > 10
    others = np.array([token for token in range(100) if token not in weights.token_ids][:5])
    assert np.array_equal(predict(weights, prepared_tiny, tmp_path, vocabulary=others), expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "pearson", "ema": 0.8},
        {"loss": "ranking", "head": "cnn"},
        {"loss": "pearson", "keep": "best", "epochs": 2},
    ],
    ids=str,
)
def test_what_a_loss_does_not_see_does_not_learn_and_is_anchored_in_the_end(
    settings, train, prepared_tiny, tmp_path, monkeypatch
):
    whole, biases = Learner.step, []

    def step(self, *arguments, **options):
        biases.append(self.scorer.head.last_layers[0].bias.item())
        whole(self, *arguments, **options)

    monkeypatch.setattr(Learner, "step", step)
    found = train(settings)
    assert len(biases) > 3
    assert len(set(biases)) == 1
    backbone = locate_backbone(found.candidate.backbone)
    pools = load_fold_pools(
        prepared_tiny, 1, candidate=found.candidate, tokenizer=backbone.tokenizer, cache=tmp_path / "cache"
    )
    learner = load_scorer(found.weights, prepared_tiny.task, backbone=backbone)
    prediction, targets = learner.predict_pool(pools.train), pools.train.targets
    assert prediction.mean() == pytest.approx(targets.mean(), abs=1e-4)
    assert prediction.std() == pytest.approx(targets.std(), abs=1e-4)
    assert np.array_equal(learner.predict_pool(pools.validation), found.oof["prediction"].to_numpy())


def test_the_file_says_what_it_is_and_holds_nothing_but_the_weights_that_predict(train, tmp_path, prepared_tiny):
    found = train({"ema": 0.8}, micro_batches=2)
    folder = weights_folder(str(tmp_path), "0123456789ab", 1)
    save_weights(found.weights, folder)
    with safetensors.safe_open(f"{folder}/{WEIGHTS_FILE}", "pt") as file:
        metadata, names = file.metadata(), set(file.keys())
    assert names == {*found.weights.tensors, "token_ids"}
    assert metadata["candidate"] == found.candidate.id
    assert metadata["split_hash"] == prepared_tiny.manifest.split_hash
    assert metadata["data_hash"] == prepared_tiny.manifest.data_hash
    assert (metadata["fold"], metadata["micro_batches"]) == ("1", "2")
    assert metadata["version"]
    loaded = load_weights(folder)
    assert loaded.candidate == found.candidate
    assert loaded.provenance == found.provenance
    size = (tmp_path / "weights" / "0123456789ab" / "fold-1" / WEIGHTS_FILE).stat().st_size
    assert size <= found.weights.n_bytes


def test_weights_are_returned_only_where_asked_for(tiny_bert, prepared_tiny, tmp_path):
    candidate = Candidate(backbone=tiny_bert, **SETTINGS)
    assert train_fold(candidate, prepared_tiny, 1, cache=tmp_path).weights is None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:40], r"not a whole file of weights"),
        (lambda content: content[:-5], r"not a whole file of weights"),
        (lambda content: content[:-5] + bytes([content[-5] ^ 1]) + content[-4:], r"does not match its checksum"),
    ],
)
def test_damage_is_named(damage, message, train, tmp_path):
    save_weights(train({}).weights, tmp_path)
    path = tmp_path / WEIGHTS_FILE
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=message):
        load_weights(tmp_path)


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(InputError, match=r"model\.safetensors: no such file"):
        load_weights(tmp_path / "absent")


def test_a_file_is_replaced_whole(train, tmp_path, monkeypatch):
    weights = train({}).weights
    save_weights(weights, tmp_path)
    before = (tmp_path / WEIGHTS_FILE).read_bytes()

    def fill_the_disk(*_):
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fill_the_disk)
        with pytest.raises(OSError, match="full"):
            save_weights(weights, tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [WEIGHTS_FILE]
    assert (tmp_path / WEIGHTS_FILE).read_bytes() == before
