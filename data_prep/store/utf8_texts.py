"""`Utf8Texts`: texts of a file as Arrow arrays, with a fault for each that is not of the file's encoding."""

from collections.abc import Callable, Sequence

import pyarrow as pa

from data_prep.errors import InputFaults
from data_prep.store.text_encodings import UTF8, likely_encoding


class Utf8Texts:
    """Makes arrays of the texts of one file, which were read with `surrogateescape`."""

    def __init__(self, path: str, encoding: str, faults: InputFaults) -> None:
        self._path, self._encoding, self._faults = path, encoding, faults
        self._rule: str | None = None

    def array(self, values: Sequence[str], column: str, place: Callable[[int], str]) -> pa.Array:
        """Return texts of a column; `place` says where in the file the text stands that has this number in `values`."""
        try:
            return pa.array(values, pa.string())
        except UnicodeEncodeError:
            shown = [readable(value) for value in values]
        wrong = [number for number, value in enumerate(values) if value != shown[number]]
        if self._rule is None:
            self._rule = self._rule_for([values[number] for number in wrong])
        for number in wrong:
            self._faults.add(
                f"{self._path}, column {readable(column)}", self._rule, place=place(number), found=shown[number]
            )
        return pa.array(shown, pa.string())

    def _rule_for(self, texts: Sequence[str]) -> str:
        """Return the rule that texts of another encoding break, with the encoding that they seem to have."""
        if self._encoding != UTF8:
            return f"must be text in the encoding {self._encoding}, which --encoding names; name the file's own"
        guess = likely_encoding("\n".join(texts).encode("utf-8", "surrogateescape" if _are_bytes(texts) else "replace"))
        return f"must be UTF-8 text; save the file as UTF-8, or add --encoding NAME (it may be --encoding {guess})"


def readable(text: str) -> str:
    """Return a text in which bytes of another encoding, which are surrogates there, are written out."""
    if not _are_bytes([text]):
        return text.encode("utf-8", "backslashreplace").decode()
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _are_bytes(texts: Sequence[str]) -> bool:
    """Tell whether all surrogates in texts stand for bytes; JSON can spell others."""
    return not any("\ud800" <= sign <= "\udfff" and not "\udc80" <= sign <= "\udcff" for text in texts for sign in text)
