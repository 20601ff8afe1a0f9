"""A backbone, a learner and a fold run from a checkpoint's name and a few settings, as tests want them."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from data_prep.prepared import Prepared
from data_prep.task import PPPM, Task
from models.backbones.load_backbone import Backbone, load_backbone
from models.backbones.locate_backbone import locate_backbone
from models.candidate import Candidate
from models.training.build_learner import new_learner
from models.training.fold_options import FoldOptions
from models.training.fold_predictions import FoldPredictions
from models.training.learner import Learner
from models.training.rung_reports import Report, never_stop
from models.training.train_fold import train_fold


@dataclass(frozen=True)
class LoadedBackbone(Backbone):
    tokenizer: Any


def load(name: str, *, folder: str | None = None, vocabulary: Any = None, **settings: Any) -> LoadedBackbone:
    """Load the backbone of a candidate with some settings."""
    files = locate_backbone(name, folder)
    loaded = load_backbone(Candidate(backbone=name, **settings), files, vocabulary=vocabulary)
    return LoadedBackbone(**vars(loaded), tokenizer=files.tokenizer)


def learner_of(candidate: Candidate, n_tokens: int = 40, *, folder: str | None = None, task: Task = PPPM) -> Learner:
    """Build the learner of a candidate on the CPU, for texts with the first token ids."""
    backbone = locate_backbone(candidate.backbone, folder)
    vocabulary = np.arange(n_tokens)
    return new_learner(candidate, task, backbone=backbone, vocabulary=vocabulary, device=torch.device("cpu"))


def train(
    candidate: Candidate,
    data: Prepared,
    fold: int,
    *,
    folder: str | None = None,
    report: Report = never_stop,
    checkpoint: Any = None,
    warn: Any = warnings.warn,
    **options: Any,
) -> FoldPredictions | None:
    """Do a fold run with some options."""
    return train_fold(
        candidate,
        data,
        fold,
        FoldOptions(**options),
        backbone=locate_backbone(candidate.backbone, folder),
        report=report,
        checkpoint=checkpoint,
        warn=warn,
    )
