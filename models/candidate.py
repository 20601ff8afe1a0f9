"""`Candidate`: every hyperparameter of one model configuration, with default, unit and check, in one place."""

import hashlib
import json
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.heads import HEADS
from models.losses import LOSSES
from models.recipes import RECIPES

Precision = Literal["auto", "fp32", "bf16", "fp16"]


class Candidate(BaseModel):
    """One full model configuration; frozen, its `id` is a hash of its content.

    A default never changes once released, and the default of a new field means "as before": ids stay valid.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    backbone: str = "minilm-l6"
    """`minilm-l6`, a Hugging Face hub name, or a local folder."""
    layers: int | None = Field(default=None, ge=1)
    """Encoder layers kept, counted from the input; None keeps all."""
    recipe: str = "pair_context"
    """How a row becomes text: a name in `models.recipes.RECIPES`."""
    max_length: int = Field(default=64, ge=8)
    """Tokens of a row at most, special tokens included."""
    head: str = "mean"
    """A name in `models.heads.HEADS`."""
    loss: str = "mse"
    """A name in `models.losses.LOSSES`."""
    epochs: int = Field(default=1, ge=1)
    batch_size: int = Field(default=32, ge=1)
    """Rows of one optimiser step."""
    backbone_lr: float = Field(default=1e-4, gt=0)
    """Peak learning rate of the top backbone layer."""
    head_lr: float = Field(default=1e-3, gt=0)
    """Peak learning rate of the head."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Each backbone layer learns at this share of the rate of the layer above it; embeddings come last."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's decoupled decay; biases and norms have none."""
    warmup: float = Field(default=0.06, ge=0, lt=1)
    """Share of all steps in which the rates rise linearly from 0."""
    schedule: Literal["linear", "cosine"] = "linear"
    """How the rates fall to 0 after the warm-up."""
    clip_norm: float | None = Field(default=1.0, gt=0)
    """Gradients are scaled down to this global norm; None: never."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Every dropout inside the backbone; None: as the checkpoint's config says."""
    head_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the pooled vector."""
    freeze_embeddings: bool = False
    freeze_layers: int = Field(default=0, ge=0)
    """Backbone layers, from the input, that do not learn."""
    precision: Precision = "auto"
    """`auto`: bf16 where the device computes in it, else fp32."""
    keep: Literal["last", "best"] = "last"
    """Which weights predict: those of the last step, or of the rung with the best validation metric (optimistic)."""
    seed: int = Field(default=42, ge=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for field, registry in (("recipe", RECIPES), ("head", HEADS), ("loss", LOSSES)):
            name = getattr(self, field)
            if name not in registry:
                raise ValueError(f"unknown {field} {name!r}; known: {', '.join(registry)}")
        if self.layers is not None and self.freeze_layers > self.layers:
            raise ValueError(f"freeze_layers={self.freeze_layers} exceeds the kept layers={self.layers}")
        return self

    @property
    def id(self) -> str:
        """First 12 hex digits of the sha256 of the canonical content: settings that differ from their defaults."""
        content = json.dumps(self.model_dump(mode="json", exclude_defaults=True), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    @property
    def family(self) -> str:
        """Candidates of one family share a backbone."""
        return self.backbone

    @property
    def label(self) -> str:
        """A short name a person recognises: backbone, kept layers, recipe, head, loss."""
        backbone = self.backbone.rstrip("/").rsplit("/", 1)[-1]
        depth = f"-k{self.layers}" if self.layers else ""
        return f"{backbone}{depth}-{self.recipe}-{self.head}-{self.loss}"
