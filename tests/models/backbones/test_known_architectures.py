"""Old versions of transformers are refused by name, and COCO-LM is imported only where a checkpoint asks for it."""

import subprocess
import sys

import pytest

from data_prep.errors import InputError
from models.backbones import known_architectures
from models.backbones.locate_backbone import locate_backbone

PROGRAM = """
import sys
from models.backbones.locate_backbone import locate_backbone
locate_backbone(sys.argv[1]).tokenizer
print("models.backbones.cocolm" in sys.modules)
"""


@pytest.mark.parametrize(
    ("found", "model_type", "refused"),
    [
        ("4.57.6", "bert", "blendfold needs transformers 5.0 or newer, found 4.57.6: pip install 'transformers>=5.0'"),
        ("5.0.0", "bert", None),
        ("5.3.0", "cocolm", "COCO-LM needs transformers 5.4 or newer, found 5.3.0: pip install 'transformers>=5.4'"),
        ("5.10.1", "roberta", None),
        ("6.0.0.dev0", None, None),
    ],
)
def test_a_version_that_is_too_old_is_refused_in_one_sentence(monkeypatch, found, model_type, refused):
    monkeypatch.setattr(known_architectures.transformers, "__version__", found)
    if refused is None:
        known_architectures.require_architecture(model_type)
        return
    with pytest.raises(InputError) as error:
        known_architectures.require_architecture(model_type)
    assert str(error.value) == refused


def test_a_checkpoint_of_cocolm_says_what_it_needs(monkeypatch, tiny):
    folder = str(tiny("cocolm-base"))
    monkeypatch.setattr(known_architectures.transformers, "__version__", "5.0.0")
    with pytest.raises(InputError, match=r"COCO-LM needs transformers 5\.4"):
        locate_backbone(folder).config()


def test_other_checkpoints_load_without_cocolm(tiny):
    for name, loaded in (("minilm-l6", "False"), ("cocolm-base", "True")):
        done = subprocess.run([sys.executable, "-c", PROGRAM, tiny(name)], capture_output=True, text=True, check=True)
        assert done.stdout.split() == [loaded]
