"""How many texts of how many tokens pass through a fold run, counted with a stand-in for its tokenizer."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from data_prep.prepared import Prepared
from models.candidate import Candidate
from models.text.batches import Encoded, prediction_batches, training_batches
from models.text.fold_pools import load_fold_pools
from models.training.learner import PREDICTION_BATCH
from models.training.rung_steps import rung_sample

PIECE = 7
"""Letters of a stand-in token at most; a word has one token for each such piece, a sign has its own.

With it the phrases of PPPM and the titles of its CPC codes have 9 % more tokens than BERT's WordPiece makes of them.
"""
SPECIAL = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")


@dataclass(frozen=True)
class TokenCounts:
    """What passes through one fold run."""

    steps: int
    """Optimiser steps of the whole schedule."""
    epoch: NDArray[np.int64]
    """Texts and padded tokens of each batch of the first epoch, [batches, 2]."""
    predicted: NDArray[np.int64]
    """The same of all predictions at the end of the run: validation fold, test, holdout, [batches, 2]."""
    scored: NDArray[np.int64]
    """The same of the predictions at one early rung, [batches, 2]."""
    rows: int
    """Rows that are predicted at the end."""
    orders: int
    """Times that each prediction is made, in other orders of the siblings."""

    @property
    def largest(self) -> tuple[int, int]:
        """Texts of the fullest training batch, and tokens of the longest text."""
        return int(self.epoch[:, 0].max()), int(self.epoch[:, 1].max())

    @property
    def largest_prediction(self) -> tuple[int, int]:
        """Texts that are predicted at once, and tokens of the longest of all."""
        return int(self.predicted[:, 0].max()), int(self.predicted[:, 1].max())

    @property
    def tokens(self) -> int:
        """Padded tokens of one epoch."""
        return int(self.epoch.prod(axis=1).sum())


class TokenCounter:
    """Counts texts and tokens over one prepared folder; candidates whose texts are alike are counted once."""

    def __init__(self, data: Prepared, *, rung_rows: int | None) -> None:
        self._data = data
        self._rung_rows = rung_rows
        self._known: dict[str, TokenCounts] = {}

    def of(self, candidate: Candidate) -> TokenCounts:
        """Return the counts of a candidate's fold 0; the other folds are much the same.

        Raises:
            InputError: the task lacks a column that the recipe needs, or `max_length` has no room for any phrase.
        """
        same = candidate.model_dump_json(include=WRITTEN)
        if same not in self._known:
            self._known[same] = self._count(candidate.model_copy(update={"separator": "tokenizer"}))
        found = self._known[same]
        return replace(found, steps=len(found.epoch) * candidate.epochs)

    def _count(self, candidate: Candidate) -> TokenCounts:
        with TemporaryDirectory() as cache:
            pools = load_fold_pools(
                self._data, 0, candidate=candidate, tokenizer=stand_in_tokenizer(), cache=Path(cache)
            )
        encoded = pools.train.encode(0)
        batches = training_batches(
            encoded.lengths, encoded.texts_per_batch(candidate.batch_size), seed=candidate.seed, epoch=0
        )
        validation = pools.validation.encode(0)
        sample = rung_sample(validation.n_rows, self._rung_rows)
        predicted = [pool.encode(0) for pool in (pools.validation, pools.test, pools.holdout) if pool is not None]
        return TokenCounts(
            steps=len(batches),
            epoch=_sizes(encoded, batches),
            predicted=np.concatenate([_predictions(pool, np.arange(pool.n_rows)) for pool in predicted]),
            scored=_predictions(validation, sample),
            rows=sum(pool.n_rows for pool in predicted),
            orders=candidate.prediction_shuffles,
        )


WRITTEN = {
    "recipe",
    "context",
    "segment_ids",
    "sibling_scope",
    "max_siblings",
    "shuffle_siblings",
    "own_target",
    "prediction_shuffles",
    "max_length",
    "truncation",
    "head_share",
    "window_overlap",
    "max_windows",
    "batch_size",
}
"""Settings that decide which texts a fold run has, and how many of them are in a batch."""


def _predictions(encoded: Encoded, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    texts = encoded.texts_of(rows)
    places = prediction_batches(encoded.lengths[texts], encoded.texts_at_once(PREDICTION_BATCH))
    return _sizes(encoded, [texts[place] for place in places])


def _sizes(encoded: Encoded, batches: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the texts (or windows) of each batch and the tokens that they are padded to, [batches, 2]."""
    lengths = encoded.lengths
    return np.array([(len(encoded.windows_of(batch)), lengths[batch].max()) for batch in batches], dtype=np.int64)


@lru_cache(maxsize=1)
def stand_in_tokenizer() -> Any:
    """Return a tokenizer that needs no files: it cuts words into pieces of at most `PIECE` letters."""
    numbers = {token: number for number, token in enumerate(SPECIAL)}
    backend = Tokenizer(WordLevel(numbers, unk_token="[UNK]"))
    backend.pre_tokenizer = Split(Regex(rf"\w{{1,{PIECE}}}|[^\w\s]"), "removed", invert=True)
    backend.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(token, numbers[token]) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        mask_token="[MASK]",
    )
