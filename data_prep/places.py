"""Places: where a run directory keeps the weights of fold runs, and what predicting needs of backbones beside them."""

import hashlib
import re

from data_prep.tables import exists, join

WEIGHTS_FILE = "model.safetensors"
EMBEDDING_FILE = "embedding.safetensors"
BACKBONES = "backbones"
"""The folder, beside those of candidates, with a folder for each backbone."""
LISTING_FILE = "files.json"
"""Name -> sha256 of the files of a backbone; written last, so a folder without it is unfinished."""
SLUG_DIGITS = 8


def weights_folder(run_dir: str, candidate: str, fold: int) -> str:
    """Return where a run directory (or a bundle) keeps the weights of a fold run."""
    return join(run_dir, "weights", candidate, f"fold-{fold}")


def weights_file(run_dir: str, candidate: str, fold: int) -> str:
    """Return the file with the weights of a fold run."""
    return join(weights_folder(run_dir, candidate, fold), WEIGHTS_FILE)


def backbone_folder(run_dir: str, backbone: str) -> str:
    """Return where a run directory keeps what predicting needs of a backbone, which a candidate names."""
    return join(run_dir, "weights", BACKBONES, backbone_slug(backbone))


def backbone_is_kept(run_dir: str, backbone: str) -> bool:
    """Tell whether all that predicting needs of a backbone is in the run directory."""
    return exists(join(backbone_folder(run_dir, backbone), LISTING_FILE))


def backbone_slug(backbone: str) -> str:
    """Return a folder name for a backbone: readable, with a part of the name's hash since many end alike."""
    word = re.sub(r"[^A-Za-z0-9.]+", "-", backbone.rstrip("/").rsplit("/", 1)[-1]).strip("-.") or "backbone"
    return f"{word}-{hashlib.sha256(backbone.encode()).hexdigest()[:SLUG_DIGITS]}"


def missing_weights(run_dir: str, candidate: str, folds: list[int]) -> list[int]:
    """Return the folds of a candidate whose weights are not there."""
    return [fold for fold in folds if not exists(weights_file(run_dir, candidate, fold))]
