"""The `study.yaml` that a run directory keeps: what may change between two runs, and what may not."""

from data_prep.errors import InputError
from data_prep.store.files import exists, join
from data_prep.store.study_record import STUDY_FILE, read_study_record, write_study_record
from data_prep.store.yaml_documents import check_document
from search.study.study_file import ResolvedStudy

FROZEN_KEYS = ("data_hash", "split_hash", "rung_rows", "score_epochs", "ladder", "sampler", "seed", "space")
"""What may not change between runs over one directory: scores or decisions would no longer compare."""


def keep_study(study: ResolvedStudy, run_dir: str) -> list[str]:
    """Write a study that fits what ran there before as `study.yaml`; return what else has changed, a sentence each.

    Raises:
        InputError: the directory has a study whose results do not compare with this one's; names every such setting.
    """
    path, changes = join(run_dir, STUDY_FILE), []
    if exists(path):
        changed, candidates = _changes(read_resolved(run_dir), study)
        if faults := [changed[key] for key in FROZEN_KEYS if key in changed]:
            raise InputError(
                *(f"{path}: {fault}" for fault in faults),
                "Results of both would mix. Undo the change, or give the study another `name:`.",
            )
        changes = [*changed.values(), *candidates]
    write_study_record(study.model_dump(mode="json"), run_dir)
    return changes


def read_resolved(run_dir: str) -> ResolvedStudy:
    """Read the `study.yaml` of a run directory.

    Raises:
        InputError: this version did not write it; says what to do.
    """
    content = read_study_record(run_dir)
    try:
        return check_document(content, ResolvedStudy, where=join(run_dir, STUDY_FILE))
    except InputError as error:
        raise InputError(
            *error.faults,
            "Another version of blendfold wrote this file, or it was edited. Continue with that version, or give the "
            "study another `name:` to start over; `leaderboard`, `explain` and `blend` read what is finished there",
        ) from error


def _changes(before: ResolvedStudy, now: ResolvedStudy) -> tuple[dict[str, str], list[str]]:
    """Return a sentence for each setting that changed, by its key, and one for each name of a candidate."""
    old, new = before.model_dump(mode="json"), now.model_dump(mode="json")
    changed = [key for key in new if key not in ("candidates", "names") and old[key] != new[key]]
    sentences = {key: f"{key} was {old[key]!r}, is now {new[key]!r}" for key in changed}
    kept = {name for name, candidate in before.names.items() if now.names.get(name) == candidate}
    added = [f"candidate {name} is new" for name in now.names if name not in kept]
    gone = [f"candidate {name} is no longer in the study" for name in before.names if name not in kept]
    return sentences, gone + added
