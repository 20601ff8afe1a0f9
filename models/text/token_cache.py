"""The token cache: every distinct phrase tokenised once per node, memory-mapped by all fold runs."""

import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_prep.errors import InputError
from data_prep.store.node_cache import CACHE_VARIABLE, NodeCache
from data_prep.store.tables import DamagedTableError, read_table, write_table
from models.text.token_ranges import ranges

TOKENS_SCHEMA = pa.schema([("token", pa.int32())])
"""The ids of one phrase after the other, `END` behind each."""
END = -1


@dataclass(frozen=True)
class PhraseTokens:
    """The tokens of distinct phrases, without special tokens.

    Phrase i has the `lengths[i]` ids from `ids[starts[i]]` on, tokenized as a text of its own: with WordPiece as in the
    joined text, with byte-level BPE and sentencepiece as at the beginning of a text.
    """

    phrases: pa.StringArray
    ids: NDArray[np.int32]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def find(self, column: pa.ChunkedArray) -> NDArray[np.int64]:
        """Return the position of each of the column's phrases."""
        found = pc.index_in(column, value_set=self.phrases)
        assert found.null_count == 0, "a phrase is missing from its own cache"
        positions: NDArray[np.int64] = found.to_numpy().astype(np.int64)
        return positions

    def counts(self, token: int) -> NDArray[np.int64]:
        """Return how often an id stands in each phrase, [phrases]."""
        total = np.concatenate([[0], np.cumsum(self.ids == token)])
        found: NDArray[np.int64] = total[self.starts + self.lengths] - total[self.starts]
        return found

    def led_by(self, ahead: tuple[int, ...], *, last: tuple[int, ...] = ()) -> "PhraseTokens":
        """Return the same phrases with the ids `ahead` in front of each; `starts` still point to the phrase itself.

        Behind them comes one phrase more, `last`, which has no string.
        """
        lengths = np.append(self.lengths, len(last))
        ends = np.cumsum(lengths + len(ahead))
        ids = np.empty(ends[-1], dtype=np.int32)
        starts = ends - lengths
        for number, token in enumerate(ahead):
            ids[starts - len(ahead) + number] = token
        ids[ranges(starts[:-1], self.lengths)] = self.ids[ranges(self.starts, self.lengths)]
        ids[starts[-1] :] = last
        return PhraseTokens(self.phrases, ids, starts, lengths)


def load_tokens(tokenizer: Any, phrases: pa.StringArray, *, cache: Path | None = None) -> PhraseTokens:
    """Return the tokens of distinct `phrases`, from the cache folder or tokenised now and kept there.

    Content of phrases and tokenizer names the file; the default is `$BLENDFOLD_CACHE`, else `~/.cache/blendfold`.

    Raises:
        InputError: the cache folder cannot be written.
    """
    kept, name = NodeCache(cache), f"tokens-{_fingerprint(tokenizer, phrases)}.arrow"

    def make(path: Path) -> None:
        write_table(_tokenise(tokenizer, phrases), path, schema=TOKENS_SCHEMA)

    try:
        try:
            return _read(phrases, kept, name, make)
        except DamagedTableError as error:
            warnings.warn(f"the token cache is made again: {error}", stacklevel=2)
            kept.discard(name)
            return _read(phrases, kept, name, make)
    except OSError as error:
        raise InputError(
            f"{kept.folder}: the token cache cannot be written ({error}); set {CACHE_VARIABLE} to a folder that can"
        ) from error


def _read(phrases: pa.StringArray, kept: NodeCache, name: str, make: Callable[[Path], None]) -> PhraseTokens:
    """Return the tokens in a file of the cache; they stay mapped even if the file is removed."""
    with kept.use(name, make) as path:
        return _split(phrases, read_table(path, schema=TOKENS_SCHEMA))


def _tokenise(tokenizer: Any, phrases: pa.StringArray) -> pa.Table:
    encoded = tokenizer(phrases.to_pylist(), add_special_tokens=False, return_attention_mask=False, verbose=False)
    flat = [token for ids in encoded["input_ids"] for token in (*ids, END)]
    return pa.table({"token": pa.array(flat, pa.int32())})


def _split(phrases: pa.StringArray, table: pa.Table) -> PhraseTokens:
    ids = table["token"].to_numpy()
    ends = np.flatnonzero(ids == END)
    assert len(ends) == len(phrases), "the file's name is the hash of its phrases"
    return PhraseTokens(
        phrases, ids, starts=np.concatenate([[0], ends[:-1] + 1]), lengths=np.diff(ends, prepend=-1) - 1
    )


def _fingerprint(tokenizer: Any, phrases: pa.StringArray) -> str:
    digest = hashlib.sha256(tokenizer_content(tokenizer).encode())
    for buffer in phrases.buffers()[1:]:
        digest.update(buffer)
    return digest.hexdigest()[:24]


def tokenizer_content(tokenizer: Any) -> str:
    """Return what makes a tokenizer split as it does: its Rust backend, else its vocabulary and its files."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        paths = [getattr(tokenizer, name, None) for name in sorted(tokenizer.vocab_files_names)]
        files = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths if path and Path(path).is_file()]
        return json.dumps([type(tokenizer).__name__, sorted(tokenizer.get_vocab().items()), files])
    content = json.loads(backend.to_str())
    del content["truncation"], content["padding"]
    return json.dumps(content, sort_keys=True)
