import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sentencepiece import SentencePieceTrainer
from transformers import AutoTokenizer, ByT5Tokenizer

from data_prep.errors import InputError
from data_prep.store.node_cache import default_cache
from models.backbones.locate_backbone import locate_backbone
from models.text.token_cache import load_tokens

PHRASES = pa.array(["valve pump", "rotor", "", "co-axial filter, 3 coats"])


def ids_of(tokens):
    return [tokens.ids[start : start + n].tolist() for start, n in zip(tokens.starts, tokens.lengths, strict=True)]


@pytest.fixture
def tokenizer(tiny_bert):
    return AutoTokenizer.from_pretrained(tiny_bert)


@pytest.mark.parametrize("kind", ["wordpiece", "bytes"])
def test_phrases_have_the_tokenizers_own_tokens(kind, tokenizer, tmp_path):
    tokenizer = tokenizer if kind == "wordpiece" else ByT5Tokenizer()
    expected = [tokenizer(phrase, add_special_tokens=False)["input_ids"] for phrase in PHRASES.to_pylist()]
    for _ in range(2):
        assert ids_of(load_tokens(tokenizer, PHRASES, cache=tmp_path)) == expected
    assert len(list(tmp_path.glob("tokens-*"))) == 1


def test_finds_each_phrase_of_a_column(tokenizer, tmp_path):
    tokens = load_tokens(tokenizer, PHRASES, cache=tmp_path)
    assert tokens.find(pa.chunked_array([["rotor"], ["", "valve pump", "rotor"]])).tolist() == [1, 2, 0, 1]


@pytest.mark.parametrize(("ahead", "last"), [((), ()), ((7,), ()), ((7, 8, 9), (5,))])
def test_phrases_are_led_by_other_tokens(ahead, last, tokenizer, tmp_path):
    tokens = load_tokens(tokenizer, PHRASES, cache=tmp_path)
    led = tokens.led_by(ahead, last=last)
    expected = [*ids_of(tokens), list(last)]
    assert ids_of(led) == expected
    assert led.ids.tolist() == [token for phrase in expected for token in (*ahead, *phrase)]
    assert led.find(pa.chunked_array([["rotor"]])).tolist() == [1]


def test_a_cache_hit_tokenises_nothing(tokenizer, tmp_path):
    class Counting:
        calls = 0
        backend_tokenizer = tokenizer.backend_tokenizer

        def __call__(self, *args, **settings):
            self.calls += 1
            return tokenizer(*args, **settings)

    counting = Counting()
    first = load_tokens(counting, PHRASES, cache=tmp_path)
    again = load_tokens(counting, PHRASES, cache=tmp_path)
    assert counting.calls == 1
    np.testing.assert_array_equal(first.ids, again.ids)


def test_file_name_depends_on_phrases_and_tokenizer_but_not_on_padding(tokenizer, tmp_path):
    def names():
        return {path.name for path in tmp_path.glob("tokens-*")}

    load_tokens(tokenizer, PHRASES, cache=tmp_path)
    tokenizer(["valve", "rotor blade"], padding=True, truncation=True, max_length=4)
    load_tokens(tokenizer, PHRASES, cache=tmp_path)
    assert len(names()) == 1
    load_tokens(tokenizer, pa.array(["valve pumprotor", "", "co-axial filter, 3 coats"]), cache=tmp_path)
    assert len(names()) == 2
    tokenizer.add_tokens(["rotor"])
    load_tokens(tokenizer, PHRASES, cache=tmp_path)
    assert len(names()) == 3


def test_a_sentencepiece_model_of_its_own_has_a_file_of_its_own(tiny, tmp_path):
    other = Path(shutil.copytree(tiny("cocolm-base"), tmp_path / "other"))
    cutter = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(PHRASES.to_pylist()),
        model_writer=cutter,
        vocab_size=30,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (other / "sp.model").write_bytes(cutter.getvalue())
    mine, theirs = (locate_backbone(folder).tokenizer for folder in (tiny("cocolm-base"), str(other)))
    assert mine.get_vocab() == theirs.get_vocab()
    load_tokens(mine, PHRASES, cache=tmp_path / "cache")
    load_tokens(theirs, PHRASES, cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("tokens-*"))) == 2


def test_a_damaged_file_is_made_anew(tokenizer, tmp_path):
    expected = ids_of(load_tokens(tokenizer, PHRASES, cache=tmp_path))
    [path] = tmp_path.glob("tokens-*")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.warns(UserWarning, match="token cache is made again"):
        assert ids_of(load_tokens(tokenizer, PHRASES, cache=tmp_path)) == expected
    assert ids_of(load_tokens(tokenizer, PHRASES, cache=tmp_path)) == expected


def test_a_folder_that_cannot_be_written_is_the_users_fault(tokenizer, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"token cache cannot be written.*BLENDFOLD_CACHE"):
        load_tokens(tokenizer, PHRASES, cache=tmp_path / "file")


def test_default_cache_follows_the_environment(monkeypatch):
    monkeypatch.setenv("BLENDFOLD_CACHE", "/somewhere")
    assert str(default_cache()) == "/somewhere"
    monkeypatch.delenv("BLENDFOLD_CACHE")
    assert default_cache().parts[-2:] == (".cache", "blendfold")


PROCESS = """
import json, sys, pathlib, pyarrow as pa
from models.text.token_cache import load_tokens

class Letters:
    vocab_files_names = {}

    def get_vocab(self):
        return {chr(code): code for code in range(128)}

    def __call__(self, texts, **settings):
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}

phrases = pa.array([f"valve {number} pump" for number in range(5000)])
print(json.dumps(load_tokens(Letters(), phrases, cache=pathlib.Path(sys.argv[1])).ids.tolist()))
"""


def test_processes_that_start_at_once_agree(tmp_path):
    command = [sys.executable, "-c", PROCESS, str(tmp_path)]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    found = [json.loads(run.communicate()[0]) for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert found[0] == found[1] == found[2]
    assert len(list(tmp_path.glob("tokens-*"))) == 1
