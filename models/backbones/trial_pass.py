"""Checks of a loaded backbone: its weights are numbers, its hidden states what a batch and a head rely on."""

from typing import Any

import torch
from torch import Tensor, nn

from data_prep.errors import InputError
from models.backbones.encoder import Encoder
from models.candidate import Candidate
from models.part_options import HEAD_OPTIONS

LENGTHS = (9, 5)
"""Tokens of the two made-up texts; the second is padded beside the first."""
TOLERANCE = 1e-4
"""What padding may change, as a share of the hidden states' size: rounding stays far below, all else is far above."""


def broken_weights(model: nn.Module) -> list[str]:
    """Return the names of parameters that hold NaN or infinite numbers."""
    return [name for name, value in model.named_parameters() if not value.isfinite().all()]


def check_weights(encoder: Encoder, name: str) -> None:
    """Check that an encoder's weights are numbers.

    Raises:
        InputError: they are not; names the first tensors.
    """
    if broken := broken_weights(encoder.model):
        raise InputError(
            f"backbone {name!r}: {len(broken)} of its tensors hold NaN or infinite numbers, such as "
            f"{', '.join(broken[:3])}; copy or download the checkpoint again"
        )


def check_states(encoder: Encoder, tokenizer: Any, candidate: Candidate) -> None:
    """Check that padding changes no hidden state, and that a head on the first token finds the text there.

    Raises:
        InputError: one of the two is not so.
    """
    ids = _made_up_ids(encoder, tokenizer.pad_token_id)
    together, alone = _states(encoder, ids), _states(encoder, ids[1:, : LENGTHS[1]])
    pairs = zip(together, alone, strict=True)
    change = max(float((left[1:, : LENGTHS[1]] - right).norm() / right.norm()) for left, right in pairs)
    if not change <= TOLERANCE:
        raise InputError(
            f"backbone {candidate.backbone!r}: padding changes the hidden states of {type(encoder.model).__name__} by "
            f"{change:.2%}, so a row's prediction would depend on the rows beside it; use another backbone"
        )
    if HEAD_OPTIONS[candidate.head].first_token:
        ids[0, LENGTHS[0] - 1] = ids[0, 0]
        blind = torch.equal(_states(encoder, ids)[-1][0, 0], together[-1][0, 0])
        _check_first_token(candidate, tokenizer, blind=blind)


def _made_up_ids(encoder: Encoder, padding_id: int) -> Tensor:
    """Return token ids from the middle of the vocabulary, [2, tokens], the second text padded."""
    table: Any = encoder.model.get_input_embeddings()  # type: ignore[operator]
    n_rows = table.weight.shape[0]
    chosen = [number for number in range(n_rows // 2, n_rows) if number != padding_id][: LENGTHS[0]]
    ids = torch.tensor([chosen, chosen])
    ids[1, LENGTHS[1] :] = padding_id
    return ids


@torch.no_grad()
def _states(encoder: Encoder, ids: Tensor) -> tuple[Tensor, ...]:
    mask = (torch.arange(ids.shape[1]) < torch.tensor(LENGTHS)[-len(ids) :, None]).long()
    states: tuple[Tensor, ...] = encoder.eval()(ids, mask, n_states=encoder.n_states)
    return states


def _check_first_token(candidate: Candidate, tokenizer: Any, *, blind: bool) -> None:
    """Check that texts begin with a token that belongs to none of their words and is not blind to all others."""
    if blind:
        reason = "sees none of the tokens behind it"
    elif tokenizer("a")["input_ids"][0] not in tokenizer.all_special_ids:
        reason = f"is one of its words: {type(tokenizer).__name__} puts none ahead of it"
    else:
        return
    others = ", ".join(name for name, option in HEAD_OPTIONS.items() if not option.first_token)
    raise InputError(
        f"head={candidate.head}: with backbone {candidate.backbone!r} a text's first token {reason}; use head {others}"
    )
