"""How similar a new submission is to the earlier ones of the same run directories."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_prep.errors import InputError
from data_prep.scoring.combination import Floats
from data_prep.scoring.metrics import pearson, spearman
from data_prep.store.files import exists, join, list_names, read_bytes
from data_prep.submission.submission_manifest import MANIFEST_FILE, SUBMISSION_FILE, read_submission


@dataclass(frozen=True)
class EarlierSubmission:
    """A submission that was written before."""

    name: str
    """Name of its blend."""
    path: str
    ids: tuple[str, ...]
    prediction: Floats
    """[rows]"""


@dataclass(frozen=True)
class SubmissionSimilarity:
    """How similar a new submission is to an earlier one, on the ids that both have."""

    name: str
    path: str
    rows: int
    """Number of ids that both have."""
    pearson: float
    """NaN where either side is constant."""
    spearman: float
    largest_difference: float
    """Largest |new - earlier|, in the unit of the target."""
    largest_id: str
    """The id of that row."""


def read_earlier(
    runs: Sequence[str], ids: Sequence[str], *, leave_out: str | None = None
) -> tuple[list[EarlierSubmission], list[str]]:
    """Read blends' submissions except in the folder `leave_out`; one sentence for each that cannot be compared."""
    found: list[EarlierSubmission] = []
    faults: list[str] = []
    for run in dict.fromkeys(runs):
        for name in list_names(join(run, "blends")):
            folder = join(run, "blends", name)
            if folder == leave_out or not exists(join(folder, SUBMISSION_FILE)):
                continue
            try:
                found.append(_read(name, folder, set(ids)))
            except InputError as error:
                faults.extend(error.faults)
    return found, faults


def compare_with_earlier(
    ids: Sequence[str], prediction: Floats, others: Sequence[EarlierSubmission]
) -> list[SubmissionSimilarity]:
    """Compare `prediction` [rows] of `ids` with each submission of `read_earlier`, the most similar first."""
    place = {name: row for row, name in enumerate(ids)}
    found = [_compare(ids, prediction, place, other) for other in others]
    return sorted(found, key=lambda similarity: (-np.nan_to_num(similarity.pearson, nan=-2.0), similarity.path))


def _compare(
    ids: Sequence[str], prediction: Floats, place: dict[str, int], other: EarlierSubmission
) -> SubmissionSimilarity:
    common = [(place[name], row) for row, name in enumerate(other.ids) if name in place]
    assert common, f"{other.path} shares no id; read_earlier leaves it out"
    ours, theirs = (np.array(rows) for rows in zip(*common, strict=True))
    new, old = np.asarray(prediction)[ours], other.prediction[theirs]
    difference = np.abs(new - old)
    largest = int(np.argmax(difference))
    return SubmissionSimilarity(
        name=other.name,
        path=other.path,
        rows=len(common),
        pearson=pearson(old, new),
        spearman=spearman(old, new),
        largest_difference=float(difference[largest]),
        largest_id=ids[int(ours[largest])],
    )


def _read(name: str, folder: str, known: set[str]) -> EarlierSubmission:
    """Read one submission; if it has a manifest (older versions wrote none), the two must match."""
    path = join(folder, SUBMISSION_FILE)
    has_manifest = exists(join(folder, MANIFEST_FILE))
    content = read_submission(folder)[0] if has_manifest else read_bytes(path)
    try:
        header, *rows = csv.reader(io.StringIO(content.decode(), newline=""))
        matches = [sum(row[column] in known for row in rows) for column in (0, 1)]
        at = int(np.argmax(matches))
        prediction = np.array([float(row[1 - at]) for row in rows])
    except (ValueError, IndexError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a submission, so it is not compared ({error})") from error
    if len(header) != 2 or not matches[at]:
        raise InputError(f"{path}: shares no id with this test; not compared")
    return EarlierSubmission(name, path, tuple(row[at] for row in rows), prediction)
