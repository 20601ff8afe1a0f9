"""`BundleManifest`: what a bundle holds and how it predicts, stored as its `manifest.json`."""

from data_prep.frozen_record import FrozenRecord
from data_prep.scoring.combination import Combination
from data_prep.task import Task

BUNDLE_MANIFEST_FILE = "manifest.json"
BUNDLE_FORMAT = 1


class BundledFile(FrozenRecord):
    """Size and checksum of one file."""

    sha256: str
    size: int
    """Bytes."""


class BundledMember(FrozenRecord):
    """A candidate, with the fold runs whose models are in the bundle."""

    candidate: str
    label: str
    backbone: str
    """As the candidate names it; its files are in `weights/backbones/`."""
    folds: tuple[int, ...]
    """Ascending, in the order of the scalings of the combination's part."""


class BundleManifest(FrozenRecord):
    """Everything about a bundle but the bytes of its files.

    Files lie where a run directory has them: `candidates/`, `weights/<candidate>/fold-<k>/`, `weights/backbones/`.
    """

    format: int
    blend: str
    """Name of the blend."""
    version: str
    """Version of blendfold that wrote it."""
    data_hash: str
    split_hash: str
    precision: str
    """`fp32`: weights as trained; `fp16`: half the bytes, which changes predictions by up to a thousandth."""
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
    """Size of all files but this one."""
    files: dict[str, BundledFile]
    """By path inside the bundle."""
