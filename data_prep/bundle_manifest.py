"""`BundleManifest`: what a bundle holds and how it predicts, stored as its `manifest.json`."""

from typing import ClassVar, Self

from pydantic import Field, model_validator

from data_prep.frozen_record import FrozenRecord, GrowingRecord
from data_prep.scoring.combination import Combination
from data_prep.store.candidate_records import candidate_path
from data_prep.store.weight_folders import weights_file
from data_prep.target_views import target_views
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


class BundleManifest(GrowingRecord):
    """Everything about a bundle but the bytes of its files.

    Files lie where a run directory has them: `candidates/`, `weights/<candidate>/fold-<k>/`, `weights/backbones/`.
    """

    later_fields: ClassVar[frozenset[str]] = frozenset({"combinations"})

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
    combination: Combination | None
    """Parts in the order of `members`; None where there are several targets."""
    combinations: dict[str, Combination] = Field(default={})
    """One for each of several targets, by its name; parts are of some of the members."""
    clip: bool
    """Whether predictions beyond the task's range are moved to the nearest legal score."""
    total_bytes: int
    """Size of all files but this one."""
    files: dict[str, BundledFile]
    """By path inside the bundle."""

    @property
    def by_target(self) -> dict[str, Combination]:
        """The combinations by the name of their target; a single one has none."""
        return self.combinations if self.combination is None else {"": self.combination}

    @model_validator(mode="after")
    def _check(self) -> Self:
        candidates = [member.candidate for member in self.members]
        parts = [part for combination in self.by_target.values() for part in combination.parts]
        if len(set(candidates)) < len(candidates) or set(candidates) != {part.candidate for part in parts}:
            raise ValueError("members and parts of the combination must be of the same candidates, each once")
        targets = [view.name for view in target_views(self.task)]
        if sorted(targets) != sorted(self.by_target):
            raise ValueError(f"there must be combinations for targets {targets}, got {list(self.by_target)}")
        for member in self.members:
            if not member.folds or list(member.folds) != sorted(set(member.folds)):
                raise ValueError(f"folds of {member.candidate} must be ascending and at least one, got {member.folds}")
            for scalings in (part.scalings for part in parts if part.candidate == member.candidate):
                if len(scalings) not in (1, len(member.folds)):
                    raise ValueError(
                        f"{member.candidate} has {len(member.folds)} folds, but {len(scalings)} scalings for them"
                    )
            needed = [candidate_path(".", member.candidate)]
            needed += [weights_file(".", member.candidate, fold) for fold in member.folds]
            if missing := [path[2:] for path in needed if path[2:] not in self.files]:
                raise ValueError(f"files has no {', '.join(missing)}, which predicting needs")
        if self.task.cpc_column and not self.texts:
            raise ValueError(f"texts is empty, but the task has CPC codes in column {self.task.cpc_column!r}")
        return self
