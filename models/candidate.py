"""`Candidate`: every hyperparameter of one model configuration, with default, unit and check, in one place."""

import hashlib
import json
from typing import Literal, Self

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from data_prep.candidate_label import candidate_label
from data_prep.credentials import mask_credentials
from data_prep.frozen_record import FrozenSettings
from models.part_options import PART_OPTIONS

Precision = Literal["auto", "fp32", "bf16", "fp16"]

PREREQUISITES = {
    "head_width": "head_layers",
    "dropout_samples": "head_dropout",
    "graded_dropout": "dropout_samples",
    "spell_separator": "separator",
}
"""Field -> field that must differ from its default for the first to have an effect."""


class Candidate(FrozenSettings):
    """One full model configuration; frozen, its `id` is a hash of its content.

    A default never changes once released, and the default of a new field means "as before": ids stay valid.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    backbone: str = "minilm-l6"
    """`minilm-l6`, a Hugging Face hub name, or a local folder."""
    layers: int | None = Field(default=None, ge=1)
    """Encoder layers kept, counted from the input; None keeps all."""
    recipe: str = "pair_context"
    """How a row becomes text: a name in `models.part_options.RECIPE_OPTIONS`."""
    context: Literal["full", "class", "code", "stripped"] = "full"
    """What represents a CPC code: section and class title, class title, the code itself, or the full titles without
    the leading letters that a widely copied table had lost."""
    separator: str = "tokenizer"
    """What stands between phrases: the tokenizer's own separator, or a literal such as `[s]`, which becomes a token."""
    spell_separator: bool = False
    """A literal separator is spelled in the tokens that the tokenizer has, instead of becoming one."""
    segment_ids: bool = True
    """Two segments get segment ids, where the backbone has them."""
    sibling_scope: Literal["context", "section"] = "context"
    """Whose phrases join a row's text as siblings: rows of its anchor and context, or of its anchor and CPC section."""
    max_siblings: int | None = Field(default=None, ge=1)
    """Siblings that join a row's text at most; None: as many as fit."""
    shuffle_siblings: bool = True
    """Siblings stand in another order in every epoch; else in the order of the file."""
    own_target: Literal["removed", "kept"] = "removed"
    """Whether a row's own phrase stands among its siblings once more."""
    prediction_shuffles: int = Field(default=1, ge=1)
    """A prediction is the mean over this many orders of the siblings."""
    max_length: int = Field(default=64, ge=8)
    """Tokens of a row at most, special tokens included."""
    truncation: str = "head"
    """What is kept of a row that is longer: a name in `models.part_options.TRUNCATION_OPTIONS`."""
    head_share: float = Field(default=0.5, gt=0, lt=1)
    """Share of the tokens left of a cut phrase that are its first ones."""
    window_overlap: float = Field(default=0.25, ge=0, lt=1)
    """Share of a window's tokens that the window before it has too."""
    max_windows: int = Field(default=8, ge=2)
    """Windows of a row at most; what follows them is not seen."""
    head: str = "mean"
    """How tokens become one vector: a name in `models.part_options.HEAD_OPTIONS`."""
    head_norm: bool = False
    """LayerNorm on the pooled vector."""
    head_layers: int = Field(default=0, ge=0)
    """Hidden layers (linear, SELU) between the pooled vector and the output."""
    head_width: int = Field(default=1024, ge=1)
    """Units of each hidden layer of the head."""
    head_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the pooled vector."""
    dropout_samples: int = Field(default=1, ge=1)
    """Outputs are the mean over this many dropout masks (multi-sample dropout)."""
    graded_dropout: bool = False
    """Sample i of n drops with probability `head_dropout` * i / n, instead of all with the same."""
    separate_heads: bool = False
    """Each number that is predicted for a row has a head of its own, on the same backbone; else they share one."""
    loss: str = "mse"
    """A name in `models.part_options.LOSS_OPTIONS`."""
    loss_delta: float = Field(default=1.0, gt=0)
    """Error, on the scale of the targets, up to which a robust loss is quadratic."""
    label_width: float = Field(default=0.0, ge=0)
    """Standard deviation of soft labels over the target levels, in steps between levels; 0: no softer than needed."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of each label that is spread over all target levels alike."""
    pearson_weight: float = Field(default=0.5, gt=0, lt=1)
    """Share of 1 - r in a loss that mixes it with the squared error."""
    epochs: int = Field(default=1, ge=1)
    """Passes over the training rows."""
    batch_size: int = Field(default=32, ge=1)
    """Rows of one optimizer step."""
    accumulation: int = Field(default=1, ge=1)
    """Parts that a step's rows are computed in, one after the other; more parts need less memory."""
    checkpointing: bool = False
    """Layers are computed again on the way back instead of kept in memory; same numbers, slower."""
    backbone_lr: float = Field(default=1e-4, gt=0)
    """Peak learning rate of the top backbone layer."""
    head_lr: float = Field(default=1e-3, ge=0)
    """Peak learning rate of the head; 0 keeps it at its initial weights."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Each backbone layer learns at this share of the rate of the layer above it; embeddings come last."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's decoupled decay; biases and norms have none."""
    beta2: float = Field(default=0.999, gt=0, lt=1)
    """AdamW's memory of squared gradients."""
    warmup: float = Field(default=0.06, ge=0, lt=1)
    """Share of all steps in which the rates rise linearly from 0."""
    schedule: Literal["linear", "cosine"] = "linear"
    """How the rates fall to 0 after the warm-up."""
    clip_norm: float | None = Field(default=1.0, gt=0)
    """Gradients are scaled down to this global norm; None: never."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Every dropout inside the backbone; None: as the checkpoint's config says."""
    mixout: float = Field(default=0.0, ge=0, lt=1)
    """Probability that a weight of a linear layer is, for one pass, its pretrained (else its initial) value."""
    reinit_layers: int = Field(default=0, ge=0)
    """Top layers, of those kept, that start from fresh weights."""
    adversary: str = "none"
    """A name in `models.part_options.ADVERSARY_OPTIONS`."""
    adversary_start: float = Field(default=1.0, ge=0)
    """Epoch from which the adversary acts, counted from 0."""
    adversary_eps: float = Field(default=1e-2, gt=0)
    """Size of the perturbation: fgm's relative to the norm of the embeddings it perturbs, awp's at most this share of
    each weight."""
    adversary_lr: float = Field(default=1.0, gt=0)
    """Step of the perturbation along the gradient, relative to the norm of each matrix it perturbs."""
    ema: float | None = Field(default=None, gt=0, lt=1)
    """Predictions come from an exponential moving average of the weights with this decay per step; None: from the
    weights themselves."""
    freeze_embeddings: bool = False
    """The embeddings do not learn."""
    freeze_layers: int = Field(default=0, ge=0)
    """Backbone layers, from the input, that do not learn."""
    precision: Precision = "auto"
    """`auto`: bf16 where the device computes faster in it, else fp32 (see `models.training.devices.find_precision`)."""
    keep: Literal["last", "best"] = "last"
    """Which weights predict: those of the last step, or of the rung with the best validation metric (optimistic)."""
    seed: int = Field(default=42, ge=0)
    """Of the head's weights, the order of rows and every dropout."""

    @field_validator("backbone")
    @classmethod
    def _check_backbone(cls, backbone: str) -> str:
        if (masked := mask_credentials(backbone)) != backbone:
            raise ValueError(f"{masked}: a path may not hold credentials, because it is written into files")
        return backbone

    @field_validator(*PART_OPTIONS)
    @classmethod
    def _check_name(cls, name: str, info: ValidationInfo) -> str:
        known = PART_OPTIONS[str(info.field_name)]
        if name not in known:
            raise ValueError(f"unknown {info.field_name} {name!r}; known: {', '.join(known)}")
        return name

    @model_validator(mode="after")
    def _check(self) -> Self:
        if idle := self._idle_options():
            raise ValueError("; ".join(idle))
        if self.truncation == "windows" and (reasons := self._no_windows()):
            raise ValueError(f"truncation=windows does not work with {'; '.join(reasons)}")
        for field in ("freeze_layers", "reinit_layers"):
            if self.layers is not None and getattr(self, field) > self.layers:
                raise ValueError(f"{field}={getattr(self, field)} exceeds the kept layers={self.layers}")
        return self

    def _no_windows(self) -> list[str]:
        """Return which parts cannot score a row from several windows, each with the reason and the others."""
        reasons = []
        for field in ("recipe", "head"):
            choices, chosen = PART_OPTIONS[field], getattr(self, field)
            if reason := choices[chosen].no_windows:
                others = ", ".join(name for name, choice in choices.items() if not choice.no_windows)
                reasons.append(f"{field}={chosen}, which {reason}; use {others}")
        return reasons

    def _idle_options(self) -> list[str]:
        """Return what is set without any effect: it would give one model two ids."""
        set_fields = self.model_dump(exclude_defaults=True)
        idle = []
        for field, choices in PART_OPTIONS.items():
            chosen = choices[getattr(self, field)].settings
            for setting in sorted({setting for choice in choices.values() for setting in choice.settings}):
                if setting in set_fields and setting not in chosen:
                    users = ", ".join(name for name, choice in choices.items() if setting in choice.settings)
                    idle.append(f"{setting} has no effect with {field}={getattr(self, field)!r}; it needs {users}")
        for setting, other in PREREQUISITES.items():
            if setting in set_fields and other not in set_fields:
                idle.append(f"{setting} has no effect while {other} is {getattr(self, other)!r}")
        if self.prediction_shuffles > 1 and not self.shuffle_siblings:
            idle.append("prediction_shuffles has no effect while shuffle_siblings is False")
        return idle

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
        return candidate_label(vars(self))
