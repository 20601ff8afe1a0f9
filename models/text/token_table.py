"""How many tokens the texts of a prepared folder have for a tokenizer, and what each `max_length` cuts off."""

from collections.abc import Iterator
from dataclasses import dataclass
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
ALL = "all, with special tokens"


@dataclass(frozen=True)
class TokenLengths:
    """How long the texts of a prepared folder are for one tokenizer."""

    rows: int
    """Of train and test together."""
    texts: tuple[dict[str, Any], ...]
    """Of each text, and of all with special tokens: `text`, percentiles of its tokens, the share of `unknown` ones."""
    cuts: tuple[dict[str, Any], ...]
    """Of each `max_length`: the shares of rows that it cuts and of tokens that are never seen, unless in windows."""


def token_lengths(data: Prepared, tokenizer: Any) -> TokenLengths:
    """Count the tokens of each text, over train and test, and what each `max_length` cuts off."""
    task = data.task
    columns = [name for name in task.text_columns if name != task.cpc_column]
    columns += ["context_text"] if task.cpc_column else []
    rows = pa.concat_tables([data.train.select(columns), data.test.select(columns)])
    tokens = load_tokens(tokenizer, distinct_phrases(rows))
    phrases = [tokens.find(rows[name]) for name in columns]
    lengths = tokens.lengths[np.stack(phrases)]
    whole = lengths.sum(axis=0) + find_special_tokens(tokenizer, Layout(tuple(columns))).size
    unknown = None if tokenizer.unk_token_id is None else tokens.counts(tokenizer.unk_token_id)
    texts = [
        {"text": name, **_percentiles(length), "unknown": 0.0 if unknown is None else _share(unknown[column], length)}
        for name, column, length in zip(columns, phrases, lengths, strict=True)
    ]
    cuts = [
        {"max_length": most, "rows": float((whole > most).mean()), "tokens": _share(np.maximum(whole - most, 0), whole)}
        for most in MAX_LENGTHS
    ]
    return TokenLengths(rows.num_rows, (*texts, {"text": ALL, **_percentiles(whole)}), tuple(cuts))


def token_tables(found: TokenLengths) -> Iterator[Table]:
    """Yield percentiles of the tokens of each text, and the rows that each `max_length` cuts."""
    table = new_table(f"Tokens of {found.rows:,} rows of train and test", "text", *PERCENTILES, "unknown")
    for text in found.texts:
        if text["text"] == ALL:
            table.add_section()
        unknown = [f"{text['unknown']:.1%}"] if "unknown" in text else []
        table.add_row(text["text"], *(f"{text[name]:.0f}" for name in PERCENTILES), *unknown)
    yield table

    table = new_table("What max_length cuts, unless in windows", "max_length", *map(str, MAX_LENGTHS))
    table.add_row("rows", *(f"{cut['rows']:.1%}" for cut in found.cuts))
    table.add_row("tokens never seen", *(f"{cut['tokens']:.1%}" for cut in found.cuts))
    yield table


def _percentiles(lengths: Any) -> dict[str, float]:
    return {name: float(np.percentile(lengths, share)) for name, share in PERCENTILES.items()}


def _share(part: Any, whole: Any) -> float:
    return float(part.sum() / max(whole.sum(), 1))
