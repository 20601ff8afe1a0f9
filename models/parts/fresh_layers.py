"""`reinitialize_layers`: the top layers of a backbone start from fresh weights."""

from data_prep.errors import InputError
from models.backbones.load_backbone import Backbone


def reinitialize_layers(backbone: Backbone, n_layers: int) -> None:
    """Give the top layers fresh weights, as the family initializes them, from torch's random stream.

    Fresh top layers help where the task needs little of what pretraining left there (Zhang et al., 2021, few-sample
    fine-tuning). Of an encoder-decoder the top layers are the decoder's.

    Raises:
        InputError: there are fewer layers, one of them is frozen, or all layers share their weights.
    """
    available = len(backbone.layers) - 1
    if n_layers > available:
        raise InputError(f"reinit_layers={n_layers}: the backbone has only {available} layers of its own weights here")
    if n_layers and backbone.n_states - 1 > available:
        raise InputError(
            f"reinit_layers={n_layers}: the backbone applies one layer {backbone.n_states - 1} times, "
            "so nothing pretrained would be left of it; use reinit_layers 0"
        )
    for layer in backbone.layers[available + 1 - n_layers :]:
        if not all(parameter.requires_grad for parameter in layer.parameters()):
            raise InputError(f"reinit_layers={n_layers}: reaches down to layers that freeze_layers keeps from learning")
        for parameter in layer.parameters():
            parameter._is_hf_initialized = False  # type: ignore[attr-defined]
        layer.apply(backbone.model.model._init_weights)  # type: ignore[arg-type]
