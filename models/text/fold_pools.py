"""`FoldPools`: the training, validation, test and holdout rows of a fold run, with what they need to be encoded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_prep.prepared import Prepared, train_schema
from data_prep.store.tables import HOLDOUT_FOLD
from models.candidate import Candidate
from models.text.context_texts import TitledData, with_context
from models.text.phrase_lengths import phrase_room
from models.text.recipes import RECIPES
from models.text.row_pool import RowPool
from models.text.special_tokens import SpecialTokens, find_special_tokens
from models.text.token_cache import PhraseTokens, load_tokens
from models.text.truncation import Truncation


@dataclass(frozen=True)
class FoldPools:
    """What a fold run trains on and predicts."""

    train: RowPool
    validation: RowPool
    test: RowPool | None
    """None where the data has no test rows."""
    holdout: RowPool | None
    """None where the split has no holdout."""
    vocabulary: NDArray[np.int64] = field(repr=False)
    """Every token id that can occur in these pools, ascending, special and new tokens included."""

    @property
    def every(self) -> list[RowPool]:
        """All pools that there are."""
        return [pool for pool in (self.train, self.validation, self.test, self.holdout) if pool is not None]


def load_fold_pools(
    data: Prepared, fold: int, *, candidate: Candidate, tokenizer: Any, cache: Path | None = None
) -> FoldPools:
    """Return the pools of one fold run: train (the other folds), validation (`fold`), test, holdout (fold -1).

    Raises:
        InputError: the task lacks a column, the tokenizer a token or `max_length` the room that the recipe needs.
    """
    own = set(train_schema(data.task).names)
    bare = [table.select([name for name in table.column_names if name in own]) for table in (data.train, data.test)]
    (train, test), rows = _writer(bare, data, candidate=candidate, tokenizer=tokenizer, cache=cache)
    mine, held = data.in_fold(fold), data.in_fold(HOLDOUT_FOLD)
    held_out = train.filter(pa.array(held))
    training = rows(train.filter(pa.array(~mine & ~held)))
    return FoldPools(
        train=training,
        validation=rows(train.filter(pa.array(mine))),
        test=rows(test) if data.has_test else None,
        holdout=rows(held_out) if held_out.num_rows else None,
        vocabulary=training.vocabulary,
    )


def load_pool(
    table: pa.Table, data: TitledData, *, candidate: Candidate, tokenizer: Any, cache: Path | None = None
) -> RowPool:
    """Return the rows of a table (id, text columns, context_text where there are CPC codes) as a pool of their own."""
    (table,), rows = _writer((table,), data, candidate=candidate, tokenizer=tokenizer, cache=cache)
    return rows(table)


def _writer(
    tables: Sequence[pa.Table], data: TitledData, *, candidate: Candidate, tokenizer: Any, cache: Path | None
) -> tuple[list[pa.Table], Callable[[pa.Table], RowPool]]:
    """Return tables with the candidate's form of the context, and what makes a pool of some of their rows."""
    recipe = RECIPES[candidate.recipe]
    layout = recipe.layout(data.task, candidate)
    frame = find_special_tokens(tokenizer, layout, separator=candidate.separator, spelled=candidate.spell_separator)
    phrase_room(layout, frame, candidate.max_length)
    formed = [with_context(table, data, candidate.context) for table in tables]
    tokens = _phrase_tokens(tokenizer, distinct_phrases(*formed), frame, cache, spaced=bool(layout.words))

    def rows(table: pa.Table) -> RowPool:
        return RowPool(
            table,
            layout,
            tokens,
            frame,
            candidate.max_length,
            Truncation.of(candidate),
            candidate.seed,
            segment_ids=candidate.segment_ids,
            anchor_column=data.task.text_columns[0] if len(data.task.text_columns) > 1 else None,
            code_column=data.task.cpc_column if recipe.codes else None,
            target_names=data.task.target.names,
            weighted=data.task.weight_column is not None,
        )

    return formed, rows


def distinct_phrases(*tables: pa.Table) -> pa.StringArray:
    """Return every distinct text of the tables, whatever the recipe: one cache file serves most of them."""
    columns = [table[name] for table in tables for name in table.column_names if name != "id"]
    texts = [column for column in columns if pa.types.is_string(column.type)]
    return pc.unique(pa.chunked_array([chunk for column in texts for chunk in column.chunks], pa.string()))


def _phrase_tokens(
    tokenizer: Any, phrases: pa.StringArray, frame: SpecialTokens, cache: Path | None, *, spaced: bool
) -> PhraseTokens:
    """Return the tokens of distinct phrases in the form of `RowPool.tokens`; spaced ones as after a space."""
    written = pc.binary_join_element_wise("", phrases, " ") if spaced else phrases
    tokens = replace(load_tokens(tokenizer, written, cache=cache), phrases=phrases)
    return tokens.led_by(frame.between, last=() if frame.marker is None else (frame.marker,))
