"""Weights of finished fold runs: one safetensors file each, with all that predicting needs beside the backbone."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError

from data_prep.errors import InputError
from data_prep.store.files import join, read_bytes, write_bytes
from data_prep.store.oof_store import Provenance
from data_prep.store.safetensors_files import parse_header
from data_prep.store.sealed_records import seal
from data_prep.store.weight_folders import WEIGHTS_FILE
from data_prep.task import Task
from models.backbones.checkpoint_files import BackboneFiles
from models.candidate import Candidate
from models.training.build_learner import new_learner
from models.training.devices import find_device, make_repeatable
from models.training.learner import Learner

TOKEN_IDS = "token_ids"
"""Name of the tensor, beside the weights, with the token ids whose embeddings they hold."""
HEADER_BYTES = 1 << 20
"""Room for the names, shapes and metadata in a file of weights, amply."""


@dataclass(frozen=True)
class FoldWeights:
    """What a fold run predicts with."""

    candidate: Candidate
    """As trained: the retry of a fold run that failed to learn has its own seed and rates."""
    provenance: Provenance
    """Names the candidate by the id that the study gave it."""
    token_ids: NDArray[np.int64] = field(repr=False)
    """Ascending; row i of the embedding is token `token_ids[i]`. Other tokens have the backbone's own vectors."""
    tensors: dict[str, torch.Tensor] = field(repr=False)

    @property
    def n_bytes(self) -> int:
        """Size of the file, at most."""
        return sum(tensor.nbytes for tensor in self.tensors.values()) + self.token_ids.nbytes + HEADER_BYTES


def save_weights(weights: FoldWeights, folder: str | Path) -> None:
    """Write `model.safetensors` into a folder (a path or URI), whole or not at all."""
    tensors = {name: tensor.contiguous() for name, tensor in weights.tensors.items()}
    tensors[TOKEN_IDS] = torch.from_numpy(weights.token_ids)
    metadata = {**weights.provenance.to_metadata(), "settings": weights.candidate.model_dump_json()}
    metadata["checksum"] = _checksum(tensors)
    write_bytes(safetensors.torch.save(tensors, seal(metadata)), join(folder, WEIGHTS_FILE))


def load_weights(folder: str | Path) -> FoldWeights:
    """Read what `save_weights` wrote; what was stored in half precision since is float32 again.

    Raises:
        InputError: there is no such file, it is damaged, or another version wrote settings that this one lacks.
    """
    path = join(folder, WEIGHTS_FILE)
    content = read_bytes(path)
    try:
        tensors, metadata = _open(content)
        token_ids = tensors.pop(TOKEN_IDS).numpy()
        return FoldWeights(
            Candidate.model_validate_json(metadata["settings"]),
            Provenance.from_metadata(metadata),
            token_ids,
            {name: tensor.float() if tensor.dtype == torch.float16 else tensor for name, tensor in tensors.items()},
        )
    except ValidationError as error:
        raise InputError(f"{path}: its settings are not those of this version ({error})") from error
    except (SafetensorError, KeyError, ValueError) as error:
        raise InputError(
            f"{path}: not a whole file of weights ({error}); remove it, then make it again with "
            "`blendfold refit`, or copy the bundle again"
        ) from error


def _open(content: bytes) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return tensors and metadata of a file's content; ValueError if they do not match their checksums."""
    tensors, metadata = safetensors.torch.load(content), parse_header(content).metadata
    if _checksum(tensors) != metadata["checksum"]:
        raise ValueError("content does not match its checksum; the file was altered after it was written")
    return tensors, metadata


def load_scorer(
    weights: FoldWeights,
    task: Task,
    *,
    vocabulary: NDArray[np.int64] | None = None,
    backbone: BackboneFiles,
    device: str = "auto",
    threads: int = 1,
) -> Learner:
    """Return a learner that predicts as the fold run did, bit for bit on the same kind of device.

    It predicts rows encoded as `models.text.row_pool.RowPool` does for `weights.candidate`, by `predict_pool` as the
    mean over orders of siblings. `vocabulary` holds further token ids, of new texts; `backbone` may be a kept one.

    Raises:
        InputError: the backbone cannot be loaded or is another one than in training.
    """
    chosen = find_device(device)
    make_repeatable(weights.candidate.seed, device=chosen, threads=threads)
    ids = weights.token_ids if vocabulary is None else np.union1d(weights.token_ids, vocabulary)
    learner = new_learner(weights.candidate, task, backbone=backbone, vocabulary=ids, device=chosen)
    try:
        learner.adopt(_spread(weights, learner))
    except RuntimeError as error:
        raise InputError(
            f"backbone {weights.candidate.backbone!r} has other weights here than the fold run was trained on ({error})"
        ) from error
    learner.retry.micro_batches = weights.provenance.micro_batches
    return learner


def _spread(weights: FoldWeights, learner: Learner) -> dict[str, torch.Tensor]:
    """Return the weights with the rows of the embedding where the learner has them, under each name it goes by."""
    encoder: Any = learner.scorer.backbone.model
    embedding = encoder.get_input_embeddings()
    named = learner.scorer.named_parameters(remove_duplicate=False)
    names = [name for name, value in named if value is embedding.weight]
    table = embedding.weight.detach().to("cpu", copy=True)
    table[embedding.place.cpu()[torch.from_numpy(weights.token_ids)]] = weights.tensors[names[0]]
    return {**weights.tensors, **dict.fromkeys(names, table)}


def _checksum(tensors: dict[str, torch.Tensor]) -> str:
    """Return the sha256 (hex) of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
