"""`BundleManifest`: what a bundle holds and how it predicts, as written to its `manifest.json`."""

from pydantic import BaseModel, ConfigDict

from data_prep.scoring.combination import Combination
from data_prep.task import Task

BUNDLE_MANIFEST_FILE = "manifest.json"
BUNDLE_FORMAT = 1


class BundledFile(BaseModel):
    """What a file must be, to the byte."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    size: int
    """Bytes."""


class BundledMember(BaseModel):
    """A candidate with the fold runs whose models predict."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidate: str
    label: str
    backbone: str
    """As the candidate names it; what is needed of it lies in `weights/backbones/`."""
    folds: tuple[int, ...]
    """Ascending, as the scalings of the combination's part are."""


class BundleManifest(BaseModel):
    """A bundle, all but the bytes of its files.

    Files lie as they do in a run directory: `candidates/`, `weights/<candidate>/fold-<k>/`, `weights/backbones/`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    blend: str
    """Name of the blend."""
    version: str
    """Of blendfold that wrote it."""
    data_hash: str
    split_hash: str
    precision: str
    """`fp32`: weights as trained; `fp16`: stored in half the bytes, which changes predictions by up to a thousandth."""
    task: Task
    texts: dict[str, str]
    """Context text of each CPC code; empty where the task has none."""
    section_titles: dict[str, str]
    """Title of each CPC section, by letter."""
    members: tuple[BundledMember, ...]
    combination: Combination
    """Parts in the order of `members`."""
    clip: bool
    """Whether predictions beyond the task's range are moved to the nearest legal score."""
    total_bytes: int
    """Of all files but this one."""
    files: dict[str, BundledFile]
    """By path inside the bundle."""
