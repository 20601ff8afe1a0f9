"""COCO-LM's tokenizer against ids worked out from sentencepiece's pieces and the lines of a dictionary."""

import copy
import io
import json
import pickle
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from transformers import AutoTokenizer

from data_prep.errors import InputError
from models.backbones.cocolm import register
from models.backbones.cocolm_tokenizer import CocolmTokenizer, read_dictionary, split_words, without_lone_starts

SENTENCES = [
    "a valve opens the pump when the rotor turns",
    "the sensor's lens (a clear one) sees the blade",
    'they called it a "film" - and it was',
    "coating of an electrode, a cell; a circuit!",
    "we'll filter the signal and it doesn't matter",
] * 5
LEFT_OUT = "▁rotor"


@pytest.fixture(scope="module")
def pieces() -> SentencePieceProcessor:
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter([*SENTENCES, *(["rotor"] * 50)]),
        model_writer=model,
        vocab_size=90,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return SentencePieceProcessor(model_proto=model.getvalue())


@pytest.fixture(scope="module")
def released(pieces: SentencePieceProcessor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder as released: no tokenizer_config.json; the dictionary's order is not sentencepiece's."""
    folder = tmp_path_factory.mktemp("released")
    (folder / "sp.model").write_bytes(pieces.serialized_model_proto())
    symbols = [pieces.id_to_piece(number) for number in range(3, pieces.get_piece_size())]
    symbols.remove(LEFT_OUT)
    lines = [f"{symbol} {100 + number}\n" for number, symbol in enumerate(reversed(symbols))]
    (folder / "dict.txt").write_text("".join(lines), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({"model_type": "cocolm"}))
    (folder / "pytorch_model.bin").touch()
    return folder


@pytest.fixture(scope="module")
def lines(released: Path) -> list[str]:
    return [line.split(" ")[0] for line in (released / "dict.txt").read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def tokenizer(released: Path) -> Any:
    register()
    return AutoTokenizer.from_pretrained(released)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  a valve  opens\tthe\npump ", "a valve opens the pump"),
        ("``quoted'' text", '" quoted " text'),
        ("‘one’ “two” ´", "' one ' \" two \" '"),
        ("‚one‛ ‐ „two‟", "‚ one ‛ ‐ „ two ‟"),
        ("half–open—shut", "half-open-shut"),
        ("word – word", "word - word"),
        ("(a clear one).", "( a clear one )."),
        ("«deep» [x]", "« deep » [ x ]"),
        ("state-of-the-art, e.g. $5", "state-of-the-art , e.g . $ 5"),
        ("...", "..."),
        ("'--'", "'--'"),
        ("x", "x"),
        ("sensor's won't", "sensor's won't"),
        ("sensor 's", "sensor 's"),
        ("sensor ' s lens", "sensor 's lens"),
        ("they ' LL and I ' m, we ' ve", "they 'LL and I 'm , we 've"),
        ("you’re ’re", "you're 're"),
        ("' tis the ' sensor", "' tis the ' sensor"),
        ("5°C ±2", "5°C ±2"),
        ("", ""),
        (" \n", ""),
    ],
)
def test_words_are_split_as_by_hand(text: str, expected: str) -> None:
    assert split_words(text) == expected


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("the valve opens", "the valve opens"),
        ("“film” – sensor’s (lens).", '" film " - sensor\'s ( lens ).'),
        ("doesn ' t matter;", "doesn 't matter ;"),
        ("zebra quartz", "zebra quartz"),
    ],
)
def test_ids_are_the_dictionary_lines_of_sentencepieces_pieces(
    tokenizer: Any, pieces: SentencePieceProcessor, lines: list[str], text: str, split: str
) -> None:
    expected_pieces = skip_space(pieces.encode(split, out_type=str))
    expected = [4 + lines.index(piece) if piece in lines else 3 for piece in expected_pieces]
    assert tokenizer.tokenize(text) == expected_pieces
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == expected
    assert tokenizer(text)["input_ids"] == [0, *expected, 2]
    assert len({*expected}) > 1


def skip_space(pieces: list[str]) -> list[str]:
    """The rule of lone word starts, piece by piece from the end."""
    kept: list[str] = []
    following = None
    for piece in reversed(pieces):
        if piece == "▁":
            code = 33 if following is None else ord(following[0])
            ascii_sign = 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126
            dropped = ascii_sign or unicodedata.category(chr(code)).startswith("P")
        else:
            dropped = False
        if not dropped:
            kept.insert(0, piece)
        following = piece
    return kept


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        ("▁a ▁ ;", "▁a ;"),
        ("▁a ▁", "▁a"),
        ("▁", ""),
        ("", ""),
        ("▁ a ▁ b", "▁ a ▁ b"),
        ("▁ $ ▁ 5", "$ ▁ 5"),
        ("▁ ’s", "’s"),
        ("▁ ° ▁ ±", "▁ ° ▁ ±"),
        ("▁ ▁ ;", "▁ ;"),
        ("▁ ▁; ▁", "▁ ▁;"),
        ("▁ 漢 ▁ 。 ▁", "▁ 漢 。"),
        ("▁ ) . ▁ (", ") . ("),
        ("▁▁ ;", "▁▁ ;"),
    ],
)
def test_lone_word_starts_are_dropped_at_the_end_and_before_punctuation(found: str, kept: str) -> None:
    assert without_lone_starts(found.split()) == kept.split()
    assert skip_space(found.split()) == kept.split()


def test_semicolons_of_context_texts_cost_one_token_each(
    tokenizer: Any, pieces: SentencePieceProcessor, lines: list[str]
) -> None:
    text = "the cell; a circuit; coating"
    assert pieces.encode(split_words(text), out_type=str).count("▁") == 2
    assert tokenizer.tokenize(text).count("▁") == 0
    assert tokenizer.tokenize(text).count(";") == 2
    assert len(tokenizer("the ;", "a ;")["input_ids"]) == 4 + 2 * 2


def test_pieces_that_the_dictionary_lacks_are_unknown(tokenizer: Any, lines: list[str]) -> None:
    the = 4 + lines.index("▁the")
    assert tokenizer("the rotor the 漢")["input_ids"][1:5] == [the, 3, the, 4 + lines.index("▁")]
    assert tokenizer("the rotor the 漢")["input_ids"][5:] == [3, 2]


def test_two_texts_are_framed_with_two_separators_and_no_segments(tokenizer: Any, lines: list[str]) -> None:
    the, a = 4 + lines.index("▁the"), 4 + lines.index("▁a")
    pair = tokenizer("the", "a a")
    assert dict(pair) == {"input_ids": [0, the, 2, 2, a, a, 2], "attention_mask": [1] * 7}
    assert tokenizer("the", "a a", return_special_tokens_mask=True)["special_tokens_mask"] == [1, 0, 1, 1, 0, 0, 1]
    assert tokenizer("the", "a a", return_token_type_ids=True)["token_type_ids"] == [0] * 7
    assert tokenizer("the", "a a a", truncation="only_second", max_length=6)["input_ids"] == [0, the, 2, 2, a, 2]
    assert tokenizer.num_special_tokens_to_add(pair=True) == 4
    batch = tokenizer(["the", "a a"], padding=True)
    assert batch["input_ids"] == [[0, the, 2, 1], [0, a, a, 2]]
    assert batch["attention_mask"] == [[1, 1, 1, 0], [1, 1, 1, 1]]


def test_vocabulary_is_four_symbols_the_file_and_the_mask(tokenizer: Any, lines: list[str]) -> None:
    assert type(tokenizer) is CocolmTokenizer
    expected = ["<s>", "<pad>", "</s>", "<unk>", *lines, "<mask>"]
    assert tokenizer.get_vocab() == {symbol: number for number, symbol in enumerate(expected)}
    assert len(tokenizer) == tokenizer.vocab_size == len(expected)
    assert tokenizer.convert_ids_to_tokens(range(len(expected))) == expected
    assert tokenizer.convert_tokens_to_ids(expected) == list(range(len(expected)))
    assert tokenizer.mask_token_id == len(lines) + 4
    names = ("cls", "bos", "pad", "sep", "eos", "unk")
    assert [getattr(tokenizer, f"{name}_token_id") for name in names] == [0, 0, 1, 2, 2, 3]


@pytest.mark.parametrize("text", ["the</s>the<mask>", "the [SEP] the <mask>", "<mask>", "[CLS]", "</s>", "<s> the"])
def test_special_tokens_that_a_text_spells_are_text(
    tokenizer: Any, pieces: SentencePieceProcessor, lines: list[str], text: str
) -> None:
    expected = skip_space(pieces.encode(split_words(text), out_type=str))
    ids = [4 + lines.index(piece) if piece in lines else 3 for piece in expected]
    assert tokenizer(text)["input_ids"] == [0, *ids, 2]
    assert not {0, 1, 2, len(lines) + 4} & set(ids)


def test_a_piece_that_the_dictionary_holds_has_its_id(released: Path, tmp_path: Path) -> None:
    for path in released.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "dict.txt").write_text("[SEP] 1\nthe 1\n")
    assert CocolmTokenizer.from_pretrained(tmp_path).convert_tokens_to_ids(["[SEP]", "[CLS]", "the", "a"]) == [
        4,
        0,
        5,
        3,
    ]


def test_special_tokens_and_their_aliases_are_known_by_name(tokenizer: Any) -> None:
    assert tokenizer.convert_tokens_to_ids(["[CLS]", "[PAD]", "[SEP]", "[UNK]"]) == [0, 1, 2, 3]
    assert tokenizer.add_tokens(["[SEP]"]) == 0
    assert tokenizer.convert_tokens_to_ids("[SEP]") == 2


def test_decoding_gives_the_split_text_back_but_for_dropped_spaces(tokenizer: Any) -> None:
    ids = tokenizer("the sensor’s lens, (a film)")["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "the sensor's lens,( a film)"
    assert tokenizer.decode(ids).startswith("<s>")


@pytest.mark.parametrize("own", [True, False], ids=["CocolmTokenizer", "AutoTokenizer"])
def test_saved_tokenizer_loads_again_with_what_was_added(
    tokenizer: Any, released: Path, tmp_path: Path, own: bool
) -> None:
    size = len(tokenizer)
    assert tokenizer.add_tokens(["[s]", "the"]) == 2
    text = "the valve [s] a lens"
    assert tokenizer.convert_tokens_to_ids(["[s]", "the"]) == [size, size + 1]
    tokenizer.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)  # onto itself
    if not own:
        (tmp_path / "config.json").write_text((released / "config.json").read_text())
    found = (CocolmTokenizer if own else AutoTokenizer).from_pretrained(tmp_path)
    assert type(found) is CocolmTokenizer
    assert len(found) == size + 2
    assert found.get_vocab() == tokenizer.get_vocab()
    assert found(text, "lens")["input_ids"] == tokenizer(text, "lens")["input_ids"]
    for name in ("sp.model", "dict.txt"):
        assert (tmp_path / name).read_bytes() == (released / name).read_bytes()
    again = CocolmTokenizer.from_pretrained(tmp_path)
    again.save_pretrained(tmp_path)
    assert (tmp_path / "dict.txt").read_bytes() == (released / "dict.txt").read_bytes()


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_copies_split_alike(tokenizer: Any, clone: Any) -> None:
    assert clone(tokenizer)("the valve [SEP] lens")["input_ids"] == tokenizer("the valve [SEP] lens")["input_ids"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 1\n\nb 2\n", "line 2: .*`symbol count`"),
        ("a 1\nb\n", "line 2: .*found 'b'"),
        ("a one\n", "line 1: .*found 'a one'"),
        ("a 1\nb 2\na 3\n", "line 3: symbol 'a' for the second time"),
    ],
)
def test_damaged_dictionaries_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "dict.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        read_dictionary(tmp_path / "dict.txt")


def test_dictionary_keeps_the_place_of_special_symbols_and_odd_ones(tmp_path: Path) -> None:
    (tmp_path / "dict.txt").write_text("<unk> 0\n▁a 5\r\n\u2028 4\n<mask> 3\nb 1", encoding="utf-8", newline="")
    ids = read_dictionary(tmp_path / "dict.txt")
    assert list(ids) == ["<s>", "<pad>", "</s>", "<unk>", "▁a", "\u2028", "<mask>", "b"]
    assert list(ids.values()) == list(range(8))


@pytest.mark.parametrize("name", ["sp.model", "dict.txt"])
def test_folder_without_a_file_is_refused(released: Path, tmp_path: Path, name: str) -> None:
    register()
    for path in released.iterdir():
        if path.name != name:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=r"made of sp.model and dict.txt.*=None"):
        AutoTokenizer.from_pretrained(tmp_path)


def test_broken_sentencepiece_model_is_refused(released: Path, tmp_path: Path) -> None:
    register()
    for path in released.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "sp.model").write_bytes(b"no model")
    with pytest.raises(InputError, match=r"sp.model: not a sentencepiece model"):
        AutoTokenizer.from_pretrained(tmp_path)
