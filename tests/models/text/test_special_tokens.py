import pytest
from transformers import ByT5Tokenizer

from data_prep.errors import InputError
from data_prep.task import PPPM
from models.candidate import Candidate
from models.text.recipes import RECIPES
from models.text.special_tokens import SpecialTokens, find_special_tokens


def frame_of(tokenizer, recipe="pair", **settings):
    return find_special_tokens(tokenizer, RECIPES[recipe].layout(PPPM, Candidate()), **settings)


def test_frames_are_the_tokenizers_own(wordpiece, byte_level):
    assert frame_of(wordpiece) == SpecialTokens((2,), ((3,),), (3,), (3,), 0)
    assert frame_of(byte_level) == SpecialTokens((0,), ((2,),), (2,), (2,), 1)
    plain = ByT5Tokenizer()
    end = plain.eos_token_id
    assert frame_of(plain) == SpecialTokens((), ((end,),), (end,), (end,), plain.pad_token_id)


def test_two_texts_are_joined_as_the_tokenizer_joins_them(wordpiece, byte_level):
    for tokenizer, joint in ((wordpiece, (3,)), (byte_level, (2, 2)), (ByT5Tokenizer(), (1,))):
        frame = frame_of(tokenizer, "two_segments", separator="[s]")
        assert frame.joints == ((len(tokenizer),), joint)
        one, two = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("valve", "pump"))
        assert tokenizer("valve", "pump")["input_ids"] == [*frame.before, *one, *joint, *two, *frame.after]


def test_new_tokens_follow_the_tokenizers_own_in_order(wordpiece):
    frame = frame_of(wordpiece, "marked", separator="[s]")
    assert (frame.between, frame.marker) == ((len(wordpiece),), len(wordpiece) + 1)
    assert frame_of(wordpiece, "marked", separator="[TAR]").marker == len(wordpiece)
    assert frame_of(wordpiece, "marked").marker == len(wordpiece)
    assert frame_of(wordpiece, "grouped").marker is None
    assert "[s]" not in wordpiece.get_vocab()


def test_sizes_count_what_is_there(wordpiece):
    frame = frame_of(wordpiece, "marked", separator="[ab]", spelled=True)
    assert len(frame.between) == 4
    assert (frame.size, frame.marking) == (2 + 4, 4 + 2)
    assert {*frame.before, *frame.between, frame.marker, frame.padding} <= frame.ids


def test_what_a_tokenizer_lacks_is_named(wordpiece):
    class Bare:
        sep_token_id = eos_token_id = None
        get_vocab, __len__ = wordpiece.get_vocab, wordpiece.__len__

        def __call__(self, *texts, **settings):  # noqa: ARG002
            return {"input_ids": [7] * len(texts)}

    with pytest.raises(InputError, match=r"Bare has no separator or end token; give the separator as a literal"):
        frame_of(Bare())
    with pytest.raises(InputError, match=r"separator ' ' cannot be spelled"):
        frame_of(wordpiece, separator=" ", spelled=True)
    with pytest.raises(InputError, match="needs a mask token, which ByT5Tokenizer lacks"):
        frame_of(ByT5Tokenizer(), "prompt")
