"""`load_backbone`: the pretrained encoder that a candidate describes, read from its files."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from data_prep.errors import InputError
from models.backbones.checkpoint_files import BackboneFiles, first_line
from models.backbones.encoder import Encoder, new_encoder
from models.backbones.encoder_layers import check_size, checkpoint_layers, parts_of
from models.backbones.token_embedding import fit_embedding
from models.backbones.trial_pass import check_states, check_weights
from models.candidate import Candidate
from models.text.special_tokens import first_new_id

STRUCTURE_FAULTS = (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What other kinds of model raise."""


@dataclass(frozen=True)
class Backbone:
    """A loaded encoder."""

    model: Encoder
    hidden_size: int
    layers: list[nn.Module]
    """From the input up: the embeddings, then each encoder layer, then each decoder layer where there are any; a layer
    that is applied several times stands here once. Parameters of the model outside of these (such as relative
    position tables) belong to no layer."""

    @property
    def n_states(self) -> int:
        """Hidden states that the model can give."""
        return self.model.n_states


def load_backbone(
    candidate: Candidate, files: BackboneFiles, *, vocabulary: NDArray[np.int64] | None = None
) -> Backbone:
    """Load the candidate's pretrained encoder in fp32, in training mode.

    With a vocabulary of distinct ids, no others have embeddings (see `ChosenEmbedding`); new ids get new rows.

    Raises:
        InputError: the weights do not fit their config, a setting exceeds what the backbone has, or its hidden states
            are not what the head or a batch needs (see `check_states`).
    """
    try:
        return _load(candidate, files, vocabulary)
    except InputError:
        raise
    except STRUCTURE_FAULTS as error:
        raise InputError(
            f"backbone {candidate.backbone!r} is not an encoder whose structure blendfold understands: it needs "
            f"layers, token embeddings, and hidden states from tokens and their mask alone ({type(error).__name__}: "
            f"{first_line(error)}); use another backbone"
        ) from error


def _load(candidate: Candidate, files: BackboneFiles, vocabulary: NDArray[np.int64] | None) -> Backbone:
    model = files.model(files.config(layers=candidate.layers, dropout=candidate.dropout))
    padding_id = files.tokenizer.pad_token_id
    _check_rows(model, files, vocabulary)
    encoder = new_encoder(model, padding_id)
    if not files.kept:  # else its other weights have no values yet
        check_weights(encoder, candidate.backbone)
        check_states(encoder, files.tokenizer, candidate)
    if vocabulary is not None:
        fit_embedding(model, vocabulary, padding_id=padding_id)
    parts = parts_of(model)
    check_size(model, candidate, n_layers=len(parts) - 1)
    for part in (parts[:1] if candidate.freeze_embeddings else []) + parts[1 : 1 + candidate.freeze_layers]:
        part.requires_grad_(False)
    if candidate.checkpointing:
        checkpoint_layers(parts[1:])
    return Backbone(encoder.train(), model.config.hidden_size, parts)


def _check_rows(model: Any, files: BackboneFiles, vocabulary: NDArray[np.int64] | None) -> None:
    """Refuse an embedding without rows for tokens of the tokenizer itself; those it adds count where texts have them.

    Raises:
        InputError: there are such tokens.
    """
    tokenizer, rows = files.tokenizer, model.get_input_embeddings().num_embeddings
    occurring = np.append(np.zeros(0, np.int64) if vocabulary is None else vocabulary, tokenizer.pad_token_id)
    needed = max(tokenizer.vocab_size, 1 + int(occurring[occurring < first_new_id(tokenizer)].max()))
    if needed > rows:
        raise InputError(
            f"backbone {files.name!r}: its {type(tokenizer).__name__} needs {needed} embeddings, its weights have "
            f"{rows}: they are not of one checkpoint; get weights and tokenizer again from the same place"
        )


def load_embedding(files: BackboneFiles) -> torch.Tensor:
    """Return the whole table of input embeddings of a backbone, float32 [tokens, dim]; errors as `load_backbone`."""
    table: torch.Tensor = files.model(files.config(layers=1)).get_input_embeddings().weight
    return table.detach()
