"""A kept backbone: the files of a backbone that predicting needs beside the weights of fold runs.

Those lack the embeddings of tokens that the fold run's texts did not have, and new texts may have them. So the config,
the tokenizer's files and the whole table of input embeddings are kept, once for all fold runs.
"""

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from data_prep.errors import InputError
from data_prep.store.files import join, write_bytes
from data_prep.store.sealed_records import write_record
from data_prep.store.weight_folders import EMBEDDING_FILE, LISTING_FILE
from models.backbones.checkpoint_files import EMBEDDING, BackboneFiles
from models.backbones.load_backbone import load_embedding
from models.text.token_cache import tokenizer_content


def collect_kept_backbone(backbone: BackboneFiles) -> dict[str, bytes]:
    """Return the files that predicting needs, content by name; the table is in half precision where that loses nothing.

    Raises:
        InputError: the backbone cannot be loaded, or its tokenizer cannot be saved such that it gives the same tokens.
    """
    tokenizer = backbone.tokenizer
    with tempfile.TemporaryDirectory() as folder:
        backbone.config().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        if _behavior(kept_backbone(folder).tokenizer) != _behavior(tokenizer):
            raise InputError(
                f"backbone {backbone.name!r}: {type(tokenizer).__name__} gives other tokens when it is saved and "
                f"loaded again, so nothing can predict without the checkpoint itself"
            )
        files = {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
    table = load_embedding(backbone)
    half = table.half()
    kept = half if torch.equal(half.float(), table) else table
    return {**files, EMBEDDING_FILE: safetensors.torch.save({EMBEDDING: kept.contiguous()})}


def kept_backbone(folder: str) -> BackboneFiles:
    """Return what `write_kept_backbone` wrote into a local folder, as files to load from."""
    return BackboneFiles(folder, folder, kept=True)


def write_kept_backbone(files: dict[str, bytes], folder: str | Path) -> None:
    """Write a kept backbone into a folder (a path or URI); the listing of its files comes last and means "complete".

    Two workers that write the same at once do no harm: each file is replaced whole, by what it was.
    """
    for name, content in files.items():
        write_bytes(content, join(folder, name))
    write_record(
        {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}, join(folder, LISTING_FILE)
    )


def _behavior(tokenizer: Any) -> list[Any]:
    """Return what texts become by: splitting, ids, what stands around one text and between two."""
    return [
        tokenizer_content(tokenizer),
        len(tokenizer),
        {kind: getattr(tokenizer, f"{kind}_token_id") for kind in ("pad", "sep", "eos", "mask")},
        tokenizer("a")["input_ids"],
        tokenizer("a", "a")["input_ids"],
    ]
