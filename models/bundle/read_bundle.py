"""`Bundle`: a folder of models that predict together, read and verified."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from data_prep.bundle_manifest import BUNDLE_FORMAT, BUNDLE_MANIFEST_FILE, BundledFile, BundledMember, BundleManifest
from data_prep.cpc import read_texts, section_titles
from data_prep.errors import InputError, InputFaults
from data_prep.store.candidate_records import candidate_path, read_settings
from data_prep.store.files import list_sizes
from data_prep.store.node_cache import fetch_folder
from data_prep.store.object_store import is_uri
from data_prep.store.safetensors_files import read_header
from data_prep.store.sealed_records import read_record
from data_prep.store.weight_folders import backbone_folder, weights_file, weights_folder
from data_prep.task import Task
from data_prep.wording import command
from models.backbones.checkpoint_files import BackboneFiles
from models.backbones.kept_backbone import kept_backbone
from models.candidate import Candidate
from models.training.fold_weights import TOKEN_IDS, FoldWeights, load_weights

REMEDY = "copy the bundle again, whole, or make it again with `blendfold bundle`"
READ_FOLDERS = ("candidates/", "weights/")
"""Where a bundle may hold no other files: libraries read every tokenizer file that they find."""


@dataclass(frozen=True)
class Bundle:
    """A verified bundle."""

    folder: str
    contents: BundleManifest
    candidates: dict[str, Candidate]
    """By id. A fold run that was retried after it failed to learn was trained with its own seed and rates."""
    texts: dict[str, str]
    """Context text of each CPC code."""
    section_titles: dict[str, str]
    """Title of each CPC section, by letter."""

    @property
    def task(self) -> Task:
        """What the bundle predicts."""
        return self.contents.task

    def weights(self, member: BundledMember, fold: int) -> FoldWeights:
        """Read the weights of one fold run."""
        return load_weights(weights_folder(self.folder, member.candidate, fold))

    def backbone(self, member: BundledMember) -> BackboneFiles:
        """Return the files of a member's backbone that predicting needs."""
        return kept_backbone(backbone_folder(self.folder, member.backbone))

    def n_multiplied(self, member: BundledMember, fold: int) -> int:
        """Return how many weights of a model are multiplied with each token; embeddings are looked up."""
        tensors = read_header(weights_file(self.folder, member.candidate, fold)).tensors
        rows = tensors[TOKEN_IDS].shape[0]
        return sum(held.n_values for held in tensors.values() if held.shape[:1] != (rows,))

    def with_titles(self, path: str | Path) -> "Bundle":
        """Return the same bundle with the CPC titles of a file in Kaggle's format.

        Raises:
            InputError: every fault of the file, or the task has no CPC codes.
        """
        if self.task.cpc_column is None:
            raise InputError(f"--cpc does not apply to task {self.task.name!r}, which has no cpc_column; leave it out")
        faults = InputFaults()
        texts = read_texts(path, faults)
        faults.raise_all()
        return replace(self, texts=texts, section_titles=section_titles(texts))


def open_bundle(folder: str | Path) -> Bundle:
    """Read a bundle and compare every file with its manifest; one at a URI is copied into the node cache first.

    Raises:
        InputError: not a bundle, one of another version, or files that are missing or were altered; names them all.
    """
    folder = fetch_folder(str(folder)) if is_uri(folder) else Path(folder)
    contents = _read_contents(folder)
    faults = [fault for path, file in contents.files.items() for fault in _faults_of(folder / path, file)]
    strange = [path for path in list_sizes(folder) if path.startswith(READ_FOLDERS) and path not in contents.files]
    if faults := [*faults, *(f"{folder / path}: is not a file of this bundle" for path in strange)]:
        raise InputError(*faults, f"{folder}: {REMEDY}")
    candidates = {member.candidate: _read_candidate(folder, member, contents) for member in contents.members}
    return Bundle(str(folder), contents, candidates, contents.texts, contents.section_titles)


def _read_contents(folder: Path) -> BundleManifest:
    path = folder / BUNDLE_MANIFEST_FILE
    if not path.is_file():
        raise InputError(
            f"{folder}: not a bundle, or one that was cut off (no {BUNDLE_MANIFEST_FILE}); make one with "
            f"`{command('blendfold bundle RUN --blend NAME', options={'--out': folder})}`"
        )
    contents = read_record(path, BundleManifest.model_validate, remedy=REMEDY)
    if contents.format != BUNDLE_FORMAT:
        raise InputError(
            f"{path}: a bundle of format {contents.format}, written by blendfold {contents.version}; this one reads "
            f"format {BUNDLE_FORMAT}: use that version, or make the bundle again with this one"
        )
    return contents


def _faults_of(path: Path, file: BundledFile) -> list[str]:
    if not path.is_file():
        return [f"{path}: is missing"]
    if (size := path.stat().st_size) != file.size:
        return [f"{path}: has {size} bytes, the manifest says {file.size}"]
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return [] if digest == file.sha256 else [f"{path}: was altered: its sha256 is not the manifest's"]


def _read_candidate(folder: Path, member: BundledMember, contents: BundleManifest) -> Candidate:
    settings = read_settings(str(folder), member.candidate)
    try:
        return Candidate.model_validate(settings)
    except ValidationError as error:
        raise InputError(
            f"{candidate_path(str(folder), member.candidate)}: settings that this version does not know; "
            f"blendfold {contents.version} wrote them ({error})"
        ) from error
