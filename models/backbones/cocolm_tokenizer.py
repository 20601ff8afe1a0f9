"""COCO-LM's tokenizer: sentencepiece over lightly split words, its pieces numbered by a fairseq dictionary."""

import re
import shutil
import unicodedata
from itertools import takewhile
from pathlib import Path
from typing import Any, ClassVar

from sentencepiece import SentencePieceProcessor
from transformers import PreTrainedTokenizer

from data_prep.errors import InputError

FIRST_SYMBOLS = ("<s>", "<pad>", "</s>", "<unk>")
"""What every dictionary begins with, whatever its file says: ids 0 to 3."""
MASK = "<mask>"
ALIASES = {"[CLS]": "<s>", "[PAD]": "<pad>", "[SEP]": "</s>", "[UNK]": "<unk>"}
SPECIAL_TOKENS = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "cls_token": "<s>",
    "mask_token": MASK,
}
WORD_START = "▁"

_TO_ASCII = str.maketrans("‘’´“”—–", "'''" + '""' + "--")
_CLITIC = re.compile(r"' ([smdtSMDT]|ll|LL|re|RE|ve|VE)\b")


class CocolmTokenizer(PreTrainedTokenizer):  # type: ignore[misc]
    """COCO-LM's tokenizer: `<s> a </s>` for one text, `<s> a </s> </s> b </s>` for two, no segment ids.

    `[CLS]`, `[PAD]`, `[SEP]` and `[UNK]` are other names of the first four symbols. Inside of texts, these and the
    special tokens are text like any other.
    """

    vocab_files_names: ClassVar[dict[str, str]] = {"vocab_file": "sp.model", "dict_file": "dict.txt"}
    model_input_names: ClassVar[list[str]] = ["input_ids", "attention_mask"]

    def __init__(self, vocab_file: str | None = None, dict_file: str | None = None, **kwargs: Any) -> None:
        """Read `sp.model` (`vocab_file`) and `dict.txt` (`dict_file`).

        Raises:
            InputError: one of the two is missing or is not what its name says.
        """
        if vocab_file is None or dict_file is None:
            raise InputError(
                f"a COCO-LM tokenizer is made of sp.model and dict.txt; found {vocab_file=}, {dict_file=}: put both "
                f"files into {kwargs.get('name_or_path') or 'the checkpoint folder'}"
            )
        self.vocab_file, self.dict_file = vocab_file, dict_file
        self.splitter = _load_sentencepiece(vocab_file)
        self.symbol_ids = read_dictionary(dict_file)
        self.symbols = list(self.symbol_ids)
        fixed = {
            "special_tokens_pattern": "cls_double_sep",
            "token_type_ids_pattern": "all_zeros",
            "split_special_tokens": True,
        }
        super().__init__(**(SPECIAL_TOKENS | kwargs | fixed))

    @property
    def vocab_size(self) -> int:
        """Return the number of symbols, tokens that were added later not counted."""
        return len(self.symbols)

    def get_vocab(self) -> dict[str, int]:
        """Return the id of every symbol and added token; aliases are no symbols of their own."""
        return {**self.symbol_ids, **self.added_tokens_encoder}

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Join pieces to text; spaces that were dropped before punctuation do not come back."""
        return "".join(tokens).replace(WORD_START, " ").strip()

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Copy `sp.model` and `dict.txt` into a folder; return their new paths."""
        prefix = "" if filename_prefix is None else f"{filename_prefix}-"
        copies = []
        for source, name in zip((self.vocab_file, self.dict_file), self.vocab_files_names.values(), strict=True):
            copy = Path(save_directory) / f"{prefix}{name}"
            if Path(source).resolve() != copy.resolve():
                shutil.copyfile(source, copy)
            copies.append(str(copy))
        return tuple(copies)

    def _tokenize(self, text: str, **_: Any) -> list[str]:
        return without_lone_starts(self.splitter.encode(split_words(text), out_type=str))

    def _convert_token_to_id(self, token: str) -> int:
        return self.symbol_ids[token if token in self.symbol_ids else ALIASES.get(token, "<unk>")]

    def _convert_id_to_token(self, index: int) -> str:
        return self.symbols[index]

    def _add_tokens(self, new_tokens: list[Any], special_tokens: bool = False) -> int:
        """Add tokens, aliases left out: they have an id already."""
        added: int = super()._add_tokens([token for token in new_tokens if str(token) not in ALIASES], special_tokens)
        return added


def split_words(text: str) -> str:
    """Return the text as sentencepiece was trained to see it: words and punctuation set apart by single spaces.

    Quotes and dashes become ASCII; punctuation at either end of a word leaves it in one run (`(a).` to `( a ).`),
    inside it stays; a clitic that stands apart from its apostrophe joins it again (`' s` to `'s`).
    """
    text = text.strip().replace("``", '"').replace("''", '"').translate(_TO_ASCII)
    words = [part for word in text.split() for part in _split_punctuation(word)]
    return _CLITIC.sub(r"'\1", " ".join(words))


def without_lone_starts(pieces: list[str]) -> list[str]:
    """Return a text's pieces without lone word starts, where they end the text or stand right before punctuation."""
    following = [*pieces, ""][1:]
    return [
        piece
        for piece, after in zip(pieces, following, strict=True)
        if piece != WORD_START or (after and not _is_punctuation(after[0]))
    ]


def read_dictionary(path: str | Path) -> dict[str, int]:
    """Return the ids of a dictionary file's symbols, `FIRST_SYMBOLS` before and `<mask>` behind them.

    Only the order of its lines, `symbol count`, matters; those of the first symbols and the mask change nothing.

    Raises:
        InputError: a line of another form, or a symbol for the second time.
    """
    ids = {symbol: number for number, symbol in enumerate(FIRST_SYMBOLS)}
    with Path(path).open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            symbol, _, count = line.rstrip("\r\n").rpartition(" ")
            if not symbol or not count.isdecimal():
                raise InputError(
                    f"{path}, line {number}: a dictionary has one `symbol count` a line, found {line.rstrip()!r}; "
                    "take the file from the checkpoint again"
                )
            if symbol in ids and symbol not in FIRST_SYMBOLS:
                raise InputError(
                    f"{path}, line {number}: symbol {symbol!r} for the second time, so that all ids behind it would "
                    "shift; take the file from the checkpoint again"
                )
            ids.setdefault(symbol, len(ids))
    ids.setdefault(MASK, len(ids))
    return ids


def _load_sentencepiece(path: str) -> Any:
    try:
        return SentencePieceProcessor(model_file=path)
    except (RuntimeError, OSError) as error:
        raise InputError(
            f"{path}: not a sentencepiece model ({error}); take the file from the checkpoint again"
        ) from error


def _split_punctuation(word: str) -> list[str]:
    lead = "".join(takewhile(_is_punctuation, word))
    tail = "".join(takewhile(_is_punctuation, reversed(word[len(lead) :])))[::-1]
    parts = (lead, word[len(lead) : len(word) - len(tail)], tail)
    return [part for part in parts if part]


def _is_punctuation(character: str) -> bool:
    """Tell punctuation as BERT does: Unicode's, and the symbols of ASCII such as `$` and `+`."""
    category = unicodedata.category(character)
    return category.startswith("P") or (character.isascii() and category.startswith("S"))
