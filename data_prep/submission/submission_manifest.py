"""`SubmissionManifest`: what a `submission.csv` is, kept beside it as `submission.json`."""

import hashlib

from pydantic import BaseModel, ConfigDict

from data_prep.errors import InputError
from data_prep.store.files import exists, join, read_bytes, write_bytes
from data_prep.store.sealed_records import read_record, write_record

SUBMISSION_FILE = "submission.csv"
MANIFEST_FILE = "submission.json"
REMEDY = "make the submission again with `blendfold blend ... --force`"


class SubmissionManifest(BaseModel):
    """Identity and evidence of one submission."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    file: str = SUBMISSION_FILE
    sha256: str
    """Of the file's bytes."""
    rows: int
    """Predictions in the file, without the header."""
    clipped: int
    """Predictions that were moved to the nearest legal score."""
    blend: str
    """Name of the blend."""
    method: str
    metric: str
    members: dict[str, float]
    """Weight of each candidate, by id."""
    study: tuple[str, ...]
    """Names of the runs that the candidates come from."""
    data_hash: str
    split_hash: str
    scheme: str
    n_folds: int
    cv: float
    """The blend's metric on the rows that its weights were fitted on: mean over folds."""
    nested: float
    """The same on rows that the weights were not fitted on: each fold with weights from the others."""
    expected: float | None = None
    """The metric to expect on the test rows; None where nothing can be said."""
    version: str


def hash_submission(content: bytes) -> str:
    """Return the sha256 (hex) that a manifest keeps of its file."""
    return hashlib.sha256(content).hexdigest()


def write_submission(content: bytes, manifest: SubmissionManifest, folder: str) -> None:
    """Write the CSV from `render_submission`, then its manifest, each whole or not at all.

    After a crash between the two files, `read_submission` finds that they do not belong together.

    Raises:
        ValueError: the manifest is of another content; nothing is written.
    """
    if manifest.sha256 != hash_submission(content):
        raise ValueError(f"the manifest is of {manifest.sha256}, the content has sha256 {hash_submission(content)}")
    write_bytes(content, join(folder, manifest.file))
    write_record(manifest.model_dump(mode="json"), join(folder, MANIFEST_FILE))


def read_submission(folder: str) -> tuple[bytes, SubmissionManifest]:
    """Read both files back.

    Raises:
        InputError: one is missing or damaged, or they do not belong together.
    """
    path = join(folder, MANIFEST_FILE)
    if not exists(path):
        raise InputError(f"{folder}: has no {MANIFEST_FILE}: nothing was written there, or it was cut off; {REMEDY}")
    manifest = read_record(path, SubmissionManifest.model_validate, remedy=REMEDY)
    content = read_bytes(join(folder, manifest.file))
    if manifest.sha256 != (found := hash_submission(content)):
        raise InputError(
            f"{join(folder, manifest.file)}: is not the file that {MANIFEST_FILE} describes (sha256 {found[:12]}, "
            f"expected {manifest.sha256[:12]}): it was changed, or writing was cut off between the two; {REMEDY}"
        )
    return content, manifest
