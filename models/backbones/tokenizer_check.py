"""Whether a tokenizer is the checkpoint's own: without its files, transformers makes one that knows nothing."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers.models import BPE
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES, tokenizer_class_from_name

from data_prep.errors import InputError

LEAST_SHARE = 0.75
"""Share of a config's `vocab_size` that a tokenizer has at least; published ones have more than .97."""
NOT_PIECES = frozenset({"tokenizer_file", "entity_vocab_file"})
"""Files of tokenizers that no pieces of text come from, and the one that stands for all."""


def check_tokenizer(tokenizer: Any, config: Any, *, name: str, place: str) -> None:
    """Refuse the tokenizer of backbone `name` if it lacks most of its vocabulary, or puts nothing around a text.

    Raises:
        InputError: one of both, with the files that make the tokenizer.
    """
    kind, made = type(tokenizer).__name__, _n_pieces(tokenizer)
    wanted = getattr(config.get_text_config(), "vocab_size", None) or 0
    if made < LEAST_SHARE * wanted:
        raise InputError(
            f"backbone {name!r}: its {kind} makes {made} different tokens, its config.json says "
            f"vocab_size={wanted}; {_files(type(tokenizer), place)}"
        )
    around = {tokenizer.cls_token_id, tokenizer.sep_token_id}
    if None not in around and not around & set(tokenizer("a")["input_ids"]):
        raise InputError(
            f"backbone {name!r}: its {kind} puts neither {tokenizer.cls_token} nor {tokenizer.sep_token} around a "
            "text; some versions of transformers convert its files wrongly: use another version, or put the "
            "checkpoint's tokenizer.json beside them"
        )


def tokenizer_files(model_type: str, place: str) -> str:
    """Say which files make the tokenizer of a model type, and which of them a folder lacks; nothing if unknown."""
    tokenizer_class = tokenizer_class_from_name(TOKENIZER_MAPPING_NAMES.get(model_type) or "")
    return "" if tokenizer_class is None else _files(tokenizer_class, place)


def _n_pieces(tokenizer: Any) -> int:
    """Return how many different tokens texts can become: of a BPE no more than it has merges for."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not isinstance(backend.model, BPE):
        return len(tokenizer)
    merges = json.loads(backend.to_str())["model"]["merges"]
    return min(len(tokenizer), len(merges) + sum(len(piece) == 1 for piece in tokenizer.get_vocab()))


def _files(tokenizer_class: Any, place: str) -> str:
    own = [file for kind, file in tokenizer_class.vocab_files_names.items() if kind not in NOT_PIECES]
    text = (
        f"its tokens come from {_all_of(own)} or from tokenizer.json" if own else "its tokens come from tokenizer.json"
    )
    found = [file for file in (*own, "tokenizer.json") if (Path(place) / file).is_file()]
    if Path(place).is_dir():
        text += f", and {place} has {_all_of(found) or 'none of them'}"
    return f"{text}; get them again (a download of *.json and *.safetensors alone lacks some)"


def _all_of(names: Iterable[str]) -> str:
    return " and ".join(names)
