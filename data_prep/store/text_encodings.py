"""Names of text encodings, and which one a text seems to have that is not UTF-8."""

import codecs
import re

from data_prep.errors import InputError

UTF8 = "utf-8-sig"
"""UTF-8, with or without a byte order mark."""
CYRILLIC = re.compile("[а-яА-ЯёЁ]")
LETTERS = {
    "shift_jis": re.compile("[\u3041-\u30fe\u4e00-\u9fff]"),
    "euc_kr": re.compile("[\uac00-\ud7a3]"),
    "gb18030": re.compile("[\u4e00-\u9fff]"),
}
"""Encodings of several bytes a letter, with the letters of their languages."""


def known_encoding(name: str | None) -> str:
    """Return the codec of an encoding; None: UTF-8.

    Raises:
        InputError: Python knows no such text encoding.
    """
    try:
        if name is not None:
            "".encode(name)
            codecs.lookup(name)
    except (LookupError, ValueError) as error:
        raise InputError(
            f"--encoding: unknown text encoding {name!r}; examples: windows-1252, latin-1, utf-16, shift_jis, gb18030"
        ) from error
    return UTF8 if name is None or name.lower().replace("_", "-") in ("utf-8", "utf8") else name


def likely_encoding(text: bytes) -> str:
    """Guess the encoding of bytes that are not UTF-8: by runs of high bytes, which Western texts do not have."""
    runs = re.findall(rb"[\x80-\xff]+", text)
    n_high = sum(map(len, runs))
    if n_high > 1.5 * len(runs):
        for name, letters in LETTERS.items():
            decoded = _decoded(text, name)
            if decoded is not None and 2 * len(letters.findall(decoded)) > 0.9 * n_high:
                return name
        decoded = _decoded(text, "windows-1251")
        if decoded is not None and len(CYRILLIC.findall(decoded)) > 0.9 * n_high:
            return "windows-1251"
    return "windows-1252" if _decoded(text, "windows-1252") is not None else "latin-1"


def _decoded(text: bytes, name: str) -> str | None:
    try:
        return text.decode(name)
    except UnicodeDecodeError:
        return None
