"""Where a run directory keeps the weights of fold runs, and the files of backbones that predicting needs."""

import hashlib
import re
from typing import Literal

from data_prep.store.files import exists, join
from data_prep.store.oof_store import Provenance
from data_prep.store.safetensors_files import read_header

WEIGHTS_FILE = "model.safetensors"
EMBEDDING_FILE = "embedding.safetensors"
BACKBONES = "backbones"
"""Folder beside those of the candidates, with one folder for each backbone."""
LISTING_FILE = "files.json"
"""Name -> sha256 of the files of a backbone; written last, so a folder without it is unfinished."""
SLUG_DIGITS = 8
TRAINED = ("candidate", "fold", "data_hash", "split_hash", "seed", "attempt")
"""Fields in which weights and tables of one fold run agree."""


def weights_folder(run_dir: str, candidate: str, fold: int) -> str:
    """Return where a run directory (or a bundle) keeps the weights of a fold run."""
    return join(run_dir, "weights", candidate, f"fold-{fold}")


def weights_file(run_dir: str, candidate: str, fold: int) -> str:
    """Return the file with the weights of a fold run."""
    return join(weights_folder(run_dir, candidate, fold), WEIGHTS_FILE)


def backbone_folder(run_dir: str, backbone: str) -> str:
    """Return where a run directory keeps the files of a backbone that predicting needs."""
    return join(run_dir, "weights", BACKBONES, backbone_slug(backbone))


def backbone_is_kept(run_dir: str, backbone: str) -> bool:
    """Tell whether the run directory holds every file of a backbone that predicting needs."""
    return exists(join(backbone_folder(run_dir, backbone), LISTING_FILE))


def backbone_slug(backbone: str) -> str:
    """Return a readable folder name for a backbone, with part of the name's hash since many names end alike."""
    word = re.sub(r"[^A-Za-z0-9.]+", "-", backbone.rstrip("/").rsplit("/", 1)[-1]).strip("-.") or "backbone"
    return f"{word}-{hashlib.sha256(backbone.encode()).hexdigest()[:SLUG_DIGITS]}"


def find_weights(run_dir: str, origin: Provenance) -> Literal["kept", "absent", "other"]:
    """Tell by their header whether a table's weights are kept; `other`: damaged, or from another training."""
    path = weights_file(run_dir, origin.candidate, origin.fold)
    if not exists(path):
        return "absent"
    try:
        metadata = read_header(path).metadata
    except ValueError:
        return "other"
    expected = origin.to_metadata()
    return "kept" if all(metadata.get(key) == expected[key] for key in TRAINED) else "other"
