"""`LedgerEntry`: one submission in the ledger, made from its file and the manifest beside it."""

import hashlib
import json
from dataclasses import dataclass
from math import isfinite

from pydantic import BaseModel, ConfigDict

from data_prep.errors import InputError
from data_prep.prepare.folds import SCHEMES
from data_prep.scoring.metrics import METRICS
from data_prep.store.files import exists, join, read_bytes
from data_prep.store.yaml_documents import check_document

UNKNOWN = "unknown"
"""The scheme of a submission of which nobody knows how its folds were made."""
KNOWN_SCHEMES = (*SCHEMES, UNKNOWN)
SUBMISSION_FILE = "submission.csv"


@dataclass(frozen=True)
class LedgerEntry:
    """One row of the ledger; its fields are the ledger's columns, in their order. Empty or None: not known."""

    submission: str
    """Path or name of the file that was handed in."""
    sha256: str = ""
    """Of its bytes, hex."""
    blend: str = ""
    study: str = ""
    """Names of the runs, with + between them."""
    members: str = ""
    """candidate:weight, with spaces between them."""
    method: str = ""
    scheme: str = UNKNOWN
    """How folds were made: one of `KNOWN_SCHEMES`."""
    n_folds: int | None = None
    split_hash: str = ""
    """Tells splits of one scheme apart."""
    metric: str = "pearson"
    cv: float | None = None
    """Mean over folds, weights scored on the rows they were fitted on."""
    nested: float | None = None
    """The same, weights fitted without the fold they are scored on."""
    expected: float | None = None
    """What was expected on the test beforehand."""
    public: float | None = None
    private: float | None = None
    """Leaderboard scores."""
    note: str = ""

    @property
    def title(self) -> str:
        """What to call it: the blend's name where it has one."""
        return self.blend or self.submission

    @property
    def split(self) -> str:
        """Scheme and split hash as one name: CVs of one split were taken on the same folds."""
        return f"{self.scheme} {self.split_hash}".strip()


class _SubmissionFacts(BaseModel):
    """What the ledger takes from the manifest of a submission; it may hold more."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    sha256: str
    blend: str = ""
    study: tuple[str, ...] = ()
    members: dict[str, float] = {}
    method: str = ""
    metric: str
    scheme: str | None = None
    n_folds: int | None = None
    split_hash: str | None = None
    cv: float
    nested: float | None = None
    expected: float | None = None


def find_submission(submission: str) -> tuple[str, str]:
    """Return the path of a submission, given as a CSV file or the folder of a blend, and its sha256.

    Raises:
        InputError: no such file.
    """
    path = submission if submission.endswith(".csv") else join(submission, SUBMISSION_FILE)
    return path, hashlib.sha256(read_bytes(path)).hexdigest()


def entry_of(
    path: str,
    sha256: str,
    *,
    cv: float | None = None,
    scheme: str | None = None,
    metric: str | None = None,
) -> LedgerEntry:
    """Describe a submission by its manifest or, where it has none, by what the user says.

    Args:
        path: the CSV file; its manifest has the same name but for `.json`.
        sha256: of its bytes.
        cv: its cross-validated score; only where there is no manifest.
        scheme: how its folds were made; likewise.
        metric: likewise; None: pearson.

    Raises:
        InputError: no manifest and no cv; a manifest and cv, scheme or metric; the file is not the one that
            the manifest tells of.
    """
    manifest_path = path.removesuffix(".csv") + ".json"
    given = {"--cv": cv, "--scheme": scheme, "--metric": metric}
    if not exists(manifest_path):
        return _foreign(path, sha256, cv=cv, scheme=scheme, metric=metric, manifest_path=manifest_path)
    if named := [option for option, value in given.items() if value is not None]:
        raise InputError(f"{manifest_path} already holds what {', '.join(named)} would say; leave that out")
    manifest = _read_manifest(manifest_path)
    if manifest.sha256 != sha256:
        raise InputError(
            f"{path}: is not the file that {manifest_path} tells of (sha256 {sha256[:12]}, expected "
            f"{manifest.sha256[:12]}): it was changed after it was written. Make it again with `python -m blend fit`, "
            "or copy it to a folder of its own and add it there with --cv and --scheme"
        )
    return LedgerEntry(
        submission=path,
        sha256=sha256,
        blend=manifest.blend,
        study="+".join(manifest.study),
        members=" ".join(f"{name}:{weight:.6g}" for name, weight in manifest.members.items()),
        method=manifest.method,
        scheme=manifest.scheme if manifest.scheme in KNOWN_SCHEMES else UNKNOWN,
        n_folds=manifest.n_folds,
        split_hash=manifest.split_hash or "",
        metric=manifest.metric,
        cv=manifest.cv,
        nested=manifest.nested,
        expected=manifest.expected,
    )


def _read_manifest(path: str) -> _SubmissionFacts:
    try:
        content = json.loads(read_bytes(path))
    except ValueError as error:
        raise InputError(f"{path}: not a JSON file ({error}); make the submission again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: must hold the manifest of a submission, found {type(content).__name__}")
    return check_document(content, _SubmissionFacts, where=path)


def _foreign(
    path: str, sha256: str, *, cv: float | None, scheme: str | None, metric: str | None, manifest_path: str
) -> LedgerEntry:
    if cv is None:
        raise InputError(
            f"{path}: has no manifest ({manifest_path}), so it was not made by `python -m blend fit`; "
            f"say what its CV was with --cv, and how its folds were made with --scheme ({', '.join(KNOWN_SCHEMES)})"
        )
    return LedgerEntry(submission=path, sha256=sha256, cv=cv, scheme=scheme or UNKNOWN, metric=metric or "pearson")


def score_fault(score: float, metric: str) -> str | None:
    """Return the rule that a score of `metric` breaks, if it breaks one."""
    if not isfinite(score):
        return "a score must be a finite number"
    if metric in METRICS and METRICS[metric].is_correlation and abs(score) > 1.0:
        return f"a {metric} score lies in [-1, 1]; write .8504, not 85.04"
    if metric == "rmse" and score < 0.0:
        return "an rmse is never negative"
    return None
