"""How many tokens the texts of a prepared folder have for a tokenizer, and what each `max_length` cuts off."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from rich.table import Table

from data_prep.console import new_table
from data_prep.prepared import Prepared
from models.text.fold_pools import distinct_phrases
from models.text.recipes import Layout
from models.text.special_tokens import find_special_tokens
from models.text.token_cache import load_tokens

PERCENTILES = {"median": 50, "90 %": 90, "99 %": 99, "longest": 100}
MAX_LENGTHS = (32, 64, 128, 256, 512)


def token_tables(data: Prepared, tokenizer: Any) -> Iterator[Table]:
    """Yield percentiles of the tokens of each text, over train and test, and the rows that each `max_length` cuts."""
    task = data.task
    columns = [name for name in task.text_columns if name != task.cpc_column]
    columns += ["context_text"] if task.cpc_column else []
    rows = pa.concat_tables([data.train.select(columns), data.test.select(columns)])
    tokens = load_tokens(tokenizer, distinct_phrases(rows))
    phrases = [tokens.find(rows[name]) for name in columns]
    lengths = tokens.lengths[np.stack(phrases)]
    whole = lengths.sum(axis=0) + find_special_tokens(tokenizer, Layout(tuple(columns))).size
    unknown = None if tokenizer.unk_token_id is None else tokens.counts(tokenizer.unk_token_id)

    table = new_table(f"Tokens of {rows.num_rows:,} rows of train and test", "text", *PERCENTILES, "unknown")
    for name, column, length in zip(columns, phrases, lengths, strict=True):
        share = 0.0 if unknown is None else unknown[column].sum() / max(length.sum(), 1)
        table.add_row(name, *_percentiles(length), f"{share:.1%}")
    table.add_section()
    table.add_row("all, with special tokens", *_percentiles(whole))
    yield table

    table = new_table("What max_length cuts, unless in windows", "max_length", *map(str, MAX_LENGTHS))
    table.add_row("rows", *(f"{(whole > most).mean():.1%}" for most in MAX_LENGTHS))
    unseen = (np.maximum(whole - most, 0).sum() / whole.sum() for most in MAX_LENGTHS)
    table.add_row("tokens never seen", *(f"{share:.1%}" for share in unseen))
    yield table


def _percentiles(lengths: Any) -> Iterator[str]:
    for share in PERCENTILES.values():
        yield f"{np.percentile(lengths, share):.0f}"
