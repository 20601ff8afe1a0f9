import itertools

import pytest

from data_prep.normal_text import normal_text, normal_words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("water pump", "Pump,  WATER"),
        ("batteries", "battery"),
        ("glass boxes", "boxes glass"),
        ("box", "boxes"),
        ("mixing valves", "valve mixing"),
        ("semi-rigid tubes", "semi rigid tube"),
    ],
)
def test_like_phrases_are_equal_when_normal(one, other):
    assert normal_text(one) == normal_text(other)


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(["gas", "glass", "bus", "axis", "analyses"], 2)))
def test_unlike_phrases_stay_apart_when_normal(one, other):
    assert normal_text(one) != normal_text(other)


def test_texts_without_a_word_stay_apart():
    assert normal_text("!!!") != normal_text("???")


def test_words_keep_their_order():
    assert normal_words("Water-Pumps") == "water pump" != normal_words("pump water")
