"""The layers of an encoder, from the input up: found in any architecture, counted, computed again on the way back."""

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from data_prep.errors import InputError
from models.candidate import Candidate

POSITION_TABLES = ("position_embeddings", "embed_positions", "positions_embed", "wpe")
"""Ends of the names that absolute positions go by."""


def parts_of(model: Any) -> list[nn.Module]:
    """Return what `Backbone.layers` holds of a bare encoder: its embeddings, then its layers."""
    return [_embeddings(model), *_layers(model)]


def checkpoint_layers(layers: list[nn.Module]) -> None:
    """Let layers be computed again on the way back instead of kept in memory; the numbers are the same."""
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)


def _embeddings(model: Any) -> nn.Module:
    """Return what lies below the first layer: the token embeddings and all else that transformers calls an embedding.

    So ELECTRA's and ALBERT's projection, XLM's norm, GPT-2's and BART's positions, but no relative positions, which
    every layer uses.
    """
    tokens, layers = model.get_input_embeddings(), set(_layers(model))
    parts: Iterator[nn.Module] = model.modules()
    found = [next(part for part in parts if tokens in (inner := set(part.modules())) and not inner & layers)]
    inside = {id(part) for layer in [*found, *_layers(model)] for part in layer.modules()}
    for path, module in model.named_modules():
        if id(module) not in inside and re.match(r"(?!rel).*embed|wpe$|layer_norm_emb$", path.rsplit(".", 1)[-1]):
            found.append(module)
            inside |= {id(part) for part in module.modules()}
    return found[0] if len(found) == 1 else nn.ModuleList(found)


def _layers(model: Any) -> list[nn.Module]:
    """Return the layers from the input up; those of a decoder come last."""
    if hasattr(model, "encoder") and hasattr(model, "decoder"):
        return [*_largest_stack(model.encoder), *_largest_stack(model.decoder)]
    return _largest_stack(model)


def _largest_stack(model: nn.Module) -> list[nn.Module]:
    """Return the modules of the list of modules that holds most of the parameters, lists within it opened."""
    stacks = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return list(_flat(max(stacks, key=lambda stack: sum(value.numel() for value in stack.parameters()))))


def _flat(stack: nn.ModuleList) -> Iterator[nn.Module]:
    for module in stack:
        if isinstance(module, nn.ModuleList):
            yield from _flat(module)
        else:
            yield module


def check_size(model: nn.Module, candidate: Candidate, *, n_layers: int) -> None:
    """Check that an encoder has the layers that a candidate freezes, and positions for its texts.

    Raises:
        InputError: it has not.
    """
    name, frozen, length = candidate.backbone, candidate.freeze_layers, candidate.max_length
    if frozen > n_layers:
        raise InputError(f"freeze_layers={frozen}: backbone {name!r} has only {n_layers} encoder layers here")
    positions = _positions(model)
    if positions is not None and length > positions:
        raise InputError(f"max_length={length}: backbone {name!r} has positions for {positions} tokens only")


def _positions(model: nn.Module) -> int | None:
    """Return the tokens that absolute positions reach; None where there is no table of them."""
    for path, module in model.named_modules():
        if path.endswith(POSITION_TABLES) and isinstance(module, nn.Embedding):
            skipped = 0 if module.padding_idx is None else module.padding_idx + 1
            return min(
                module.num_embeddings - int(getattr(module, "offset", skipped)),
                getattr(model.config, "max_position_embeddings", module.num_embeddings),  # less in a Nystromformer
            )
    return None
