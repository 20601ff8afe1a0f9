"""`LedgerEntry`: one submission in the ledger, built from its file and the manifest beside it."""

import hashlib
from dataclasses import dataclass
from math import isfinite

from pydantic import BaseModel, ConfigDict

from data_prep.errors import InputError
from data_prep.prepare.folds import SCHEMES
from data_prep.scoring.metrics import METRICS
from data_prep.store.files import exists, join, read_bytes
from data_prep.store.sealed_records import read_record
from data_prep.store.yaml_documents import check_document

UNKNOWN = "unknown"
"""The scheme of a submission whose folds were made in an unknown way."""
KNOWN_SCHEMES = (*SCHEMES, UNKNOWN)
SUBMISSION_FILE = "submission.csv"


@dataclass(frozen=True)
class LedgerEntry:
    """One row of the ledger; its fields are the ledger's columns, in their order. Empty or None: unknown."""

    submission: str
    """Path or name of the submitted file."""
    sha256: str = ""
    """Of its bytes, hex."""
    blend: str = ""
    study: str = ""
    """Names of the runs, joined with +."""
    members: str = ""
    """candidate:weight pairs, joined with spaces."""
    method: str = ""
    scheme: str = UNKNOWN
    """How folds were made: one of `KNOWN_SCHEMES`."""
    n_folds: int | None = None
    split_hash: str = ""
    """Distinguishes splits of one scheme."""
    metric: str = "pearson"
    cv: float | None = None
    """Mean over folds, on the rows that the weights were fitted on."""
    nested: float | None = None
    """The same, on rows that the weights were not fitted on."""
    expected: float | None = None
    """The metric that was expected on the test rows."""
    public: float | None = None
    private: float | None = None
    """Leaderboard scores."""
    note: str = ""

    @property
    def title(self) -> str:
        """The name to show: the blend's, if it has one."""
        return self.blend or self.submission

    @property
    def split(self) -> str:
        """Scheme and split hash as one name; CVs of one split were measured on the same folds."""
        return f"{self.scheme} {self.split_hash}".strip()


class _SubmissionFacts(BaseModel):
    """The fields that the ledger reads from the manifest of a submission; others are ignored."""

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
    """Return path and sha256 of a submission, given as CSV or its blend's folder; InputError if there is none."""
    path = submission if submission.endswith(".csv") else join(submission, SUBMISSION_FILE)
    if not exists(path) and exists(join(submission, "blend.json")):
        raise InputError(
            f"{submission}: holds a blend without test predictions, so there is no submission; import its members with "
            "--test, or blend others"
        )
    return path, hashlib.sha256(read_bytes(path)).hexdigest()


def entry_of(
    path: str,
    sha256: str,
    *,
    cv: float | None = None,
    scheme: str | None = None,
    metric: str | None = None,
) -> LedgerEntry:
    """Describe a submission by its manifest (the same name with `.json`) or else by the options of the command line.

    Raises:
        InputError: no manifest and no cv; a manifest and cv, scheme or metric; the manifest describes another file.
    """
    manifest_path = path.removesuffix(".csv") + ".json"
    given = {"--cv": cv, "--scheme": scheme, "--metric": metric}
    if not exists(manifest_path):
        if cv is None:
            raise InputError(
                f"{path}: has no manifest ({manifest_path}), so `blendfold blend` did not make it; "
                f"give its CV with --cv, and how its folds were made with --scheme ({', '.join(KNOWN_SCHEMES)})"
            )
        return LedgerEntry(submission=path, sha256=sha256, cv=cv, scheme=scheme or UNKNOWN, metric=metric or "pearson")
    if named := [option for option, value in given.items() if value is not None]:
        raise InputError(f"{manifest_path} already has what {', '.join(named)} would give; leave that out")
    manifest = _read_manifest(manifest_path)
    if manifest.sha256 != sha256:
        raise InputError(
            f"{path}: is not the file that {manifest_path} describes (sha256 {sha256[:12]}, expected "
            f"{manifest.sha256[:12]}): it was changed after it was written. Make it again with `blendfold blend`, "
            "or copy it to a separate folder and add it from there with --cv and --scheme"
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
    content = read_record(path, dict, remedy="make the submission again")
    return check_document(content, _SubmissionFacts, where=path)


def score_fault(score: float, metric: str) -> str | None:
    """Return the rule that a score of `metric` breaks, if it breaks one."""
    if not isfinite(score):
        return "a score must be a finite number"
    if metric in METRICS and METRICS[metric].is_correlation and abs(score) > 1.0:
        return f"a {metric} score lies in [-1, 1]; write .8504, not 85.04"
    if metric == "rmse" and score < 0.0:
        return "an rmse is never negative"
    return None
