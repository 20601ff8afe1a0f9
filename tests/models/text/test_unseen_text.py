"""Texts that a tokenizer does not know are refused; texts that are cut give one warning."""

import dataclasses
import re

import pyarrow as pa
import pytest

from data_prep.errors import InputError
from models.backbones.locate_backbone import locate_backbone
from models.candidate import Candidate
from models.text.fold_pools import load_fold_pools
from models.text.unseen_text import cut_warning
from small_models import train


def with_targets(data, text):
    """Return the data with every target replaced."""

    def replaced(table):
        place = table.schema.get_field_index("target")
        return table.set_column(place, "target", pa.array([text] * table.num_rows))

    return dataclasses.replace(data, train=replaced(data.train), test=replaced(data.test))


@pytest.mark.parametrize("recipe", ["pair", "packed"])
def test_texts_of_unknown_tokens_are_refused(recipe, tiny_bert, prepared_tiny, tmp_path):
    candidate = Candidate(backbone=tiny_bert, recipe=recipe, max_length=48)
    unknown = with_targets(prepared_tiny, "阀 泵 阀 泵 阀 泵 阀")
    with pytest.raises(InputError, match=r"[4-9]\d% of the tokens of the texts are unknown .*\[UNK\]"):
        train(candidate, unknown, 0, cache=tmp_path)


@pytest.fixture
def warning_of(tiny_bert, prepared_tiny, tmp_path):
    def warning(text, **settings):
        candidate = Candidate(backbone=tiny_bert, **settings)
        tokenizer = locate_backbone(tiny_bert).tokenizer
        data = prepared_tiny if text is None else with_targets(prepared_tiny, text)
        return cut_warning(
            load_fold_pools(data, 0, candidate=candidate, tokenizer=tokenizer, cache=tmp_path), candidate
        )

    return warning


@pytest.mark.parametrize(
    ("recipe", "kept"),
    [("pair", "64"), ("pair_context", "64"), ("grouped", "64"), ("packed", ".+"), ("marked", "6."), ("prompt", "64")],
)
def test_long_texts_give_a_warning_with_what_is_left_of_them(recipe, kept, warning_of):
    found = warning_of("x " * 600, recipe=recipe, max_length=64)
    assert re.search(rf"recipe {recipe}, max_length=64: 100% of rows are cut, median {kept} of 6\d\d tokens;", found)


def test_short_texts_give_none(warning_of):
    assert warning_of(None, recipe="packed", max_length=200) is None


def test_training_by_hand_warns_once(tiny_bert, prepared_tiny, tmp_path):
    candidate = Candidate(backbone=tiny_bert, recipe="pair", max_length=16)
    told = []
    train(candidate, with_targets(prepared_tiny, "x " * 30), 0, cache=tmp_path, warn=told.append, rungs=(0.5, 1.0))
    assert [text.count("100% of rows are cut, median 16 of 3") for text in told] == [1]
