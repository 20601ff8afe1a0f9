"""The special tokens that stand around and between the phrases of a text."""

from dataclasses import dataclass
from typing import Any

from data_prep.errors import InputError
from models.text.recipes import MASK, Layout

MARKER = "[TAR]"
"""The token on both sides of a row's own phrase among its siblings."""


@dataclass(frozen=True)
class SpecialTokens:
    """The tokens of one layout that are the same in every text."""

    before: tuple[int, ...]
    """Ahead of the first column."""
    joints: tuple[tuple[int, ...], ...]
    """Between one column and the next."""
    between: tuple[int, ...]
    """Ahead of each sibling."""
    after: tuple[int, ...]
    """At the end of the text."""
    padding: int
    marker: int | None = None
    """On both sides of a marked phrase; None where no phrase is marked."""

    @property
    def size(self) -> int:
        """Tokens of a text besides its columns, its siblings and their separators."""
        return len(self.before) + sum(map(len, self.joints)) + len(self.after)

    @property
    def marking(self) -> int:
        """Tokens that a marked phrase needs besides its own."""
        return len(self.between) + 2

    @property
    def ids(self) -> set[int]:
        """Every id that occurs in the frame."""
        marker = () if self.marker is None else (self.marker,)
        return {*self.before, *sum(self.joints, ()), *self.between, *self.after, self.padding, *marker}


def find_special_tokens(
    tokenizer: Any, layout: Layout, *, separator: str = "tokenizer", spelled: bool = False
) -> SpecialTokens:
    """Find the frame of a layout in a tokenizer.

    The separator is `tokenizer`, for the tokenizer's own (else its end token), or a literal; a spelled literal is split
    as text is. What the vocabulary lacks, of a literal separator and the marker, becomes a new token: new ids follow
    the tokenizer's own, in this order.

    Raises:
        InputError: the tokenizer lacks a separator or a mask token that the layout needs.
    """
    added = _AddedTokens(tokenizer)
    before, segment, after = _around(tokenizer)
    between = _separator(tokenizer, added, separator, spelled=spelled)
    joints = [between] * (len(layout.columns) - 1)
    if layout.segments:
        joints[-1] = segment
    if layout.words:
        first, *joints = _words(tokenizer, layout.words)
        before += first
    marked = layout.siblings is not None and layout.siblings.arranged == "marked"
    return SpecialTokens(
        before,
        tuple(joints),
        between,
        after,
        padding=tokenizer.pad_token_id,
        marker=added.find(MARKER) if marked else None,
    )


def first_new_id(tokenizer: Any) -> int:
    """Return the first id behind those of a tokenizer: from there on are the tokens that a layout adds."""
    known: dict[str, int] = tokenizer.get_vocab()
    return max(len(tokenizer), 1 + max(known.values()))


class _AddedTokens:
    """The vocabulary of a tokenizer, which grows by every literal that it lacks."""

    def __init__(self, tokenizer: Any) -> None:
        self.ids: dict[str, int] = dict(tokenizer.get_vocab())
        self.following = first_new_id(tokenizer)

    def find(self, literal: str) -> int:
        """Return the id of a literal."""
        if literal not in self.ids:
            self.ids[literal] = self.following
            self.following += 1
        return self.ids[literal]


def _around(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return what a tokenizer puts ahead of a text, between two texts, and behind."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    single = tokenizer("a")["input_ids"]
    start = _position(bare, single)
    before, after = single[:start], single[start + len(bare) :]
    rest = tokenizer("a", "a")["input_ids"][start + len(bare) :]
    return tuple(before), tuple(rest[: _position(bare, rest)]), tuple(after)


def _position(part: list[int], whole: list[int]) -> int:
    return next(start for start in range(len(whole)) if whole[start : start + len(part)] == part)


def _separator(tokenizer: Any, added: _AddedTokens, separator: str, *, spelled: bool) -> tuple[int, ...]:
    if separator == "tokenizer":
        own = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
        if own is None:
            raise InputError(
                f"{type(tokenizer).__name__} has no separator or end token; give the separator as a literal, as [s]"
            )
        return (own,)
    if not spelled:
        return (added.find(separator),)
    ids = tuple(_split(tokenizer, separator))
    if not ids:
        raise InputError(f"separator {separator!r} cannot be spelled: {type(tokenizer).__name__} makes no token of it")
    return ids


def _words(tokenizer: Any, words: tuple[str, ...]) -> list[tuple[int, ...]]:
    """Return the tokens of connective words; all but the first follow a space."""
    mask = tokenizer.mask_token_id
    if mask is None and any(MASK in text for text in words):
        raise InputError(
            f"recipe prompt needs a mask token, which {type(tokenizer).__name__} lacks; use another recipe"
        )
    found = []
    for number, text in enumerate(words):
        spaced = f" {text}" if number else text
        ids = _split(tokenizer, spaced.removesuffix(f" {MASK}"))
        found.append((*ids, mask) if text.endswith(MASK) else tuple(ids))
    return found


def _split(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
