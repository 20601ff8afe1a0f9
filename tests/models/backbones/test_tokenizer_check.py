"""Tokenizers whose files are missing, cut or of another checkpoint: refused, with the files to get again."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoModel

from data_prep.errors import InputError
from models.backbones.locate_backbone import locate_backbone
from models.backbones.tokenizer_check import check_tokenizer
from small_models import load

WORDPIECE, BYTE_PAIRS = (r"vocab\.txt", r"vocab\.json and merges\.txt")
FILES = {
    "minilm-l6": WORDPIECE,
    "electra-large-discriminator": WORDPIECE,
    "funnel-large": WORDPIECE,
    "ernie-2.0-large-en": WORDPIECE,
    "patentsberta": WORDPIECE,
    "albert-xxlarge-v2": r"spiece\.model",
    "deberta-v2-xlarge": r"spm\.model",
    "deberta-v3-large": r"spm\.model",
    "deberta-large": BYTE_PAIRS,
    "roberta-base": BYTE_PAIRS,
    "bart-large": BYTE_PAIRS,
    "luke-large": BYTE_PAIRS,
}
HTML = b"<html>\n<body>\n404\n</body>\n</html>\n"


@pytest.fixture
def copied(tiny, tmp_path):
    """Return a function from a family's name to a copy of its tiny checkpoint, free to be spoiled."""
    return lambda name: Path(shutil.copytree(tiny(name), tmp_path / name))


@pytest.mark.parametrize("name", FILES)
def test_a_download_of_json_and_safetensors_alone_is_refused(name, copied):
    folder = copied(name)
    locate_backbone(str(folder)).tokenizer  # noqa: B018 - as it was, it loads
    for path in folder.iterdir():
        if path.suffix not in {".json", ".safetensors"}:
            path.unlink()
    with pytest.raises(InputError, match=rf"come from {FILES[name]} or from tokenizer\.json, and .* has (none|vocab)"):
        locate_backbone(str(folder)).tokenizer  # noqa: B018
    for path in folder.glob("*vocab.json"):
        path.unlink()
    with pytest.raises(InputError, match=rf"come from {FILES[name]} or from tokenizer\.json, and .* has none of them"):
        locate_backbone(str(folder)).tokenizer  # noqa: B018


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("minilm-l6", "vocab.txt", b"", "makes 5 different tokens, .*vocab_size=600"),
        ("minilm-l6", "vocab.txt", HTML, "vocab_size=600"),
        ("minilm-l6", "vocab.txt", 0.4, "vocab_size=600"),
        ("minilm-l6", "vocab.txt", b"\xff\xfe", "cannot be loaded"),
        ("minilm-l6", "tokenizer.json", b"{}", "cannot be loaded"),
        ("minilm-l6", "tokenizer_config.json", b"[1]", "cannot be loaded"),
        ("minilm-l6", "config.json", b"[1]", "cannot be loaded"),
        ("deberta-v3-large", "spm.model", b"", "cannot be loaded"),
        ("deberta-v3-large", "spm.model", 0.5, "cannot be loaded"),
        ("roberta-base", "merges.txt", b"#version: 0.2\n", "makes 256 different tokens, .*vocab_size=601"),
        ("roberta-base", "merges.txt", 0.3, "come from vocab.json and merges.txt"),
        ("roberta-base", "vocab.json", b"{}", "cannot be loaded"),
        ("cocolm-base", "dict.txt", b"", "makes 5 different tokens"),
    ],
)
def test_damaged_files_are_refused(name, file, content, message, copied):
    path = copied(name) / file
    if isinstance(content, float):
        content = path.read_bytes()[: int(content * path.stat().st_size)]
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        locate_backbone(str(path.parent)).tokenizer  # noqa: B018


@pytest.mark.parametrize("name", ["deberta-v3-large", "luke-large"])
def test_a_tokenizer_that_puts_nothing_around_a_text_is_refused(name, tiny):
    files = locate_backbone(tiny(name))
    tokenizer = files.tokenizer
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    with pytest.raises(InputError, match=r"puts neither (\[CLS\]|<s>) nor (\[SEP\]|</s>) around a text"):
        check_tokenizer(tokenizer, files.config(), name=name, place=files.place)


@pytest.mark.parametrize("vocabulary", [None, np.arange(5, 200), np.arange(5, 601)])
def test_a_tokenizer_longer_than_the_embedding_is_refused(vocabulary, copied):
    folder = copied("roberta-base")
    AutoModel.from_config(AutoConfig.from_pretrained(folder, vocab_size=300)).save_pretrained(folder)
    with pytest.raises(InputError, match="its RobertaTokenizer needs 601 embeddings, its weights have 300"):
        load(str(folder), vocabulary=vocabulary)


def test_tokens_that_a_tokenizer_adds_count_where_texts_have_them(tiny):
    load(tiny("luke-large"), vocabulary=np.arange(5, 603))
    load(tiny("luke-large"), vocabulary=np.array([5, 607, 608]))  # 607: the first of tokens that a layout adds
    with pytest.raises(InputError, match="needs 604 embeddings, its weights have 603"):
        load(tiny("luke-large"), vocabulary=np.array([5, 603]))
