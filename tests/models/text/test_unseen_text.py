"""Texts that a tokenizer does not know: refused before anything is trained."""

import dataclasses

import pyarrow as pa
import pytest

from data_prep.errors import InputError
from models.candidate import Candidate
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
