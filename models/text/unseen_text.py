"""What a model never sees of its texts: words that its tokenizer does not know, and what `max_length` cuts off."""

from typing import Any

import numpy as np

from data_prep.errors import InputError
from models.candidate import Candidate
from models.text.fold_pools import FoldPools

MOST_UNKNOWN = 1 / 3
"""Share of unknown tokens with which texts can still be learned from."""
WORTH_A_WARNING = 0.05
"""Share of rows that are cut from which on a person is told."""


def check_known(pools: FoldPools, tokenizer: Any, *, backbone: str) -> None:
    """Refuse texts that are mostly unknown tokens to the tokenizer of a backbone.

    Raises:
        InputError: they are, with the share.
    """
    if tokenizer.unk_token_id is None:
        return
    tokens = pools.train.tokens
    phrases = np.concatenate([column for pool in pools.every for column in pool.phrases])
    unknown, total = (int(each[phrases].sum()) for each in (tokens.counts(tokenizer.unk_token_id), tokens.lengths))
    if unknown > MOST_UNKNOWN * total:
        raise InputError(
            f"backbone {backbone!r}: {unknown / total:.0%} of the tokens of the texts are unknown to its "
            f"{type(tokenizer).__name__} ({tokenizer.unk_token}), at most a third may be; use a backbone that knows "
            "their language, or get its tokenizer files again if it does"
        )


def cut_warning(pools: FoldPools, candidate: Candidate) -> str | None:
    """Say how many rows `max_length` cuts and by how much; None where they are few."""
    kept, lost = (np.concatenate(each) for each in zip(*(pool.kept_and_lost for pool in pools.every), strict=True))
    cut = lost > 0
    if cut.mean() < WORTH_A_WARNING:
        return None
    whole = kept + lost
    return (
        f"backbone {candidate.backbone!r}, recipe {candidate.recipe}, max_length={candidate.max_length}: "
        f"{cut.mean():.0%} of rows are cut, median {np.median(kept[cut]):.0f} of {np.median(whole[cut]):.0f} tokens; "
        f"{lost.sum() / whole.sum():.0%} of all tokens are never seen; a greater max_length keeps more, other ways to "
        "cut are under `truncation`"
    )
