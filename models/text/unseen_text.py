"""What a model never sees of its texts: the words that its tokenizer does not know."""

from typing import Any

import numpy as np

from data_prep.errors import InputError
from models.text.fold_pools import FoldPools

MOST_UNKNOWN = 1 / 3
"""Share of unknown tokens with which texts can still be learned from."""


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
