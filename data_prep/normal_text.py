"""`normal_text`: a phrase without case, punctuation, plurals and word order."""

import re

WORD = re.compile(r"\w+")


def normal_text(text: str) -> str:
    """Return a phrase without case, punctuation, plurals and word order; one without any word stays as it is."""
    return " ".join(sorted(normal_words(text).split())) or text


def normal_words(text: str) -> str:
    """Return the words of a phrase in their order, without case, punctuation and plurals."""
    return " ".join(_singular(word) for word in WORD.findall(text.casefold()))


def _singular(word: str) -> str:
    """Undo a regular English plural; the result may not be a word, but both forms give the same."""
    if len(word) <= 3 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes", "zes")):
        return word[:-2]
    return word[:-1]
